//! The session machine under random plans and random schedules, sensible ones and others, against a judge that
//! keeps its own book.
//!
//! What is held up: no kind of dial goes over its budget, and after content only a rung of the ladder dials (I9);
//! one end, last, and it comes (I3); one head at most, never beside a refusal; one upstream request at a time; each
//! deadline is named exactly, none is missed, none spins; data beats the timer; the same seed gives the same trace
//! (I14). The last tests break traces on purpose, so that a judge which nods everything through would be noticed.
//!
//! 10,000 schedules by default; `PROPTEST_CASES` says otherwise.

#[path = "model/machine_driver.rs"]
mod machine_driver;
#[path = "model/machine_judge.rs"]
mod machine_judge;

use std::time::Duration;

use machine_driver::{Op, Schedule, play, schedules};
use machine_judge::{Beginning, Line, Trace, Violation, judge};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use streamkeeper_session::{Action, Code, Detach, Dial, End, Input, Plan, Retry, Rung, Session, Timeouts};

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// The plan as the machine must follow it: an answer that was adopted is neither asked for again nor replaced.
fn promised(schedule: &Schedule) -> Plan {
    let mut plan = schedule.plan.clone();
    if schedule.beginning == Beginning::Adopted {
        plan.retry.attempts = 1;
        plan.fallback = None;
        plan.failover.clear();
    }
    plan
}

#[test]
fn no_schedule_makes_the_machine_break_a_promise() {
    runner(cases())
        .run(&schedules(), |schedule| {
            let trace = play(&schedule);
            judge(&promised(&schedule), schedule.beginning, &trace)
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
        after_partial: vec![Rung::NativeResume, Rung::Continuation, Rung::Fallback],
        detach: Detach::Grace(MS(40)),
        endpoints: 1,
        failover: Vec::new(),
        known_before_head: false,
        idle_on_content: false,
    }
}

fn reset() -> Input {
    Input::Failed { fault: Code::UpstreamReset.into(), sent: true }
}

fn schedule(ops: impl IntoIterator<Item = Op>) -> Schedule {
    Schedule { plan: plan(), beginning: Beginning::New, seed: 7, ops: ops.into_iter().collect() }
}

/// Fails once, breaks, is resumed, breaks, cannot be continued, falls back, and completes.
fn eventful() -> Schedule {
    let content = Input::Events { content: true };
    let told = [
        vec![reset()],
        vec![Input::Head, content.clone(), reset()],
        vec![Input::Head, reset()],
        vec![Input::Impossible],
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
    assert_eq!(dials(&trace), [STREAM, STREAM, Dial::Resume, Dial::Continuation, Dial::Fallback]);
    assert_eq!(end(&trace).map(|(_, code)| code), Some(None));
    assert_eq!(judge(&plan(), Beginning::New, &trace), Ok(()));
}

#[test]
fn the_next_upstream_has_tries_of_its_own_and_one_that_takes_no_try_is_left_at_once() {
    let mut schedule = schedule([Input::Denied(Code::UpstreamUnreachable.into()), reset()].map(Op::Tell));
    schedule.ops.extend((0..3).flat_map(|_| [Op::Wait(12), Op::Tell(reset())]));
    schedule.plan.failover = vec![1, 1];
    schedule.plan.fallback = None;
    schedule.plan.timeouts.total = MS(10_000);
    let trace = play(&schedule);
    let moves = trace.iter().filter(|(_, line)| *line == Line::Did(Action::Elsewhere)).count();
    assert_eq!((moves, dials(&trace)), (2, vec![STREAM; 7]), "one that was not sent, and three at each of the others");
    assert_eq!(judge(&schedule.plan, Beginning::New, &trace), Ok(()));
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
fn an_upstream_that_is_not_read_is_not_idle() {
    let mut session = Session::new(plan(), 7, MS(0));
    session.handle(MS(0), Input::Head);
    session.handle(MS(50), Input::PutOff);
    assert_eq!(
        session.handle_timeout(MS(60)),
        Some(Code::FirstEventTimeout),
        "before the first event nobody is waited for"
    );

    let mut session = Session::new(plan(), 7, MS(0));
    session.handle(MS(1), Input::Events { content: true });
    session.handle(MS(50), Input::PutOff);
    assert_eq!((session.handle_timeout(MS(109)), session.handle_timeout(MS(110))), (None, Some(Code::IdleTimeout)));
}

#[test]
fn an_event_in_the_moment_of_the_deadline_saves_the_stream() {
    let content = || Op::Tell(Input::Events { content: true });
    let mut stalled = Session::new(plan(), 7, MS(0));
    stalled.handle(MS(1), Input::Events { content: true });
    assert_eq!((stalled.handle_timeout(MS(60)), stalled.handle_timeout(MS(61))), (None, Some(Code::IdleTimeout)));
    let late = schedule([content()]);
    assert_eq!(dials(&play(&late)).last(), Some(&Dial::Fallback), "without the event it times out and falls back");
    let mut tie = schedule([content(), Op::EventAtTheDeadline { content: true }, Op::Tell(Input::Done)]);
    tie.plan.commit_after = MS(0);
    let trace = play(&tie);
    assert_eq!(end(&trace), Some((MS(60), None)), "{trace:?}");
}

#[test]
fn what_arrives_while_nothing_is_dialled_is_an_echo_and_counts_for_nothing() {
    let denied = Input::Denied(Code::UpstreamUnreachable.into());
    let echoes = [Input::Head, Input::Impossible, denied, Input::Events { content: true }, Input::Done, reset()];
    let trace = play(&schedule([Op::Tell(reset())].into_iter().chain(echoes.map(Op::Tell))));
    assert_eq!(dials(&trace).len(), 4, "three streams and the fallback, as if the echoes were not there");
    assert_eq!(end(&trace).and_then(|(_, code)| code), Some(Code::HeadTimeout));
}

/// What becomes of an orphan that hears this.
fn orphan(delivered: bool, plan: Plan, inputs: impl IntoIterator<Item = Input>) -> Trace {
    let ops = inputs.into_iter().flat_map(|input| [Op::Tell(input), Op::Wait(12)]).collect();
    let schedule = Schedule { plan, beginning: Beginning::Orphaned { delivered }, seed: 7, ops };
    let trace = play(&schedule);
    assert_eq!(judge(&schedule.plan, schedule.beginning, &trace), Ok(()));
    trace
}

const STREAM: Dial = Dial::Stream { other_endpoint: false };

#[test]
fn an_orphan_with_content_climbs_at_once_and_has_all_of_the_ladder() {
    let content = || Input::Events { content: true };
    let resumed = orphan(true, plan(), [Input::Head, content(), Input::Done]);
    assert_eq!(resumed.first(), Some(&(MS(0), Line::Did(Action::Dial(Dial::Resume)))));
    assert_eq!(end(&resumed).map(|(_, code)| code), Some(None));
    let all = orphan(true, plan(), [Input::Impossible, Input::Head, reset(), content(), Input::Done]);
    assert_eq!(dials(&all), [Dial::Resume, Dial::Continuation, Dial::Fallback]);
    let again = orphan(true, plan(), [Input::Head, content(), reset(), Input::Head, content(), reset()]);
    assert_eq!(dials(&again)[..3], [Dial::Resume; 3], "progress puts it back to the first rung");
}

#[test]
fn an_orphan_that_nothing_helps_ends_with_the_loss_of_its_owner_and_is_never_refused() {
    let lost = |trace: &Trace| {
        trace.iter().any(
            |(_, line)| matches!(line, Line::Did(Action::Finish(End::Failed(fault))) if fault.code == Code::OwnerLost),
        )
    };
    let no_ladder = Plan { after_partial: Vec::new(), ..plan() };
    let trace = orphan(true, no_ladder, []);
    assert!(lost(&trace) && dials(&trace).is_empty(), "{trace:?}");
    assert!(lost(&orphan(true, plan(), [reset(), reset(), reset()])));
    assert!(lost(&orphan(true, plan(), [Input::Denied(Code::UpstreamUnreachable.into())])));
    assert!(lost(&orphan(false, plan(), [Input::Impossible])));
}

#[test]
fn an_orphan_without_content_asks_as_if_it_were_new_but_finishes_where_that_would_be_refused() {
    let trace = orphan(false, plan(), [reset(), reset(), reset(), reset()]);
    assert_eq!(dials(&trace), [STREAM, STREAM, STREAM, Dial::Fallback]);
    assert_eq!(end(&trace).map(|(_, code)| code), Some(Some(Code::UpstreamReset)));
    let elsewhere = Plan { failover: vec![1], ..plan() };
    let trace = orphan(false, elsewhere, [Input::Denied(Code::UpstreamUnreachable.into()), Input::Head]);
    assert!(trace.contains(&(MS(0), Line::Did(Action::Elsewhere))), "{trace:?}");
}

#[test]
fn an_orphans_request_that_may_have_arrived_is_not_sent_again_where_the_plan_says_so() {
    let mut careful = Plan { failover: vec![1], ..plan() };
    careful.retry.after_send = false;
    assert_eq!(dials(&orphan(false, careful.clone(), [])), [Dial::Fallback]);
    careful.fallback = None;
    let trace = orphan(false, careful, []);
    assert_eq!((dials(&trace), end(&trace)), (vec![], Some((MS(0), Some(Code::OwnerLost)))));
}

#[test]
fn an_orphan_whose_client_leaves_waits_for_it_as_its_head_was_sent() {
    let trace = orphan(false, plan(), [Input::Readers(0)]);
    assert_eq!(end(&trace), Some((MS(40), Some(Code::SessionGap))));
}

/// The trace of [`eventful`] with `change` made to it, and what the judge says about it.
fn broken(change: impl FnOnce(&mut Trace)) -> Result<(), Violation> {
    let mut trace = play(&eventful());
    change(&mut trace);
    judge(&plan(), Beginning::New, &trace)
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
fn the_judge_notices_a_move_to_an_upstream_that_is_not_there() {
    let judged = broken(|trace| {
        let at = position(trace, &Action::Dial(Dial::Stream { other_endpoint: false }));
        trace.insert(at, (trace[at].0, Line::Did(Action::Elsewhere)));
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
fn the_judge_notices_a_second_head_for_an_orphan_and_a_request_in_the_place_of_a_rung() {
    let judged = |delivered, action| {
        let mut trace = orphan(delivered, plan(), [Input::Head, Input::Done]);
        trace[0].1 = Line::Did(action);
        judge(&plan(), Beginning::Orphaned { delivered }, &trace)
    };
    assert_eq!(judged(false, Action::Commit), Err(Violation::WrongCommit));
    assert_eq!(judged(false, Action::Refuse(Code::OwnerLost.into())), Err(Violation::WrongCommit));
    assert_eq!(judged(true, Action::Dial(STREAM)), Err(Violation::DialAfterContent));
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
