//! The life of one streamed answer: names, log, followers. Without sockets, clock, runtime or randomness.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod backoff;
mod breaker;
mod budget;
mod epochs;
mod fault;
mod id;
mod machine;
mod plan;
mod policy;
mod ring;
mod tail;
mod window;

pub use backoff::{Backoff, Seed};
pub use breaker::{Breaker, BreakerPlan, BreakerState, Outcome, Ticket};
pub use budget::RetryBudget;
pub use epochs::{Epochs, Splice, Stand};
pub use fault::{Code, End, ErrorEvent, Fault, Kind, Report, Severity};
pub use id::{
    BadEventId, BadNumber, BadSessionId, EVENT_ID_MAX_LEN, EventId, EventIdPrefix, SESSION_ID_LEN, SessionId,
};
pub use machine::Session;
pub use plan::{Action, Dial, Input, Plan};
pub use policy::{
    Detach, Retry, Rung, Timeouts, Verdict, fallback_may_help, may_climb, may_fail_over, never_arrived, verdict,
};
pub use ring::{Entry, Gap, GapReason, Iter as RingIter, PushError, Record, Ring, RingLimits};
pub use tail::{Follower, Tail};
