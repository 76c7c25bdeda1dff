//! What the [`machine`](crate::machine) is given, what it is told, and what it answers: values only.

use std::time::Duration;

use crate::fault::{End, Fault};
use crate::policy::{Detach, Retry, Rung, Timeouts};

/// What a route allows for one session. Instants are durations since an origin of the caller's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Time limits. `connect` is the dialler's to keep.
    pub timeouts: Timeouts,
    /// The head is sent at the latest this long after the start.
    pub commit_after: Duration,
    /// Tries before the first content.
    pub retry: Retry,
    /// Dial → whole answer of a non-stream request; `None`: no fallback.
    pub fallback: Option<Duration>,
    /// What to try after content was delivered, in order.
    pub after_partial: Vec<Rung>,
    /// What happens when nobody is attached.
    pub detach: Detach,
    /// Endpoints to choose from.
    pub endpoints: u32,
    /// Further upstreams to turn to when the tries at one are used up, by their endpoints. Each has all of `retry`.
    pub failover: Vec<u32>,
    /// A client can come back although it has not seen the head (an Idempotency-Key, say).
    pub known_before_head: bool,
    /// Only content puts off the idle deadline; pings and empty deltas do not.
    pub idle_on_content: bool,
}

/// What kind of request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// The client's own request. `other_endpoint`: not the one used last.
    Stream {
        /// Prefer an endpoint other than the last.
        other_endpoint: bool,
    },
    /// What makes the upstream itself go on after what it has sent.
    Resume,
    /// What makes the model go on with the text it has written.
    Continuation,
    /// The same without streaming.
    Fallback,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The response head of a stream is there and promises one.
    Head,
    /// Events arrived; `content` if any of them is part of the answer.
    Events {
        /// Some event is part of the answer.
        content: bool,
    },
    /// Nothing is read while those who listen catch up: the silence is not the upstream's, and the idle time begins anew.
    PutOff,
    /// There is no such request: what was to be dialled last does not exist for this stream.
    Impossible,
    /// What was to be dialled last was not sent: this upstream takes no further try now. The fault is told if nothing
    /// else was wrong before.
    Denied(Fault),
    /// The answer is whole.
    Done,
    /// The try is over without success.
    Failed {
        /// What went wrong.
        fault: Fault,
        /// The request may have reached the upstream.
        sent: bool,
    },
    /// So many clients are attached now.
    Readers(usize),
    /// End it now with this fault (DELETE, drain).
    Stop(Fault),
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a request to the upstream.
    Dial(Dial),
    /// Close the upstream, whatever it is doing.
    HangUp,
    /// From here on requests go to the next upstream of the plan.
    Elsewhere,
    /// Let the client have its response head.
    Commit,
    /// No head was sent: answer with a status.
    Refuse(Fault),
    /// Append the terminal event if it is a failure, and seal.
    Finish(End),
}
