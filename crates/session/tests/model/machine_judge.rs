//! The judge of the session machine: reads a trace of what the machine was told and what it did, and names the
//! first promise that is broken.
//!
//! It keeps its own book of deadlines and budgets, from the plan and the inputs alone, and knows nothing of the
//! machine's states. A trace is plain data, so that the tests can also break one on purpose.

use std::time::Duration;

use streamkeeper_session::{Action, Code, Detach, Dial, End, Input, Plan, Rung};

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The machine was told this.
    Told(Input),
    /// The machine was told that time has passed.
    Timer,
    /// The machine asked for this.
    Did(Action),
    /// What the machine said about its next deadline, after everything was done.
    Due(Option<Duration>),
}

/// A trace: each line with its time.
pub(crate) type Trace = Vec<(Duration, Line)>;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// More dials of one kind than the plan allows, or one that it does not have.
    OverBudget,
    /// A dial that would show the client a second beginning.
    DialAfterContent,
    /// A second request while the first is still open.
    TwoOpen,
    /// A second head, a head after a refusal, or an end without a head.
    WrongCommit,
    /// Something after the end, or a second end.
    AfterTheEnd,
    /// It ended well although nobody said so, or with another fault than the one that broke it.
    WrongEnd,
    /// A timer acted although nothing was due.
    TooEarly,
    /// The next deadline is later than something that is due before.
    TooLate,
    /// A timer rang and nothing came of it.
    Spinning,
    /// The trace stops although the session goes on.
    NeverEnds,
}

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With nothing but a request.
    New,
    /// With an upstream answer already there.
    Adopted,
    /// In the place of another process.
    Orphaned {
        /// That one had passed on content.
        delivered: bool,
    },
}

/// What is open at the upstream, and since when it is silent.
#[derive(Clone, Copy, Debug)]
struct Open {
    dial: Dial,
    due: Duration,
    late: Code,
}

/// The judge's book.
#[derive(Debug)]
struct Book<'a> {
    plan: &'a Plan,
    total: Duration,
    commit: Duration,
    detach: Option<Duration>,
    open: Option<Open>,
    /// The latest moment of the next dial, while one is owed.
    owed: Option<Duration>,
    /// At the upstream in use.
    streams: u32,
    /// Further upstreams turned to.
    moves: usize,
    mends: u32,
    fallbacks: u32,
    content: bool,
    committed: bool,
    ended: bool,
    /// What the end has to say, given what the machine was told last.
    reasons: Vec<Code>,
    broken_by: Option<Code>,
    may_complete: bool,
    due: Option<Duration>,
    /// A timer that was due has rung, and nothing was done yet.
    rung: bool,
}

/// Reads `trace` of a session that began at zero under `plan`.
pub(crate) fn judge(plan: &Plan, beginning: Beginning, trace: &Trace) -> Result<(), Violation> {
    let mut book = Book::new(plan, beginning);
    for (now, line) in trace {
        match line {
            Line::Told(input) => book.told(*now, input),
            Line::Timer => book.timer(*now),
            Line::Did(action) => book.did(*now, action)?,
            Line::Due(due) => book.deadline(*now, *due)?,
        }
    }
    if book.ended { Ok(()) } else { Err(Violation::NeverEnds) }
}

impl<'a> Book<'a> {
    fn new(plan: &'a Plan, beginning: Beginning) -> Self {
        let dial = Dial::Stream { other_endpoint: false };
        let opening = Open { dial, due: plan.timeouts.first_event, late: Code::FirstEventTimeout };
        let adopted = beginning == Beginning::Adopted;
        let delivered = beginning == Beginning::Orphaned { delivered: true };
        let orphaned = matches!(beginning, Beginning::Orphaned { .. });
        // The request of an orphan had arrived. Where such a one is not sent again, it was sent often enough.
        let spent = adopted || (orphaned && !plan.retry.after_send);
        let lost = orphaned.then_some(Code::OwnerLost);
        Self {
            plan,
            total: plan.timeouts.total,
            commit: plan.commit_after,
            detach: None,
            owed: (!adopted).then_some(Duration::ZERO),
            streams: if spent { plan.retry.attempts } else { 0 },
            open: adopted.then_some(opening),
            moves: 0,
            mends: 0,
            fallbacks: 0,
            content: delivered,
            committed: orphaned,
            ended: false,
            reasons: lost.into_iter().filter(|_| delivered || spent).collect(),
            broken_by: lost,
            may_complete: false,
            due: None,
            rung: false,
        }
    }

    fn told(&mut self, now: Duration, input: &Input) {
        self.reasons.clear();
        self.may_complete = false;
        match input {
            Input::Readers(0) => self.left(now),
            Input::Readers(_) => self.detach = None,
            Input::Stop(fault) => self.reasons.push(fault.code),
            _ => {}
        }
        // The rest is about a request that is open; without one it is an echo of the past.
        let Some(open) = &mut self.open else { return };
        let timeouts = &self.plan.timeouts;
        match input {
            Input::Head if open.late == Code::HeadTimeout && open.dial != Dial::Fallback => {
                (open.due, open.late) = (now + timeouts.first_event, Code::FirstEventTimeout);
            }
            Input::Events { content: false } if self.plan.idle_on_content && open.late == Code::IdleTimeout => {}
            Input::Events { content } => {
                (open.due, open.late) = (now + timeouts.idle, Code::IdleTimeout);
                self.content |= content;
            }
            Input::PutOff if open.late == Code::IdleTimeout => open.due = now + timeouts.idle,
            Input::Impossible if open.late == Code::HeadTimeout => self.never_sent(now),
            Input::Denied(fault) if open.late == Code::HeadTimeout && !self.ended => {
                match open.dial {
                    Dial::Stream { .. } => self.streams -= 1,
                    Dial::Resume | Dial::Continuation => self.mends -= 1,
                    Dial::Fallback => self.fallbacks -= 1,
                }
                self.reasons.push(*self.broken_by.get_or_insert(fault.code));
            }
            Input::Done => self.may_complete = true,
            Input::Failed { fault, .. } => {
                let code = fault.code;
                self.broke(code);
            }
            _ => {}
        }
    }

    /// What was dialled last does not exist: it was not sent, and costs nothing.
    fn never_sent(&mut self, now: Duration) {
        match self.open.take().map(|open| open.dial) {
            Some(Dial::Resume | Dial::Continuation) => self.mends -= 1,
            Some(Dial::Fallback) => self.fallbacks -= 1,
            Some(Dial::Stream { .. }) | None => {}
        }
        self.owed = Some(now + self.plan.retry.max);
        self.reasons.push(self.broken_by.unwrap_or(Code::Internal));
    }

    /// Nobody is attached any more.
    fn left(&mut self, now: Duration) {
        let can_return = self.committed || self.plan.known_before_head;
        match self.plan.detach {
            Detach::Continue => {}
            Detach::Grace(grace) if can_return => {
                self.detach.get_or_insert(now + grace);
            }
            Detach::Cancel | Detach::Grace(_) => {
                self.detach = Some(now);
                self.reasons.push(Code::SessionGap);
            }
        }
    }

    fn timer(&mut self, now: Duration) {
        self.reasons.clear();
        self.may_complete = false;
        self.rung = self.due.is_some_and(|due| now >= due);
        if now >= self.total {
            self.reasons.push(Code::TotalTimeout);
        } else if self.detach.is_some_and(|due| now >= due) {
            self.reasons.push(Code::SessionGap);
        } else if let Some(open) = self.open.filter(|open| now >= open.due) {
            self.broke(open.late);
        }
    }

    /// The open request is over; a mending try does not change what the client is told.
    fn broke(&mut self, code: Code) {
        if self.open.is_some_and(|open| matches!(open.dial, Dial::Stream { .. })) || self.broken_by.is_none() {
            self.broken_by = Some(code);
        }
        self.reasons.extend(self.broken_by);
    }

    fn did(&mut self, now: Duration, action: &Action) -> Result<(), Violation> {
        if self.ended {
            return Err(Violation::AfterTheEnd);
        }
        self.rung = false;
        match action {
            Action::Dial(dial) => self.dialled(now, *dial),
            Action::HangUp => self.hung_up(now),
            Action::Elsewhere => {
                (self.moves, self.streams) = (self.moves + 1, 0);
                check(self.open.is_none(), Violation::TwoOpen)?;
                check(!self.content, Violation::DialAfterContent)?;
                check(self.moves <= self.plan.failover.len(), Violation::OverBudget)
            }
            Action::Commit => {
                let early = now < self.commit && !self.content && !self.may_complete;
                let first = !std::mem::replace(&mut self.committed, true);
                check(first, Violation::WrongCommit)?;
                check(!early, Violation::TooEarly)
            }
            Action::Refuse(fault) => {
                self.ended = true;
                check(!self.committed, Violation::WrongCommit)?;
                check(self.reasons.contains(&fault.code), Violation::WrongEnd)
            }
            Action::Finish(end) => {
                self.ended = true;
                check(self.committed, Violation::WrongCommit)?;
                let right = match end {
                    End::Completed => self.may_complete,
                    End::Failed(fault) => self.reasons.contains(&fault.code),
                };
                check(right, Violation::WrongEnd)
            }
        }
    }

    fn dialled(&mut self, now: Duration, dial: Dial) -> Result<(), Violation> {
        check(self.open.is_none(), Violation::TwoOpen)?;
        let plan = self.plan;
        let limit = match dial {
            Dial::Stream { .. } => {
                self.streams += 1;
                check(!self.content, Violation::DialAfterContent)?;
                check(self.streams <= plan.retry.attempts, Violation::OverBudget)?;
                plan.timeouts.head
            }
            Dial::Resume | Dial::Continuation => {
                self.mends += 1;
                let rung = if dial == Dial::Resume { Rung::NativeResume } else { Rung::Continuation };
                check(self.content && plan.after_partial.contains(&rung), Violation::DialAfterContent)?;
                check(self.mends <= plan.retry.attempts, Violation::OverBudget)?;
                plan.timeouts.head
            }
            Dial::Fallback => {
                self.fallbacks += 1;
                let allowed = !self.content || plan.after_partial.contains(&Rung::Fallback);
                check(allowed, Violation::DialAfterContent)?;
                check(self.fallbacks <= 1, Violation::OverBudget)?;
                plan.fallback.ok_or(Violation::OverBudget)?
            }
        };
        self.owed = None;
        self.open = Some(Open { dial, due: now + limit, late: Code::HeadTimeout });
        Ok(())
    }

    fn hung_up(&mut self, now: Duration) -> Result<(), Violation> {
        check(!self.reasons.is_empty(), Violation::TooEarly)?;
        if self.open.take().is_some() {
            self.owed = Some(now + self.plan.retry.max);
        }
        Ok(())
    }

    /// The next deadline is exactly the earliest of all that the book knows; while a dial is owed, not after it.
    fn deadline(&mut self, now: Duration, due: Option<Duration>) -> Result<(), Violation> {
        if self.ended {
            return check(due.is_none(), Violation::AfterTheEnd);
        }
        let due = due.ok_or(Violation::NeverEnds)?;
        check(!self.rung || self.due != Some(due), Violation::Spinning)?;
        self.rung = false;
        self.due = Some(due);
        let known =
            [Some(self.total), (!self.committed).then_some(self.commit), self.detach, self.open.map(|open| open.due)];
        let first = known.into_iter().flatten().min().unwrap_or_default();
        check(due <= first, Violation::TooLate)?;
        match self.owed {
            Some(latest) => check(due <= latest, Violation::TooLate),
            None => check(due == first, Violation::TooEarly),
        }?;
        // What was cancelled at once has no deadline to wait for.
        check(self.plan.detach != Detach::Cancel || self.detach.is_none_or(|at| at > now), Violation::TooLate)
    }
}

fn check(holds: bool, violation: Violation) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation) }
}
