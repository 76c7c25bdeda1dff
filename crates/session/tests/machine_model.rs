//! The session machine under random plans and random schedules, sensible ones and others, against a judge that
//! keeps its own book.
//!
//! What is held up: no kind of dial goes over its budget, and after content only a rung of the ladder dials (I9);
//! one end, last, and it comes (I3); one head at most, never beside a refusal; one upstream request at a time; each
//! deadline is named exactly, none is missed, none spins; data beats the timer; the same seed gives the same trace
//! (I14). The last tests break traces on purpose, so that a judge which nods everything through would be noticed.
//!
//! 10,000 schedules by default; `PROPTEST_CASES` says otherwise.

#[path = "model/machine_judge.rs"]
mod machine_judge;

use std::time::Duration;

use machine_judge::{Line, Trace, Violation, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use streamkeeper_session::{Action, Code, Detach, Dial, End, Fault, Input, Plan, Retry, Rung, Session, Timeouts};

/// What happens next to a session.
#[derive(Clone, Debug)]
enum Op {
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
struct Schedule {
    plan: Plan,
    adopted: bool,
    seed: u64,
    ops: Vec<Op>,
}

fn ms(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn faults() -> impl Strategy<Value = Fault> {
    let reported = any::<bool>().prop_map(|recoverable| {
        Fault::reported(streamkeeper_session::Kind::System, recoverable, streamkeeper_session::Report::default())
    });
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
        2 => Just(Input::Numbered),
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
    let rungs = prop::collection::vec(prop::sample::select(vec![Rung::NativeResume, Rung::Fallback]), 0..4);
    let detach =
        prop_oneof![1 => Just(Detach::Cancel), 1 => Just(Detach::Continue), 3 => ms(0..50).prop_map(Detach::Grace)];
    (timeouts, retry, rungs, detach, ms(0..80), prop::option::of(ms(1..60)), 1_u32..4, any::<bool>()).prop_map(
        |(timeouts, retry, after_partial, detach, commit_after, fallback, endpoints, known_before_head)| Plan {
            timeouts,
            commit_after,
            retry,
            fallback,
            after_partial,
            detach,
            endpoints,
            known_before_head,
        },
    )
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let adopted = prop::bool::weighted(0.1);
    (plans(), adopted, any::<u64>(), prop::collection::vec(ops(), 0..50))
        .prop_map(|(plan, adopted, seed, ops)| Schedule { plan, adopted, seed, ops })
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
        let begin = if schedule.adopted { Session::adopted } else { Session::new };
        let mut driver = Self { session: begin(plan, seed, Duration::ZERO), now: Duration::ZERO, trace: Trace::new() };
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
        self.session.handle_timeout(self.now);
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
fn play(schedule: &Schedule) -> Trace {
    let mut driver = Driver::start(schedule);
    for op in &schedule.ops {
        driver.play(op);
    }
    driver.wait(driver.now + schedule.plan.timeouts.total);
    driver.trace
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// The plan as the machine must follow it: an answer that was adopted cannot be asked for again.
fn promised(schedule: &Schedule) -> Plan {
    let mut plan = schedule.plan.clone();
    if schedule.adopted {
        plan.retry.attempts = 1;
        plan.fallback = None;
        plan.after_partial.clear();
    }
    plan
}

#[test]
fn no_schedule_makes_the_machine_break_a_promise() {
    runner(cases())
        .run(&schedules(), |schedule| {
            let trace = play(&schedule);
            judge(&promised(&schedule), schedule.adopted, &trace)
                .map_err(|violation| TestCaseError::fail(format!("{violation:?} in {trace:#?}")))
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    runner(cases() / 10)
        .run(&schedules(), |schedule| {
            prop_assert_eq!(play(&schedule), play(&schedule));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A plan with everything in it, and round numbers.
fn plan() -> Plan {
    Plan {
        timeouts: Timeouts { connect: MS(5), head: MS(30), first_event: MS(60), idle: MS(60), total: MS(900) },
        commit_after: MS(150),
        retry: Retry { attempts: 3, base: MS(2), max: MS(10), after_send: true },
        fallback: Some(MS(120)),
        after_partial: vec![Rung::NativeResume, Rung::Fallback],
        detach: Detach::Grace(MS(40)),
        endpoints: 1,
        known_before_head: false,
    }
}

fn reset() -> Input {
    Input::Failed { fault: Code::UpstreamReset.into(), sent: true }
}

fn schedule(ops: impl IntoIterator<Item = Op>) -> Schedule {
    Schedule { plan: plan(), adopted: false, seed: 7, ops: ops.into_iter().collect() }
}

/// Fails once, is numbered, breaks, is resumed, breaks, falls back, and completes.
fn eventful() -> Schedule {
    let content = Input::Events { content: true };
    let told = [
        vec![reset()],
        vec![Input::Head, Input::Numbered, content.clone(), reset()],
        vec![Input::Head, reset()],
        vec![content, Input::Done],
    ];
    schedule(told.into_iter().flat_map(|inputs| inputs.into_iter().map(Op::Tell).chain([Op::Wait(12)])))
}

fn dials(trace: &Trace) -> Vec<Dial> {
    let dial = |line: &Line| match line {
        Line::Did(Action::Dial(dial)) => Some(*dial),
        _ => None,
    };
    trace.iter().filter_map(|(_, line)| dial(line)).collect()
}

/// When and how a trace ends.
fn end(trace: &Trace) -> Option<(Duration, Option<Code>)> {
    trace.iter().find_map(|(now, line)| match line {
        Line::Did(Action::Refuse(fault)) => Some((*now, Some(fault.code))),
        Line::Did(Action::Finish(end)) => Some((*now, end.fault().map(|fault| fault.code))),
        _ => None,
    })
}

#[test]
fn an_eventful_session_uses_each_kind_of_dial_and_completes() {
    let trace = play(&eventful());
    let stream = Dial::Stream { other_endpoint: false };
    assert_eq!(dials(&trace), [stream, stream, Dial::Resume, Dial::Fallback]);
    assert_eq!(end(&trace).map(|(_, code)| code), Some(None));
    assert_eq!(judge(&plan(), false, &trace), Ok(()));
}

#[test]
fn nobody_back_within_grace_cancels_to_the_millisecond() {
    let leave = [Op::Tell(Input::Events { content: true }), Op::Wait(5), Op::Tell(Input::Readers(0))];
    let trace = play(&schedule(leave.clone()));
    assert_eq!(end(&trace), Some((MS(45), Some(Code::SessionGap))));
    // Told again that nobody is there, it does not start to wait anew.
    let again = [Op::Wait(20), Op::Tell(Input::Readers(0))];
    let trace = play(&schedule(leave.iter().cloned().chain(again)));
    assert_eq!(end(&trace), Some((MS(45), Some(Code::SessionGap))));
    // Somebody came back in the last moment.
    let back = [Op::Wait(39), Op::Tell(Input::Readers(1))];
    let trace = play(&schedule(leave.into_iter().chain(back)));
    assert_ne!(end(&trace).and_then(|(_, code)| code), Some(Code::SessionGap));
}

#[test]
fn an_event_in_the_moment_of_the_deadline_saves_the_stream() {
    let content = || Op::Tell(Input::Events { content: true });
    let late = schedule([content()]);
    assert_eq!(dials(&play(&late)).len(), 2, "without the event it times out and falls back");
    let mut tie = schedule([content(), Op::EventAtTheDeadline { content: true }, Op::Tell(Input::Done)]);
    tie.plan.commit_after = MS(0);
    let trace = play(&tie);
    assert_eq!(end(&trace), Some((MS(60), None)), "{trace:?}");
}

#[test]
fn what_arrives_while_nothing_is_dialled_is_an_echo_and_counts_for_nothing() {
    let echoes = [Input::Head, Input::Numbered, Input::Events { content: true }, Input::Done, reset()];
    let trace = play(&schedule([Op::Tell(reset())].into_iter().chain(echoes.map(Op::Tell))));
    assert_eq!(dials(&trace).len(), 4, "three streams and the fallback, as if the echoes were not there");
    assert_eq!(end(&trace).and_then(|(_, code)| code), Some(Code::HeadTimeout));
}

/// The trace of [`eventful`] with `change` made to it, and what the judge says about it.
fn broken(change: impl FnOnce(&mut Trace)) -> Result<(), Violation> {
    let mut trace = play(&eventful());
    change(&mut trace);
    judge(&plan(), false, &trace)
}

fn position(trace: &Trace, wanted: &Action) -> usize {
    trace.iter().position(|(_, line)| *line == Line::Did(wanted.clone())).expect("the eventful session does this")
}

#[test]
fn the_judge_notices_a_dial_too_many() {
    let again = Line::Did(Action::Dial(Dial::Fallback));
    let judged = broken(|trace| {
        let at = position(trace, &Action::Dial(Dial::Fallback));
        let now = trace[at].0;
        trace.splice(at + 1..at + 1, [(now, Line::Told(reset())), (now, Line::Did(Action::HangUp)), (now, again)]);
    });
    assert_eq!(judged, Err(Violation::OverBudget));
}

#[test]
fn the_judge_notices_a_second_beginning() {
    let judged = broken(|trace| {
        let at = position(trace, &Action::Dial(Dial::Resume));
        trace[at].1 = Line::Did(Action::Dial(Dial::Stream { other_endpoint: false }));
    });
    assert_eq!(judged, Err(Violation::DialAfterContent));
}

#[test]
fn the_judge_notices_a_request_that_was_left_open() {
    let judged = broken(|trace| {
        trace.remove(position(trace, &Action::HangUp));
    });
    assert!(matches!(judged, Err(Violation::TwoOpen | Violation::TooLate | Violation::TooEarly)), "{judged:?}");
}

#[test]
fn the_judge_notices_two_heads_and_none() {
    let twice = broken(|trace| {
        let at = position(trace, &Action::Commit);
        trace.insert(at, trace[at].clone());
    });
    let none = broken(|trace| {
        trace.retain(|(_, line)| !matches!(line, Line::Did(Action::Commit) | Line::Due(_)));
    });
    assert_eq!((twice, none), (Err(Violation::WrongCommit), Err(Violation::WrongCommit)));
}

#[test]
fn the_judge_notices_words_after_the_end_and_a_missing_end() {
    let finish = Action::Finish(End::Completed);
    let after = broken(|trace| {
        let at = position(trace, &finish);
        trace.insert(at, trace[at].clone());
    });
    let missing = broken(|trace| {
        let at = position(trace, &finish);
        trace.truncate(at);
    });
    let refused = broken(|trace| {
        let at = position(trace, &finish);
        trace[at].1 = Line::Did(Action::Refuse(Code::UpstreamReset.into()));
    });
    assert_eq!(after, Err(Violation::AfterTheEnd));
    assert_eq!(missing, Err(Violation::NeverEnds));
    assert_eq!(refused, Err(Violation::WrongCommit));
}

#[test]
fn the_judge_notices_a_silent_success_and_a_wrong_reason() {
    let silent = broken(|trace| trace.retain(|(_, line)| *line != Line::Told(Input::Done)));
    let wrong = broken(|trace| {
        let at = position(trace, &Action::Finish(End::Completed));
        trace[at].1 = Line::Did(Action::Finish(End::Failed(Box::new(Code::UpstreamReset.into()))));
    });
    assert_eq!((silent, wrong), (Err(Violation::WrongEnd), Err(Violation::WrongEnd)));
}

#[test]
fn the_judge_notices_deadlines_that_come_late_early_or_to_nothing() {
    let last_due = |trace: &Trace| {
        let is_due = |(_, line): &(Duration, Line)| matches!(line, Line::Due(Some(_)));
        trace.iter().rposition(is_due).expect("a deadline")
    };
    let shifted = |shift: fn(Duration) -> Duration| {
        broken(|trace| {
            let at = last_due(trace);
            if let Line::Due(Some(due)) = &mut trace[at].1 {
                *due = shift(*due);
            }
        })
    };
    assert_eq!(shifted(|due| due + MS(1)), Err(Violation::TooLate));
    assert_eq!(shifted(|due| due - MS(1)), Err(Violation::TooEarly));
    let spinning = broken(|trace| {
        let at = last_due(trace);
        let Line::Due(Some(due)) = trace[at].1.clone() else { unreachable!("it was chosen so") };
        trace.splice(at + 1..at + 1, [(due, Line::Timer), (due, Line::Due(Some(due)))]);
    });
    assert_eq!(spinning, Err(Violation::Spinning));
}
