//! The work of codec and ring per event, and nothing else, for a tool that counts instructions: run it for two numbers
//! of events, and what the second has more is what that many events cost.
//!
//! `streamkeeper-bench-counted PIECE EVENTS`; scripts/count.sh does the counting.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use streamkeeper_session::{EventIdPrefix, Record, Ring, RingLimits, SessionId, Tail};
use streamkeeper_sse::{Decoder, Item, Limits};

/// Bytes of one event on the wire, blank line included.
const EVENT: usize = 200;
/// What one read of a busy stream brings.
const READ: usize = 16 * 1024;
const RING: RingLimits = RingLimits { max_events: 1_024, max_bytes: 256 << 10 };

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let piece = arguments.next().unwrap_or_default();
    let events: usize = arguments.next().and_then(|count| count.parse().ok()).ok_or("usage: PIECE EVENTS")?;
    let done = match piece.as_str() {
        "decode-one-by-one" => decode(events, EVENT),
        "decode-in-reads" => decode(events, READ),
        "append" => append(events),
        "append-and-follow" => append_and_follow(events),
        other => return Err(format!("no piece is called {other:?}")),
    };
    if done < events { Err(format!("{done} of {events} events")) } else { Ok(()) }
}

/// Feeds the decoder pieces of so many bytes.
fn decode(events: usize, piece: usize) -> usize {
    let one = format!("data: {}\n\n", "x".repeat(EVENT - 8));
    let text = one.repeat(piece.div_ceil(EVENT) * EVENT).into_bytes();
    let mut decoder = Decoder::new(Limits::default());
    let mut done = 0;
    // The text is a whole number of events and of pieces.
    for piece in text.chunks_exact(piece).cycle() {
        if done >= events {
            break;
        }
        let mut items = decoder.feed(black_box(piece));
        while let Some(item) = items.next() {
            if let Ok(Item::Event(event)) = item {
                black_box(event.data);
                done += 1;
            }
        }
    }
    done
}

/// Appends to a ring at its cap.
fn append(events: usize) -> usize {
    let mut ring = Ring::<()>::new(RING);
    let body = [b'x'; EVENT];
    (0..events).filter(|_| ring.push(black_box(&body), None).is_ok()).count()
}

/// The steady state: one event, one wake, one look, one event written out with its id.
fn append_and_follow(events: usize) -> usize {
    let ring = Ring::<()>::new(RING);
    let mut position = ring.next_seq();
    let tail = Arc::new(Tail::new(ring));
    let mut follower = tail.follow();
    let prefix = EventIdPrefix::new(SessionId::from_random(7), 1);
    let mut cx = Context::from_waker(Waker::noop());
    let mut out = Vec::with_capacity(1_024);
    let body = [b'x'; EVENT];
    let mut done = 0;
    for _ in 0..events {
        out.clear();
        let appended = tail.update(|ring| ring.push(black_box(&body), None)).is_ok();
        let read = follower.poll(&mut cx, |ring| copy_out(ring, &mut position, &prefix, &mut out));
        let waits = follower.poll(&mut cx, |ring| copy_out(ring, &mut position, &prefix, &mut out));
        black_box(&out);
        done += usize::from(appended && read == Poll::Ready(1) && waits.is_pending());
    }
    done
}

/// `None` when there is nothing new.
fn copy_out(ring: &Ring<()>, position: &mut u64, prefix: &EventIdPrefix, out: &mut Vec<u8>) -> Option<usize> {
    let mut copied = 0;
    for record in ring.iter_from(*position).ok()? {
        if let Record::Event(entry) = record {
            prefix.write_to(entry.seq, out);
            out.extend_from_slice(entry.body);
            *position = entry.seq + 1;
            copied += 1;
        }
    }
    (copied > 0).then_some(copied)
}
