//! What keeping an event costs. Numbers compare only within one run on one machine.
//!
//! `cargo bench -p streamkeeper-session --bench ring`

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use divan::Bencher;
use divan::counter::ItemsCount;
use streamkeeper_session::{EventIdPrefix, Record, Ring, RingLimits, SessionId, Tail};

const LIMITS: RingLimits = RingLimits { max_events: 1_024, max_bytes: 256 << 10 };
const BODY: [u8; 200] = [b'x'; 200];
const BATCH: u64 = 1_000;

fn main() {
    divan::main();
}

/// A ring that has been at its cap for a while.
fn at_its_cap() -> Ring<()> {
    let mut ring = Ring::new(LIMITS);
    for _ in 0..4 * LIMITS.max_events {
        ring.push(&BODY, None).expect("open");
    }
    ring
}

#[divan::bench(max_time = 1)]
fn push_200_bytes_at_the_cap(bencher: Bencher) {
    let mut ring = at_its_cap();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            ring.push(black_box(&BODY), None).expect("open");
        }
    });
}

/// The steady state: one event, one wake, one look, one event written out with its id.
#[divan::bench(max_time = 1)]
fn push_and_follow_one_by_one(bencher: Bencher) {
    let ring = at_its_cap();
    let mut position = ring.next_seq();
    let tail = Arc::new(Tail::new(ring));
    let mut follower = tail.follow();
    let prefix = EventIdPrefix::new(SessionId::from_random(7), 1);
    let mut cx = Context::from_waker(Waker::noop());
    let mut out = Vec::with_capacity(1_024);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            out.clear();
            tail.update(|ring| ring.push(black_box(&BODY), None)).expect("open");
            let read = follower.poll(&mut cx, |ring| copy_out(ring, &mut position, &prefix, &mut out));
            assert!(read.is_ready());
            let waits = follower.poll(&mut cx, |ring| copy_out(ring, &mut position, &prefix, &mut out));
            assert_eq!(waits, Poll::Pending);
            black_box(&out);
        }
    });
}

#[divan::bench(max_time = 1)]
fn replay_a_full_ring(bencher: Bencher) {
    let ring = at_its_cap();
    bencher.counter(ItemsCount::new(ring.len())).bench_local(|| {
        let records = ring.iter_from(ring.first_seq()).expect("no gap");
        records.map(|record| matches!(record, Record::Event(entry) if entry.body.len() == 200)).filter(|ok| *ok).count()
    });
}

/// The dearest case: the id is not there and all 1,024 records are looked at.
#[divan::bench(max_time = 1)]
fn find_kept_searches_in_vain(bencher: Bencher) {
    let mut ring = Ring::<()>::new(LIMITS);
    for number in 0..2 * LIMITS.max_events {
        ring.push(&BODY, Some(format!("upstream-{number:08}").as_bytes())).expect("open");
    }
    bencher.counter(ItemsCount::new(ring.len())).bench_local(|| ring.find_kept(black_box(b"upstream-99999999")));
}

#[divan::bench(max_time = 1)]
fn find_kept_of_the_newest(bencher: Bencher) {
    let mut ring = Ring::<()>::new(LIMITS);
    for number in 0..2 * LIMITS.max_events {
        ring.push(&BODY, Some(format!("upstream-{number:08}").as_bytes())).expect("open");
    }
    bencher.bench_local(|| ring.find_kept(black_box(b"upstream-00002047")));
}

fn copy_out(ring: &Ring<()>, position: &mut u64, prefix: &EventIdPrefix, out: &mut Vec<u8>) -> Option<usize> {
    let before = out.len();
    for record in ring.iter_from(*position).ok()? {
        if let Record::Event(entry) = record {
            prefix.write_to(entry.seq, out);
            out.extend_from_slice(entry.body);
            *position = entry.seq + 1;
        }
    }
    (out.len() > before).then_some(out.len())
}
