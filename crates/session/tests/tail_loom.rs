//! The tail under every interleaving that loom finds (I4: no wake is lost).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p streamkeeper-session --test tail_loom --release`
//!
//! A lost wake shows as a deadlock, which loom reports. Without `--cfg loom` this file is empty.
#![cfg(loom)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::future::block_on;
use loom::thread;
use streamkeeper_session::{Follower, Gap, GapReason, Record, Ring, RingLimits, Tail};

type Log = Ring<&'static str>;

fn log(max_events: usize) -> Arc<Tail<Log>> {
    Arc::new(Tail::new(Ring::new(RingLimits { max_events, max_bytes: 1_000 })))
}

fn push(tail: &Tail<Log>, seq: u8) {
    assert_eq!(tail.update(|ring| ring.push(&[seq], None)), Ok(u64::from(seq)));
}

/// Runs a model of three threads with at most this many forced switches per interleaving. Without
/// a bound it would run for hours; bugs of this kind need one or two.
fn three_threads(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// What one follower was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Event(u64),
    Gap(Gap),
    Sealed,
}

/// The next thing for a follower at `position`.
fn look(follower: &mut Follower<Log>, cx: &mut Context<'_>, position: u64) -> Poll<Told> {
    follower.poll(cx, |ring| match ring.get(position) {
        Ok(None) => None,
        Ok(Some(Record::Event(entry))) => {
            assert_eq!(entry.body, [entry.seq as u8]);
            Some(Told::Event(entry.seq))
        }
        Ok(Some(Record::Sealed(_))) => Some(Told::Sealed),
        Err(gap) => Some(Told::Gap(gap)),
    })
}

/// Follows from `position` to the end and checks the account: dense, or a gap that says what is
/// missing, and the end once, after `last`. Returns how many events arrived.
fn follow_to_the_end(follower: &mut Follower<Log>, mut position: u64, last: u64) -> u64 {
    let mut events = 0;
    loop {
        match block_on(poll_fn(|cx| look(follower, cx, position))) {
            Told::Event(seq) => {
                assert_eq!(seq, position);
                position += 1;
                events += 1;
            }
            Told::Gap(gap) => {
                assert_eq!((gap.from, gap.reason), (position, GapReason::Evicted));
                assert!((position..=last).contains(&gap.to), "{gap:?}");
                position = gap.to + 1;
            }
            Told::Sealed => {
                assert_eq!(position, last + 1, "the end is the last");
                return events;
            }
        }
    }
}

#[test]
fn a_follower_sees_everything_and_the_end_once() {
    loom::model(|| {
        let tail = log(8);
        let mut follower = tail.follow();
        let writer = thread::spawn(move || {
            push(&tail, 1);
            push(&tail, 2);
            assert!(tail.update(|ring| ring.seal("completed")));
        });
        assert_eq!(follow_to_the_end(&mut follower, 1, 2), 2);
        writer.join().expect("the writer");
    });
}

#[test]
fn a_follower_that_is_overtaken_learns_which_events_it_missed() {
    loom::model(|| {
        let tail = log(1);
        let mut follower = tail.follow();
        let writer = thread::spawn(move || {
            push(&tail, 1);
            push(&tail, 2);
            push(&tail, 3);
            tail.update(|ring| ring.seal("completed"));
        });
        let events = follow_to_the_end(&mut follower, 1, 3);
        assert!((1..=3).contains(&events));
        writer.join().expect("the writer");
    });
}

#[test]
fn two_followers_are_both_woken() {
    three_threads(|| {
        let tail = log(8);
        let readers = [tail.follow(), tail.follow()]
            .map(|mut follower| thread::spawn(move || assert_eq!(follow_to_the_end(&mut follower, 1, 1), 1)));
        push(&tail, 1);
        tail.update(|ring| ring.seal("completed"));
        for reader in readers {
            reader.join().expect("a reader");
        }
        assert_eq!(tail.followers(), 0);
    });
}

#[test]
fn who_attaches_in_the_middle_reads_the_same_story() {
    loom::model(|| {
        let tail = log(8);
        let late = Arc::clone(&tail);
        let reader = thread::spawn(move || {
            let mut follower = late.follow();
            assert_eq!(follow_to_the_end(&mut follower, 1, 2), 2);
            // A second connection of the same reader, after the end: replay only.
            drop(follower);
            assert_eq!(follow_to_the_end(&mut late.follow(), 2, 2), 1);
        });
        push(&tail, 1);
        push(&tail, 2);
        tail.update(|ring| ring.seal("completed"));
        reader.join().expect("the reader");
    });
}

#[test]
fn leaving_while_the_writer_wakes_harms_nobody_who_stays() {
    three_threads(|| {
        let tail = log(8);
        let (mut leaving, mut staying) = (tail.follow(), tail.follow());
        let writer = {
            let tail = Arc::clone(&tail);
            thread::spawn(move || {
                tail.update(|ring| ring.seal("completed"));
            })
        };
        let stayer = thread::spawn(move || follow_to_the_end(&mut staying, 1, 0));
        // One look, which may leave a waker behind, and away; the slot is taken anew at once.
        block_on(poll_fn(|cx| {
            let _ = look(&mut leaving, cx, 1);
            Poll::Ready(())
        }));
        drop(leaving);
        assert_eq!(follow_to_the_end(&mut tail.follow(), 1, 0), 0);
        assert_eq!(stayer.join().expect("the stayer"), 0);
        writer.join().expect("the writer");
        assert_eq!(tail.followers(), 0);
    });
}

#[test]
fn giving_memory_back_while_a_follower_reads_is_a_gap_and_no_hole() {
    loom::model(|| {
        let tail = log(8);
        push(&tail, 1);
        let mut follower = tail.follow();
        let writer = thread::spawn(move || {
            tail.update(|ring| ring.shrink_to(0));
            push(&tail, 2);
            tail.update(|ring| ring.seal("completed"));
        });
        let events = follow_to_the_end(&mut follower, 1, 2);
        assert!((1..=2).contains(&events));
        writer.join().expect("the writer");
    });
}

/// A waker that remembers whether it was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// In how many interleavings with a writer that seals a follower is left asleep for good, when it
/// waits in this way.
fn lost_wakes(wait: fn(&mut Follower<Log>, &mut Context<'_>) -> Poll<()>) -> usize {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    loom::model(move || {
        let tail = log(8);
        let mut follower = tail.follow();
        let writer = thread::spawn(move || {
            tail.update(|ring| ring.seal("completed"));
        });
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let answer = wait(&mut follower, &mut Context::from_waker(&waker));
        writer.join().expect("the writer");
        if answer.is_pending() && !bell.0.load(Ordering::SeqCst) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    lost.load(Ordering::SeqCst)
}

#[test]
fn looking_and_registering_are_one_step_and_apart_they_would_be_caught() {
    let together = lost_wakes(|follower, cx| follower.poll(cx, |ring| ring.end().map(|_| ())));
    assert_eq!(together, 0);
    // The lock is released between the look and the registration.
    let apart = lost_wakes(|follower, cx| {
        if follower.tail().peek(|ring| ring.end().is_some()) {
            return Poll::Ready(());
        }
        follower.poll(cx, |_| None)
    });
    assert!(apart > 0, "loom did not find the hole that is there");
}
