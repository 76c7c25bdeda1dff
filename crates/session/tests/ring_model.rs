//! The ring against a `Vec`, over random schedules of pushes, seals, shrinks, reads and reconnects, and of what happens
//! to copies: a late start, records taken back, records lost.
//!
//! What is held up: over any number of reconnects a reader gets every event once and in order,
//! unless a gap names exactly the missing ones (I1); no gap is silent (I2); the end comes once, last
//! (I3); and the limits hold. The last tests turn the judge on readers that break these promises,
//! so that a judge which nods everything through would be noticed.
//!
//! 10,000 schedules by default; `PROPTEST_CASES` says otherwise.

mod model;

use model::{Oracle, Said, Signal, Violation, Witness};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use streamkeeper_session::{Gap, GapReason, PushError, Record, Ring, RingLimits};

const READERS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Push {
        len: usize,
        id: Option<u8>,
    },
    Seal(u32),
    /// A reader takes up to `batch` records; one by one or by a walk.
    Read {
        reader: usize,
        batch: usize,
        walk: bool,
    },
    /// A reader lost its connection and comes back with a position it held before (in percent of
    /// all that was said), evicted or not.
    Reconnect {
        reader: usize,
        percent: u64,
    },
    /// A reader comes back with a position that this log never reached.
    FromTheFuture {
        reader: usize,
        beyond: u64,
    },
    Shrink {
        percent: usize,
    },
    Compact,
    /// What is beyond this position (in percent of all that was said) is taken back. Who had read it is put back.
    Truncate {
        percent: usize,
    },
    /// So many more were said, and are gone.
    Lose {
        count: usize,
    },
}

#[derive(Clone, Debug)]
struct Schedule {
    /// Seq of the first record.
    start: u64,
    max_events: usize,
    max_bytes: usize,
    ops: Vec<Op>,
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 0_usize..48, 4 => 100_usize..400, 2 => 400_usize..3_000, 1 => 9_000_usize..20_000]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (sizes(), prop::option::weighted(0.4, 0_u8..6)).prop_map(|(len, id)| Op::Push { len, id }),
        8 => (0..READERS, 1_usize..6, any::<bool>())
            .prop_map(|(reader, batch, walk)| Op::Read { reader, batch, walk }),
        3 => (0..READERS, 0_u64..=100).prop_map(|(reader, percent)| Op::Reconnect { reader, percent }),
        1 => (0..READERS, 1_u64..1 << 40).prop_map(|(reader, beyond)| Op::FromTheFuture { reader, beyond }),
        1 => (0_usize..110).prop_map(|percent| Op::Shrink { percent }),
        1 => Just(Op::Compact),
        1 => (0_usize..=100).prop_map(|percent| Op::Truncate { percent }),
        1 => (0_usize..9).prop_map(|count| Op::Lose { count }),
        1 => (0_u32..9).prop_map(Op::Seal),
    ]
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let max_events = prop_oneof![8 => 0_usize..12, 2 => Just(usize::MAX)];
    let max_bytes = prop_oneof![4 => 0_usize..600, 4 => 600_usize..20_000, 1 => Just(usize::MAX)];
    let start = prop_oneof![3 => Just(1_u64), 1 => 0_u64..40];
    (start, max_events, max_bytes, prop::collection::vec(ops(), 1..60))
        .prop_map(|(start, max_events, max_bytes, ops)| Schedule { start, max_events, max_bytes, ops })
}

/// How a reader is served from the ring: from the position after `upto`, at most `batch` signals.
type Serve = fn(&Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal>;

fn signal(record: Record<'_, u32>) -> Signal {
    match record {
        Record::Event(entry) => {
            Signal::Event { seq: entry.seq, id: entry.id.map(<[u8]>::to_vec), body: entry.body.to_vec() }
        }
        Record::Sealed(end) => Signal::Sealed(*end),
    }
}

fn told(gap: Gap) -> Signal {
    Signal::Gap { from: gap.from, to: gap.to, reason: gap.reason.as_str() }
}

/// As the product does it: a gap is passed on, and reading goes on behind it.
fn serve(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    if walk {
        return match ring.iter_from(upto + 1) {
            Ok(records) => records.take(batch).map(signal).collect(),
            Err(gap) => vec![told(gap)],
        };
    }
    let mut signals = Vec::new();
    for position in (upto + 1..).take(batch) {
        match ring.get(position) {
            Ok(Some(record)) => signals.push(signal(record)),
            Ok(None) => break,
            Err(gap) => {
                signals.push(told(gap));
                break;
            }
        }
        if matches!(signals.last(), Some(Signal::Sealed(_))) {
            break;
        }
    }
    signals
}

/// Runs a schedule and returns the first broken promise of `serve`. Disagreements between the ring
/// itself and the oracle fail at once.
fn run(schedule: &Schedule, serve: Serve) -> Result<(), Violation> {
    let limits = RingLimits { max_events: schedule.max_events, max_bytes: schedule.max_bytes };
    let mut ring = Ring::starting_at(limits, schedule.start);
    let mut oracle = Oracle::new(limits.max_events, limits.max_bytes, schedule.start.saturating_sub(1) as usize);
    let mut readers: [Witness; READERS] = Default::default();
    for op in &schedule.ops {
        match *op {
            Op::Read { reader, batch, walk } => {
                read(&ring, &oracle, &mut readers[reader], serve, batch, walk)?;
            }
            Op::Reconnect { reader, percent } => {
                readers[reader].reconnects_at(oracle.said.len() as u64 * percent / 100);
            }
            Op::FromTheFuture { reader, beyond } => {
                readers[reader].reconnects_at(oracle.said.len() as u64 + beyond);
            }
            Op::Truncate { .. } => {
                write(&mut ring, &mut oracle, op);
                // Which of what they saw is void is not the ring's to know.
                for reader in readers.iter_mut().filter(|reader| !reader.has_ended()) {
                    reader.reconnects_at(reader.upto.min(oracle.said.len() as u64));
                }
            }
            _ => write(&mut ring, &mut oracle, op),
        }
        check_bounds(&ring, &oracle, schedule);
    }
    write(&mut ring, &mut oracle, &Op::Seal(99));
    for reader in &mut readers {
        // Three rounds at most: a gap of either kind, the other kind, the rest.
        for _ in 0..3 {
            read(&ring, &oracle, reader, serve, usize::MAX, true)?;
        }
        reader.falls_silent(&oracle)?;
    }
    Ok(())
}

fn read(
    ring: &Ring<u32>,
    oracle: &Oracle,
    reader: &mut Witness,
    serve: Serve,
    batch: usize,
    walk: bool,
) -> Result<(), Violation> {
    if reader.has_ended() {
        return Ok(());
    }
    let signals = serve(ring, reader.upto, batch, walk);
    for signal in &signals {
        reader.hears(signal, oracle)?;
    }
    if signals.is_empty() { reader.falls_silent(oracle) } else { Ok(()) }
}

/// An operation of the session's side, on ring and oracle alike.
fn write(ring: &mut Ring<u32>, oracle: &mut Oracle, op: &Op) {
    match *op {
        Op::Push { len, id } => {
            let seq = oracle.next_seq();
            let body: Vec<u8> = (0..len).map(|at| (at as u64 + (seq + oracle.cuts) * 7) as u8).collect();
            let id = id.map(|id| b"upstream"[..usize::from(id)].to_vec());
            let pushed = ring.push(&body, id.as_deref());
            if oracle.end.is_some() {
                assert_eq!(pushed, Err(PushError::Sealed));
            } else {
                assert_eq!(pushed, Ok(seq));
                oracle.say(Said { body, id });
            }
        }
        Op::Seal(end) => {
            assert_eq!(ring.seal(end), oracle.end.is_none());
            oracle.end.get_or_insert(end);
        }
        Op::Shrink { percent } => {
            let target = ring.footprint() * percent / 100;
            let gone = ring.shrink_to(target) as usize;
            oracle.evict(gone);
            assert!(ring.footprint() <= target);
            assert!(percent < 100 || gone == 0, "nothing may go while the target is met");
        }
        Op::Compact => ring.compact(),
        Op::Truncate { percent } => {
            let count = oracle.said.len() * percent / 100;
            ring.truncate(count as u64 + 1);
            oracle.take_back(count);
        }
        Op::Lose { count } => {
            let count = oracle.said.len() + count;
            ring.lose_until(count as u64 + 1);
            oracle.lose(count);
        }
        Op::Read { .. } | Op::Reconnect { .. } | Op::FromTheFuture { .. } => {
            unreachable!("not a write")
        }
    }
}

fn check_bounds(ring: &Ring<u32>, oracle: &Oracle, schedule: &Schedule) {
    assert_eq!(ring.first_seq(), oracle.first_seq());
    assert_eq!(ring.next_seq(), oracle.next_seq());
    assert_eq!(ring.len(), oracle.kept().len());
    assert_eq!(ring.is_empty(), oracle.kept().is_empty());
    assert_eq!(ring.bytes(), oracle.kept_bytes());
    assert_eq!(ring.evicted(), oracle.evicted);
    assert_eq!(ring.end(), oracle.end.as_ref());
    assert!(ring.len() <= schedule.max_events.max(1));
    assert!(ring.bytes() <= schedule.max_bytes || ring.len() == 1);
    // Payload, eight bytes a record, an eighth of slack, and a page in part dead and one in part
    // free of 16 KiB at most.
    let roof = (ring.bytes() + 8 * ring.len()) * 5 / 4 + 2 * 16_384 + 2_048;
    assert!(ring.footprint() <= roof, "{} for {ring:?}", ring.footprint());
    for len in 0..6 {
        let id = &b"upstream"[..len];
        assert_eq!(ring.find_kept(id), oracle.newest_with(id));
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn every_reader_gets_every_event_once_in_order_or_an_exact_gap_and_the_end_once() {
    runner(cases())
        .run(&schedules(), |schedule| {
            run(&schedule, serve).map_err(|violation| TestCaseError::fail(violation.to_string()))
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Hides gaps: goes on silently from the oldest event that is left.
fn ignore_eviction(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    match ring.iter_from(upto + 1) {
        Err(Gap { to, reason: GapReason::Evicted, .. }) => serve(ring, to, batch, walk),
        _ => serve(ring, upto, batch, walk),
    }
}

/// Names a gap that is one event too short, and so loses that one.
fn understate_gaps(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    let mut signals = serve(ring, upto, batch, walk);
    if let Some(Signal::Gap { to, .. }) = signals.first_mut() {
        *to -= 1;
    }
    signals
}

/// Reads `Last-Event-ID` as the next event to send.
fn start_one_early(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    serve(ring, upto.saturating_sub(1), batch, walk)
}

/// Says the end again and again.
fn repeat_the_end(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    let mut signals = serve(ring, upto, batch, walk);
    if let Some(Signal::Sealed(_)) = signals.last() {
        signals.extend(signals.last().cloned());
    }
    signals
}

/// Takes a sealed log for a silent one.
fn forget_the_end(ring: &Ring<u32>, upto: u64, batch: usize, walk: bool) -> Vec<Signal> {
    let mut signals = serve(ring, upto, batch, walk);
    signals.retain(|signal| !matches!(signal, Signal::Sealed(_)));
    signals
}

/// What the judge says about a schedule in which a reader fell behind a ring of two.
fn judged(serve: Serve) -> Result<(), Violation> {
    let push = Op::Push { len: 5, id: None };
    let read = Op::Read { reader: 0, batch: 5, walk: true };
    let mut ops = vec![push.clone(), read.clone()];
    ops.extend(std::iter::repeat_n(push, 5));
    ops.push(read);
    run(&Schedule { start: 1, max_events: 2, max_bytes: 1_000, ops }, serve)
}

#[test]
fn a_ring_that_ignores_eviction_is_caught_as_a_silent_gap() {
    assert_eq!(judged(serve), Ok(()));
    assert_eq!(judged(ignore_eviction), Err(Violation::SilentGap { from: 2, to: 4 }));
}

#[test]
fn the_other_ways_to_lie_are_caught_by_their_names() {
    assert_eq!(judged(understate_gaps), Err(Violation::WrongGap { from: 2, to: 3, reason: "evicted" }));
    let early = judged(start_one_early);
    assert_eq!(early, Err(Violation::WrongGap { from: 1, to: 4, reason: "evicted" }));
    assert_eq!(judged(repeat_the_end), Err(Violation::WrongEnd));
    assert_eq!(judged(forget_the_end), Err(Violation::Starved { at: 6 }));
}

#[test]
fn random_schedules_catch_ignored_eviction_too_and_as_nothing_else() {
    let caught = std::cell::Cell::new(0);
    // Where nothing is left to skip to, the missing events show as a silence with too little seen.
    runner(500)
        .run(&schedules(), |schedule| {
            match run(&schedule, ignore_eviction) {
                Ok(()) => {}
                Err(Violation::SilentGap { .. } | Violation::Starved { .. }) => caught.set(caught.get() + 1),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(caught.get() > 100, "only {} of 500 schedules noticed", caught.get());
}
