//! Random plans and schedules for the session machine, and what plays them: a clock, inputs, timers, and the trace.

use std::time::Duration;

use proptest::prelude::*;
use streamkeeper_session::{Code, Detach, Fault, Input, Kind, Plan, Report, Retry, Rung, Session, Timeouts};

use super::machine_judge::{Beginning, Line, Trace};

/// What happens next to a session.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Something is told now, whether it makes sense or not.
    Tell(Input),
    /// Time passes and each timer rings when it is due.
    Wait(u64),
    /// Time passes while nobody looks at timers; then one rings, late.
    Oversleep(u64),
    /// A timer rings although nothing is due.
    RingEarly,
    /// An event comes in the very moment a timer is due.
    EventAtTheDeadline { content: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) plan: Plan,
    pub(crate) beginning: Beginning,
    pub(crate) seed: u64,
    pub(crate) ops: Vec<Op>,
}

fn ms(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn faults() -> impl Strategy<Value = Fault> {
    let reported = any::<bool>().prop_map(|recoverable| Fault::reported(Kind::System, recoverable, Report::default()));
    let plain = (prop::sample::select(Code::ALL), prop::option::weighted(0.3, ms(0..60)))
        .prop_map(|(code, wait)| Fault::new(code).retry_after(wait));
    // Mostly what may be tried again, or every session would be short.
    let passing = prop::sample::select(vec![Code::UpstreamReset, Code::UpstreamUnreachable, Code::UpstreamTruncated]);
    prop_oneof![3 => plain, 1 => reported, 6 => passing.prop_map(Fault::new)]
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Head),
        6 => any::<bool>().prop_map(|content| Input::Events { content }),
        2 => Just(Input::PutOff),
        2 => Just(Input::Impossible),
        1 => faults().prop_map(Input::Denied),
        1 => Just(Input::Done),
        6 => (faults(), any::<bool>()).prop_map(|(fault, sent)| Input::Failed { fault, sent }),
        3 => (0_usize..3).prop_map(Input::Readers),
        1 => faults().prop_map(Input::Stop),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => inputs().prop_map(Op::Tell),
        8 => (0_u64..30).prop_map(Op::Wait),
        1 => (0_u64..80).prop_map(Op::Oversleep),
        1 => Just(Op::RingEarly),
        2 => any::<bool>().prop_map(|content| Op::EventAtTheDeadline { content }),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let timeouts = (ms(1..40), ms(1..40), ms(1..40), ms(1..600)).prop_map(|(head, first_event, idle, total)| {
        Timeouts { connect: Duration::from_millis(1), head, first_event, idle, total }
    });
    let retry = (1_u32..5, ms(0..20), ms(0..40), any::<bool>()).prop_map(|(attempts, base, max, after_send)| Retry {
        attempts,
        base,
        max,
        after_send,
    });
    let rungs =
        prop::collection::vec(prop::sample::select(vec![Rung::NativeResume, Rung::Continuation, Rung::Fallback]), 0..4);
    let detach =
        prop_oneof![1 => Just(Detach::Cancel), 1 => Just(Detach::Continue), 3 => ms(0..50).prop_map(Detach::Grace)];
    let endpoints = (1_u32..4, prop::collection::vec(1_u32..4, 0..3));
    (timeouts, retry, rungs, detach, ms(0..80), prop::option::of(ms(1..60)), endpoints, any::<(bool, bool)>()).prop_map(
        |(
            timeouts,
            retry,
            after_partial,
            detach,
            commit_after,
            fallback,
            (endpoints, failover),
            (known_before_head, idle_on_content),
        )| {
            Plan {
                timeouts,
                commit_after,
                retry,
                fallback,
                after_partial,
                detach,
                endpoints,
                failover,
                known_before_head,
                idle_on_content,
            }
        },
    )
}

pub(crate) fn schedules() -> impl Strategy<Value = Schedule> {
    let beginning = prop_oneof![
        7 => Just(Beginning::New),
        1 => Just(Beginning::Adopted),
        2 => any::<bool>().prop_map(|delivered| Beginning::Orphaned { delivered }),
    ];
    (plans(), beginning, any::<u64>(), prop::collection::vec(ops(), 0..50))
        .prop_map(|(plan, beginning, seed, ops)| Schedule { plan, beginning, seed, ops })
}

/// A session, its clock, and the trace of both.
struct Driver {
    session: Session,
    now: Duration,
    trace: Trace,
}

impl Driver {
    fn start(schedule: &Schedule) -> Self {
        let (plan, seed) = (schedule.plan.clone(), schedule.seed);
        let now = Duration::ZERO;
        let session = match schedule.beginning {
            Beginning::New => Session::new(plan, seed, now),
            Beginning::Adopted => Session::adopted(plan, seed, now),
            Beginning::Orphaned { delivered } => Session::orphaned(plan, seed, now, delivered),
        };
        let mut driver = Self { session, now, trace: Trace::new() };
        driver.settle();
        driver
    }

    fn tell(&mut self, input: Input) {
        self.trace.push((self.now, Line::Told(input.clone())));
        self.session.handle(self.now, input);
        self.settle();
    }

    fn ring(&mut self) {
        self.trace.push((self.now, Line::Timer));
        let _ = self.session.handle_timeout(self.now);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(action) = self.session.poll_action() {
            self.trace.push((self.now, Line::Did(action)));
        }
        self.trace.push((self.now, Line::Due(self.session.poll_timeout())));
    }

    /// Lets each timer ring when it is due, until `until`. Gives up on a machine that spins.
    fn wait(&mut self, until: Duration) {
        for _ in 0..1_000 {
            match self.session.poll_timeout().filter(|due| *due <= until) {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
            self.ring();
        }
        self.now = self.now.max(until);
    }

    fn play(&mut self, op: &Op) {
        match op {
            Op::Tell(input) => self.tell(input.clone()),
            Op::Wait(time) => self.wait(self.now + Duration::from_millis(*time)),
            Op::Oversleep(time) => {
                self.now += Duration::from_millis(*time);
                self.ring();
            }
            Op::RingEarly => {
                if self.session.poll_timeout().is_none_or(|due| due > self.now) {
                    self.ring();
                }
            }
            Op::EventAtTheDeadline { content } => {
                if let Some(due) = self.session.poll_timeout() {
                    self.now = self.now.max(due);
                    self.tell(Input::Events { content: *content });
                    self.ring();
                }
            }
        }
    }
}

/// Plays a schedule to its end: once nothing more happens, only time passes.
pub(crate) fn play(schedule: &Schedule) -> Trace {
    let mut driver = Driver::start(schedule);
    for op in &schedule.ops {
        driver.play(op);
    }
    driver.wait(driver.now + schedule.plan.timeouts.total);
    driver.trace
}
