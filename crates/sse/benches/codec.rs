//! The codec alone, on events of the size a model sends: `cargo bench -p streamkeeper-sse`.
#![allow(missing_docs)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use streamkeeper_sse::{Decoder, Item, Limits, write_body, write_id};

const EVENTS: usize = 4096;
/// Bytes of one block, blank line included.
const BLOCK: usize = 200;

fn main() {
    divan::main();
}

fn body() -> Vec<u8> {
    let block = format!("data: {}\n\n", "x".repeat(BLOCK - 8));
    block.repeat(EVENTS).into_bytes()
}

fn decode(body: &[u8], chunk: usize) -> usize {
    let mut decoder = Decoder::new(Limits::default());
    let mut events = 0;
    for chunk in body.chunks(chunk) {
        let mut items = decoder.feed(chunk);
        while let Some(item) = items.next() {
            if let Ok(Item::Event(event)) = item {
                black_box(event.data);
                events += 1;
            }
        }
    }
    assert_eq!(events, EVENTS);
    events
}

/// By bytes of a chunk: one event each, a read buffer's worth, and one that cuts most events.
#[divan::bench(args = [BLOCK, 16 * 1024, 150], max_time = 2)]
fn decode_events_in_chunks_of(bencher: Bencher<'_, '_>, chunk: usize) {
    let body = body();
    bencher
        .counter(BytesCount::new(body.len()))
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| decode(black_box(&body), chunk));
}

#[divan::bench(max_time = 2)]
fn encode_id_and_body(bencher: Bencher<'_, '_>) {
    let data = "x".repeat(BLOCK - 8);
    let mut out = Vec::with_capacity(2 * EVENTS * BLOCK);
    bencher.counter(BytesCount::new(EVENTS * BLOCK)).counter(ItemsCount::new(EVENTS)).bench_local(|| {
        out.clear();
        for _ in 0..EVENTS {
            write_id(b"AAAAAAAAAAAAAAAAAAAAAA.0.123", &mut out);
            write_body(black_box(b""), black_box(data.as_bytes()), &mut out);
            out.push(b'\n');
        }
        out.len()
    });
}
