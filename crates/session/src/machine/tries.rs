//! What follows a try that came to nothing: the same again, somewhere else, a rung of the ladder, or the end.
//!
//! What may be tried is the [`policy`](crate::policy)'s to say; this part remembers what was.

use std::sync::Arc;
use std::time::Duration;

use super::{Session, State};
use crate::backoff::Backoff;
use crate::fault::{Code, Fault};
use crate::plan::{Action, Dial};
use crate::policy::{Rung, Verdict, fallback_may_help, may_climb, may_fail_over, verdict};

impl Session {
    pub(super) fn failed(&mut self, now: Duration, fault: Fault, sent: bool) {
        let dial = match self.state {
            State::Dialing { dial, .. } | State::Opening { dial, .. } | State::Live { dial, .. } => dial,
            State::Waiting { .. } | State::Ended => return,
        };
        self.actions.push_back(Action::HangUp);
        // A mending try that fails does not change what broke the stream.
        if let Dial::Stream { .. } = dial {
            self.broken_by = Some(Box::new(fault.clone()));
        }
        let broken_by = self.broken_by.as_deref().cloned().unwrap_or(fault);
        if self.delivered {
            self.climb(now, broken_by);
        } else {
            self.try_again(now, dial, broken_by, sent);
        }
    }

    /// Nothing was delivered: another try is invisible to the client.
    fn try_again(&mut self, now: Duration, dial: Dial, fault: Fault, sent: bool) {
        if dial == Dial::Fallback {
            return self.fail(fault);
        }
        let (random, endpoints) = (self.seed.next(), self.endpoints());
        match verdict(&self.plan.retry, &fault, sent, self.tries, endpoints, random) {
            Verdict::Again(wait) => {
                let dial = Dial::Stream { other_endpoint: endpoints > 1 };
                self.state = State::Waiting { until: now + wait, dial };
            }
            Verdict::Next => self.dial(now, Dial::Stream { other_endpoint: true }),
            Verdict::GiveUp => self.give_up(now, fault, sent),
        }
    }

    fn endpoints(&self) -> u32 {
        let further = self.moves.checked_sub(1).and_then(|index| self.plan.failover.get(index));
        further.copied().unwrap_or(self.plan.endpoints)
    }

    /// The tries at this upstream are used up, and nothing was delivered.
    pub(super) fn give_up(&mut self, now: Duration, fault: Fault, sent: bool) {
        if self.moves < self.plan.failover.len() && may_fail_over(&self.plan.retry, &fault, sent) {
            self.moves += 1;
            self.tries = 0;
            self.actions.push_back(Action::Elsewhere);
            self.dial(now, Dial::Stream { other_endpoint: false });
        } else if self.plan.fallback.is_some() && !self.fallback_spent && fallback_may_help(&fault) {
            self.dial(now, Dial::Fallback);
        } else {
            self.fail(fault);
        }
    }

    /// Content was delivered: only the route's ladder may go on. Progress puts it back to its first rung, and the
    /// budget of tries bounds how often.
    pub(super) fn climb(&mut self, now: Duration, fault: Fault) {
        if !may_climb(&fault) {
            return self.fail(fault);
        }
        while let Some(rung) = self.plan.after_partial.get(self.rung).copied() {
            self.rung += 1;
            let dial = match rung {
                Rung::NativeResume => Dial::Resume,
                Rung::Continuation => Dial::Continuation,
                Rung::Fallback if self.plan.fallback.is_some() && !self.fallback_spent => {
                    return self.dial(now, Dial::Fallback);
                }
                Rung::Fallback => continue,
            };
            if self.mends == 0 {
                return self.dial(now, dial);
            }
            if self.mends < self.plan.retry.attempts {
                let backoff = Backoff { base: self.plan.retry.base, max: self.plan.retry.max };
                let until = now + backoff.delay(self.mends - 1, self.seed.next());
                self.state = State::Waiting { until, dial };
                return;
            }
        }
        self.fail(fault);
    }

    /// A rung that is not there costs nothing of the budget; the next one is tried.
    pub(super) fn impossible(&mut self, now: Duration) {
        let State::Dialing { dial, .. } = self.state else { return };
        match dial {
            Dial::Resume | Dial::Continuation => self.mends -= 1,
            Dial::Fallback => {
                self.fallback_spent = false;
                Arc::make_mut(&mut self.plan).fallback = None;
            }
            Dial::Stream { .. } => {}
        }
        let fault = self.broken_by.as_deref().cloned().unwrap_or_else(|| Code::Internal.into());
        if self.delivered { self.climb(now, fault) } else { self.fail(fault) }
    }

    /// A request that was not sent costs nothing. Another try here would be denied just so.
    pub(super) fn denied(&mut self, now: Duration, denied: Fault) {
        let State::Dialing { dial, .. } = self.state else { return };
        self.actions.push_back(Action::HangUp);
        // Before this request nothing but the failure of an earlier one may have reached the upstream; that one was
        // judged when it failed.
        let fault = Fault::clone(self.broken_by.get_or_insert_with(|| Box::new(denied)));
        match dial {
            Dial::Stream { .. } => {
                (self.streams, self.tries) = (self.streams - 1, self.tries - 1);
                self.give_up(now, fault, false);
            }
            Dial::Resume | Dial::Continuation => {
                self.mends -= 1;
                self.fail(fault);
            }
            Dial::Fallback => {
                self.fallback_spent = false;
                self.fail(fault);
            }
        }
    }
}
