//! Any bytes in any chunks: the decoder never panics, agrees with the naive oracle, and gives the
//! same however the body was cut.
//!
//! Input: one byte that picks the limits, one that picks the cuts, then the body as sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamkeeper_sse::oracle::{cut, decode, read};
use streamkeeper_sse::{Decoder, Limits};

fuzz_target!(|input: &[u8]| {
    let [size, seed, body @ ..] = input else {
        return;
    };
    let limits = match size {
        b'0' => Limits::default(),
        _ => Limits {
            line: usize::from(size % 16) * 8,
            event: usize::from(size / 16) * 8,
        },
    };
    let expected = read(limits, body);
    assert_eq!(decode(limits, [body]), expected, "in one chunk");
    assert_eq!(decode(limits, body.chunks(1)), expected, "byte by byte");
    let chunks = cut(body, u64::from(*seed));
    assert_eq!(
        decode(limits, chunks.iter().copied()),
        expected,
        "in {chunks:?}"
    );

    let mut decoder = Decoder::new(limits);
    for chunk in chunks {
        drop(decoder.feed(chunk));
        assert!(
            decoder.buffered() <= 2 * limits.event + 3 * 64,
            "limits hold"
        );
    }
    decoder.finish();
    assert_eq!(decoder.buffered(), 0, "the end frees all");
});
