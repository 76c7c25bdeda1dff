//! What must hold for any bytes: the decoder against the oracle, and against the encoder.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::oracle::{OwnedItem, cut, decode, events, read};
use crate::{Decoder, Finish, Limits, OwnedEvent, write_body, write_comment, write_id, write_retry};

/// A body made of the pieces that matter: line ends, field names, marks and halves of them.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            &b"\n"[..], b"\r", b"\r\n", b"\n\n", b":", b" ", b"\0", b"data", b"data:", b"data: ",
            b"id", b"id: 7", b"event", b"event:e", b"retry", b"retry:30", b"\xEF\xBB\xBF",
            b"\xEF", b"\xBB", b"\xBF", b"error: {}", b": ka\n", b"data: x\n\n",
        ])
        .prop_map(<[u8]>::to_vec),
        2 => vec(prop::sample::select(b"\r\n:data idretryevent\0\xEF\xBB\xBF".to_vec()), 1..4),
        1 => vec(any::<u8>(), 1..6),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Limits that are met now and then.
fn limits() -> impl Strategy<Value = Limits> {
    let one = || prop_oneof![0usize..60, Just(1 << 20)];
    (one(), one()).prop_map(|(line, event)| Limits { line, event })
}

/// Bytes as they may stand in a data buffer: anything without CR.
fn data() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..40)
        .prop_map(|bytes| bytes.into_iter().filter(|byte| *byte != b'\r').collect())
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    data().prop_map(|bytes| bytes.into_iter().filter(|byte| *byte != b'\n').collect())
}

fn lossy(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).into_owned().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn the_decoder_agrees_with_the_oracle(body in body(), limits in limits()) {
        prop_assert_eq!(decode(limits, [&*body]), read(limits, &body));
    }

    #[test]
    fn chunking_is_irrelevant(body in body(), limits in limits(), seed in any::<u64>()) {
        let whole = decode(limits, [&*body]);
        prop_assert_eq!(&decode(limits, cut(&body, seed)), &whole);
        prop_assert_eq!(&decode(limits, body.chunks(1)), &whole);
    }

    #[test]
    fn what_is_left_can_be_fed_later(body in body(), limits in limits(), stops in vec(1usize..4, 1..20)) {
        let mut decoder = Decoder::new(limits);
        let (mut items, mut rest, mut stops) = (Vec::new(), &*body, stops.iter().cycle());
        while !rest.is_empty() {
            let mut cursor = decoder.feed(rest);
            for _ in 0..*stops.next().unwrap_or(&1) {
                if let Some(Ok(item)) = cursor.next() {
                    items.push(OwnedItem::from(item));
                }
            }
            let left = cursor.stop();
            rest = &rest[rest.len() - left..];
        }
        let whole = decode(limits, [&*body]);
        prop_assert_eq!((items, decoder.finish()), (whole.items, whole.finish));
    }

    #[test]
    fn nothing_is_buffered_beyond_the_limits(body in body(), limits in limits(), seed in any::<u64>()) {
        let mut decoder = Decoder::new(limits);
        for chunk in cut(&body, seed) {
            drop(decoder.feed(chunk));
            // Buffers grow by doubling; three of them may keep a small one. A line and the block
            // around it share `event`.
            prop_assert!(decoder.buffered() <= 2 * limits.event + 3 * 64);
        }
        decoder.finish();
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn items_that_were_not_pulled_do_not_change_those_that_follow(body in body(), pulled in 0usize..4) {
        let mut decoder = Decoder::new(Limits::default());
        {
            let mut items = decoder.feed(&body);
            for _ in 0..pulled {
                let _ = items.next();
            }
        }
        let whole = decode(Limits::default(), [&*body]);
        prop_assert_eq!(decoder.last_event_id(), &*whole.last_event_id);
        prop_assert_eq!(decoder.finish(), whole.finish);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same(name in name(), data in data(), ms in any::<u64>()) {
        let mut wire = Vec::new();
        write_comment(&name, &mut wire);
        write_retry(ms, &mut wire);
        write_id(b"s.0.7", &mut wire);
        let replaced = write_body(&name, &data, &mut wire);
        wire.push(b'\n');
        prop_assert!(!wire.contains(&b'\r'));
        prop_assert_eq!(replaced == 0, lossy(&name) == name && lossy(&data) == data);

        let reading = decode(Limits::default(), [&*wire]);
        prop_assert_eq!(reading.finish, Finish::Clean);
        let text = match &*lossy(&name) {
            [] => vec![],
            [b' ', ..] => lossy(&name),
            bytes => [b" ", bytes].concat(),
        };
        prop_assert_eq!(reading.items, vec![
            OwnedItem::Comment(text),
            OwnedItem::Retry(ms),
            OwnedItem::Event(lossy(&name), lossy(&data), Some(b"s.0.7".to_vec())),
        ]);
    }

    #[test]
    fn every_event_read_can_be_written_and_read_again(body in body()) {
        let first = events(&decode(Limits::default(), [&*body]));
        let mut wire = Vec::new();
        first.iter().for_each(|event| event.write_block(&mut wire));
        let second: Vec<OwnedEvent> = events(&decode(Limits::default(), [&*wire]));
        prop_assert_eq!(second, first);
    }

    #[test]
    fn a_body_is_whole_lines_of_utf8_whatever_goes_in(name in vec(any::<u8>(), 0..20), data in vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        write_body(&name, &data, &mut out);
        let text = String::from_utf8(out).unwrap();
        prop_assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
        prop_assert!(text.lines().filter(|line| line.starts_with("data: ")).count() >= 1);
    }
}
