//! The beginnings of a session: with nothing, with an answer that is already there, or with what another process left.
//!
//! Not here: what happens then; that is the [`machine`](super)'s, whatever the beginning.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Session, State};
use crate::backoff::Seed;
use crate::fault::{Code, Fault};
use crate::plan::{Dial, Plan};

impl Session {
    /// Begins at `now` with one client attached: the first thing to do is to dial.
    pub fn new(plan: impl Into<Arc<Plan>>, seed: u64, now: Duration) -> Self {
        let mut session = Self::idle(plan.into(), seed, now);
        session.dial(now, Dial::Stream { other_endpoint: false });
        session
    }

    /// Begins at `now` with an upstream response already there that turned out to be a stream: nobody said that the
    /// request may be sent again, so nothing is retried and nothing stands in. What mends a broken stream may be
    /// tried once, where the plan has it.
    pub fn adopted(plan: impl Into<Arc<Plan>>, seed: u64, now: Duration) -> Self {
        let mut shared = plan.into();
        let plan = Arc::make_mut(&mut shared);
        plan.retry.attempts = 1;
        plan.fallback = None;
        plan.failover.clear();
        let mut session = Self::idle(shared, seed, now);
        (session.streams, session.tries) = (1, 1);
        let due = now + session.plan.timeouts.first_event;
        session.state = State::Opening { dial: Dial::Stream { other_endpoint: false }, due };
        session
    }

    /// Begins at `now` with one client attached, in the place of a process that read this upstream and is gone. The
    /// client's head was sent long ago, so whatever goes wrong is an end and no refusal.
    ///
    /// `delivered`: content was passed on. Then the ladder is climbed at once, as after a failure with
    /// [`Code::OwnerLost`], which is also the end if no rung helps. Otherwise the client's request is dialled as in a
    /// [`new`](Self::new) session; where the plan sends none again that may have arrived, only its fallback is left,
    /// for the one that is gone may have sent it.
    ///
    /// Budgets and time limits begin anew: who knows how old the session is puts what is left into `plan`.
    pub fn orphaned(plan: impl Into<Arc<Plan>>, seed: u64, now: Duration, delivered: bool) -> Self {
        let mut session = Self::idle(plan.into(), seed, now);
        session.commit_due = None;
        session.delivered = delivered;
        let lost = Fault::new(Code::OwnerLost);
        session.broken_by = Some(Box::new(lost.clone()));
        if delivered {
            session.climb(now, lost);
        } else if session.plan.retry.after_send {
            session.dial(now, Dial::Stream { other_endpoint: false });
        } else {
            session.give_up(now, lost, true);
        }
        session
    }

    fn idle(plan: Arc<Plan>, seed: u64, now: Duration) -> Self {
        Self {
            total_due: now + plan.timeouts.total,
            commit_due: Some(now + plan.commit_after),
            plan,
            seed: Seed::new(seed),
            state: State::Ended,
            actions: VecDeque::new(),
            detach_due: None,
            streams: 0,
            tries: 0,
            moves: 0,
            mends: 0,
            fallback_spent: false,
            rung: 0,
            delivered: false,
            broken_by: None,
        }
    }
}
