//! The life of a session, seen from the upstream's side: when to dial, when to give up, when the client gets its
//! head, when everything ends. Sans-io: inputs and the time come in, actions and deadlines come out.
//!
//! ```text
//!            ┌────────── Again, Next ──────────┐
//!            ▼                                 │
//!  start → Waiting ─ due ─▶ Dialing ─ Head ─▶ Opening ─ Event ─▶ Live ─ Done ─▶ Ended(Completed)
//!                             │ fault            │ fault           │ fault
//!                             ▼                  ▼                 ▼
//!                          nothing delivered: verdict ┄┄┐    delivered: the ladder
//!                             │ GiveUp                  ┊      │ rung: Dial(Resume), (Continuation), (Fallback)
//!                             ▼                         ┊      ▼ none left
//!                    Elsewhere while there is another upstream,
//!                    Dial(Fallback) once, then Refuse (no head sent yet) or Finish(Failed)
//! ```
//!
//! Invariants (`tests/machine_model.rs`): dials of a kind never exceed their budget; once content was delivered
//! only a rung of the ladder dials; exactly one of `Refuse` and `Finish`, and nothing after it; `Commit` at most
//! once and before `Finish`. An orphan, a session that another process began, is committed from the start: it is
//! never refused, and its first step is a rung or the client's request, within the same budgets.

mod begin;
mod tries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Seed;
use crate::fault::{Code, End, Fault};
use crate::plan::{Action, Dial, Input, Plan};
use crate::policy::Detach;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is dialled until then.
    Waiting {
        until: Duration,
        dial: Dial,
    },
    /// Dialled; the head (of a fallback: the whole answer) is due.
    Dialing {
        dial: Dial,
        due: Duration,
    },
    /// The head came; the first event is due.
    Opening {
        dial: Dial,
        due: Duration,
    },
    /// Events come.
    Live {
        dial: Dial,
        due: Duration,
    },
    Ended,
}

/// The state machine. See the module's drawing.
#[derive(Debug)]
pub struct Session {
    plan: Arc<Plan>,
    seed: Seed,
    state: State,
    actions: VecDeque<Action>,
    total_due: Duration,
    commit_due: Option<Duration>,
    detach_due: Option<Duration>,
    streams: u32,
    /// The part of `streams` that went to the upstream in use.
    tries: u32,
    /// Which upstream is in use: how many of `plan.failover` were turned to.
    moves: usize,
    mends: u32,
    fallback_spent: bool,
    rung: usize,
    delivered: bool,
    /// What broke the stream; told in the end if nothing mends it.
    broken_by: Option<Box<Fault>>,
}

impl Session {
    /// Requests sent so far, of every kind.
    pub fn dials(&self) -> u32 {
        self.streams + self.mends + u32::from(self.fallback_spent)
    }

    /// The client's own request was sent so often to the upstream in use.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// What the last try of the client's own request failed with.
    pub fn broken_by(&self) -> Option<&Fault> {
        self.broken_by.as_deref()
    }

    /// Whether the client was promised its head.
    pub fn is_committed(&self) -> bool {
        self.commit_due.is_none()
    }

    /// Whether any part of the answer was passed on.
    pub fn has_delivered(&self) -> bool {
        self.delivered
    }

    /// Whether it is over: no action will follow those not yet polled.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        if self.actions.is_empty() {
            // Hardly ever is there anything to do; a session lives much longer than that.
            self.actions = VecDeque::new();
        }
        Some(action)
    }

    /// Whether [`poll_action`](Self::poll_action) has something.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` once ended.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = match self.state {
            State::Ended => return None,
            State::Waiting { until, .. } => until,
            State::Dialing { due, .. } | State::Opening { due, .. } | State::Live { due, .. } => due,
        };
        let due = due.min(self.total_due);
        let due = self.commit_due.map_or(due, |commit| due.min(commit));
        Some(self.detach_due.map_or(due, |detach| due.min(detach)))
    }

    /// Takes in what happened. At a tie with a deadline, call this first: data beats the timer.
    pub fn handle(&mut self, now: Duration, input: Input) {
        if self.is_ended() {
            return;
        }
        match input {
            Input::Readers(count) => self.readers(now, count),
            Input::Stop(fault) => self.fail(fault),
            // An echo of a try that was hung up on.
            _ if matches!(self.state, State::Waiting { .. }) => {}
            Input::Head => self.head(now),
            Input::Events { content } => self.events(now, content),
            Input::PutOff => self.put_off(now),
            Input::Impossible => self.impossible(now),
            Input::Denied(fault) => self.denied(now, fault),
            Input::Done => {
                self.commit();
                self.end(End::Completed);
            }
            Input::Failed { fault, sent } => self.failed(now, fault, sent),
        }
    }

    /// Takes in that time has passed. Early and late calls are harmless. `Some` is the stage in which it made a try
    /// fail, for whoever counts tries.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Code> {
        if self.is_ended() {
            return None;
        }
        if now >= self.total_due {
            self.fail(Code::TotalTimeout.into());
            return None;
        }
        if self.detach_due.is_some_and(|due| now >= due) {
            self.abandon();
            return None;
        }
        let overdue = match self.state {
            State::Waiting { until, dial } if now >= until => {
                self.dial(now, dial);
                None
            }
            State::Dialing { due, .. } if now >= due => Some(Code::HeadTimeout),
            State::Opening { due, .. } if now >= due => Some(Code::FirstEventTimeout),
            State::Live { due, .. } if now >= due => Some(Code::IdleTimeout),
            _ => None,
        };
        if let Some(stage) = overdue {
            self.failed(now, stage.into(), true);
        }
        if !self.is_ended() && self.commit_due.is_some_and(|due| now >= due) {
            self.commit();
        }
        overdue
    }

    fn dial(&mut self, now: Duration, dial: Dial) {
        let limit = match dial {
            Dial::Stream { .. } => {
                self.streams += 1;
                self.tries += 1;
                self.plan.timeouts.head
            }
            Dial::Resume | Dial::Continuation => {
                self.mends += 1;
                self.plan.timeouts.head
            }
            Dial::Fallback => {
                self.fallback_spent = true;
                self.plan.fallback.unwrap_or(self.plan.timeouts.head)
            }
        };
        self.state = State::Dialing { dial, due: now + limit };
        self.actions.push_back(Action::Dial(dial));
    }

    fn head(&mut self, now: Duration) {
        if let State::Dialing { dial: dial @ (Dial::Stream { .. } | Dial::Resume | Dial::Continuation), .. } =
            self.state
        {
            self.state = State::Opening { dial, due: now + self.plan.timeouts.first_event };
        }
    }

    fn events(&mut self, now: Duration, content: bool) {
        let due = now + self.plan.timeouts.idle;
        match self.state {
            State::Live { .. } if self.plan.idle_on_content && !content => {}
            State::Opening { dial, .. } | State::Live { dial, .. } | State::Dialing { dial, .. } => {
                self.state = State::Live { dial, due };
            }
            State::Waiting { .. } | State::Ended => {}
        }
        if content {
            self.delivered = true;
            self.rung = 0;
            self.commit();
        }
    }

    fn put_off(&mut self, now: Duration) {
        if let State::Live { due, .. } = &mut self.state {
            *due = now + self.plan.timeouts.idle;
        }
    }

    fn commit(&mut self) {
        if self.commit_due.take().is_some() {
            self.actions.push_back(Action::Commit);
        }
    }

    fn readers(&mut self, now: Duration, count: usize) {
        if count > 0 {
            self.detach_due = None;
            return;
        }
        let nobody_can_return = !self.is_committed() && !self.plan.known_before_head;
        match self.plan.detach {
            Detach::Continue => {}
            Detach::Cancel => self.abandon(),
            Detach::Grace(_) if nobody_can_return => self.abandon(),
            Detach::Grace(grace) => self.detach_due = self.detach_due.or(Some(now + grace)),
        }
    }

    fn abandon(&mut self) {
        let message = "Nobody was listening, so the upstream was cancelled; the rest of the answer was not generated.";
        self.fail(Fault::new(Code::SessionGap).message(message));
    }

    fn fail(&mut self, fault: Fault) {
        if self.is_committed() {
            self.end(End::Failed(Box::new(fault)));
        } else {
            self.state = State::Ended;
            self.actions.push_back(Action::HangUp);
            self.actions.push_back(Action::Refuse(fault));
        }
    }

    fn end(&mut self, end: End) {
        self.state = State::Ended;
        // After success the upstream may still have bytes to give; who reads it decides when to let go.
        if end != End::Completed {
            self.actions.push_back(Action::HangUp);
        }
        self.actions.push_back(Action::Finish(end));
    }
}
