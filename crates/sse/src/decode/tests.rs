//! Single cases, one rule each; what holds for all bytes is in `properties`.

use super::*;
use crate::item::{DecodeError, Item};
use crate::oracle::{OwnedItem, decode};

fn items(chunks: &[&[u8]]) -> Vec<OwnedItem> {
    let reading = decode(Limits::default(), chunks.iter().copied());
    assert_eq!(reading.error, None);
    reading.items
}

fn event(name: &str, data: &str) -> OwnedItem {
    OwnedItem::Event(name.into(), data.into(), None)
}

fn event_with_id(data: &str, id: &str) -> OwnedItem {
    OwnedItem::Event(vec![], data.into(), Some(id.into()))
}

fn finish(body: &[u8]) -> Finish {
    decode(Limits::default(), [body]).finish
}

#[test]
fn every_line_end_ends_a_line() {
    for body in ["data: a\n\n", "data: a\r\r", "data: a\r\n\r\n", "data: a\n\r", "data: a\r\n\n"] {
        assert_eq!(items(&[body.as_bytes()]), [event("", "a")], "{body:?}");
    }
}

#[test]
fn a_crlf_cut_in_two_is_one_line_end() {
    let chunks: [&[u8]; 4] = [b"data: a\r", b"\ndata: b\r", b"", b"\n\r\n"];
    assert_eq!(items(&chunks), [event("", "a\nb")]);
}

#[test]
fn a_cr_dispatches_at_once_though_its_lf_may_still_come() {
    let mut decoder = Decoder::new(Limits::default());
    let mut cursor = decoder.feed(b"data: a\r\n\r");
    assert!(matches!(cursor.next(), Some(Ok(Item::Event(_)))));
    drop(cursor);
    assert!(decoder.feed(b"\n").next().is_none());
    assert_eq!(decoder.finish(), Finish::Clean);
}

#[test]
fn one_byte_order_mark_is_dropped_at_the_start_only() {
    assert_eq!(items(&[b"\xEF\xBB\xBFdata: a\n\n"]), [event("", "a")]);
    assert_eq!(items(&[b"\xEF", b"\xBB", b"\xBFdata: a\n\n"]), [event("", "a")]);
    let second = [OwnedItem::Field(b"\xEF\xBB\xBFdata".to_vec(), b"a".to_vec())];
    assert_eq!(items(&[b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"]), second);
    assert_eq!(items(&[b"\n\xEF\xBB\xBFdata: a\n"]), second);
}

#[test]
fn half_a_byte_order_mark_is_text() {
    let half = [OwnedItem::Field(b"\xEF\xBBdata".to_vec(), b"a".to_vec())];
    assert_eq!(items(&[b"\xEF\xBBdata: a\n"]), half);
    assert_eq!(items(&[b"\xEF", b"\xBB", b"data: a\n"]), half);
    assert_eq!(finish(b"\xEF\xBB"), Finish::Partial);
    assert_eq!(finish(b"\xEF\xBB\xBF"), Finish::Clean);
}

#[test]
fn half_a_byte_order_mark_counts_against_the_limits_once_it_is_known_to_be_text() {
    let limits = Limits { line: 1, event: 9 };
    let half = decode(limits, [&b"\xEF"[..], b"\xBB"]);
    assert_eq!((half.error, half.finish), (None, Finish::Partial));
    let text = decode(limits, [&b"\xEF"[..], b"\xBB", b"\n"]);
    assert_eq!(text.error, Some(DecodeError::LineTooLong { limit: 1 }));
}

#[test]
fn a_data_field_without_value_is_an_empty_line() {
    assert_eq!(items(&[b"data\n\n"]), [event("", "")]);
    assert_eq!(items(&[b"data\ndata\n\n"]), [event("", "\n")]);
    assert_eq!(items(&[b"data: a\ndata:\n\n"]), [event("", "a\n")]);
}

#[test]
fn a_block_without_data_is_not_dispatched_and_its_name_is_forgotten() {
    assert_eq!(items(&[b"event: x\n\ndata: a\n\n"]), [event("", "a")]);
    assert_eq!(items(&[b"event: x", b"\n", b"\ndata: a\n\n"]), [event("", "a")]);
}

#[test]
fn the_last_name_of_a_block_counts() {
    assert_eq!(items(&[b"event: x\nevent: y\ndata\n\n"]), [event("y", "")]);
    assert_eq!(items(&[b"event: x\nevent\ndata\n\n"]), [event("", "")]);
    assert_eq!(items(&[b"event: x\nev", b"ent: y\ndata\n\n"]), [event("y", "")]);
    assert_eq!(items(&[b"event: x\nd", b"ata\nevent: y\n\n"]), [event("y", "")]);
}

#[test]
fn an_id_is_told_by_the_event_it_came_with_and_not_again() {
    assert_eq!(items(&[b"id: 1\ndata: a\n\ndata: b\n\n"]), [event_with_id("a", "1"), event("", "b")]);
}

#[test]
fn an_id_of_a_block_without_data_is_told_by_the_next_event() {
    assert_eq!(
        items(&[b"id: 1\n\nid: 2\n\n", b": x\n\ndata: a\n\n"]),
        [OwnedItem::Comment(b" x".to_vec()), event_with_id("a", "2")]
    );
}

#[test]
fn an_empty_id_resets_and_an_id_with_nul_is_ignored() {
    assert_eq!(
        items(&[b"id: 1\ndata: a\n\nid\ndata: b\n\nid: 3\0\ndata: c\n\n"]),
        [event_with_id("a", "1"), event_with_id("b", ""), event("", "c")]
    );
}

#[test]
fn the_last_event_id_outlives_events_and_the_body() {
    let mut decoder = Decoder::new(Limits::default());
    drop(decoder.feed(b"id: 12\ndata: a\n\ndata: b\n\n"));
    assert_eq!(decoder.last_event_id(), b"12");
    decoder.finish();
    assert_eq!(decoder.last_event_id(), b"12");
}

#[test]
fn comments_retry_and_unknown_fields_are_given_in_wire_order() {
    assert_eq!(
        items(&[b"data: a\n: c\nretry: 30\nretry: +1\nerror: {\"x\":1}\nodd\n\n"]),
        [
            OwnedItem::Comment(b" c".to_vec()),
            OwnedItem::Retry(30),
            OwnedItem::Field(b"error".to_vec(), b"{\"x\":1}".to_vec()),
            OwnedItem::Field(b"odd".to_vec(), vec![]),
            event("", "a"),
        ]
    );
}

#[test]
fn raw_bytes_come_out_unchanged() {
    let expected = OwnedItem::Event(b"\xFE".to_vec(), b"\xFF\0".to_vec(), None);
    assert_eq!(items(&[b"event:\xFE\ndata: \xFF\0\n\n"]), [expected]);
}

#[test]
fn an_event_inside_one_chunk_with_one_data_line_is_not_copied() {
    let chunk = b"event: tick\nid: 7\ndata: hello\n\n".to_vec();
    let mut decoder = Decoder::new(Limits::default());
    let mut cursor = decoder.feed(&chunk);
    let Some(Ok(Item::Event(event))) = cursor.next() else {
        panic!("no event");
    };
    let range = chunk.as_ptr_range();
    assert!(range.contains(&event.data.as_ptr()) && range.contains(&event.name.as_ptr()));
    drop(cursor);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn an_idle_decoder_holds_no_buffer() {
    let mut decoder = Decoder::new(Limits::default());
    for chunk in [&b"event: x\ndata: a\nda"[..], b"ta: b\n\n: c", b"\n\n"] {
        drop(decoder.feed(chunk));
    }
    assert_eq!(decoder.buffered(), 0);
    drop(decoder.feed(b"data: x"));
    assert!(decoder.buffered() > 0);
    drop(decoder.feed(b"\n\n"));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn a_huge_id_does_not_keep_its_buffer_when_it_is_replaced() {
    let mut decoder = Decoder::new(Limits::default());
    drop(decoder.feed(format!("id: {}\n", "x".repeat(100_000)).as_bytes()));
    drop(decoder.feed(b"id: 1\n"));
    assert!(decoder.id.capacity() <= SMALL);
}

#[test]
fn half_an_event_is_reported_and_never_given() {
    for body in ["data: a\n", "data: a", "event: x\n", "id: 1\n", ": ka", "da", "data: a\n\nx"] {
        assert_eq!(finish(body.as_bytes()), Finish::Partial, "{body:?}");
    }
    assert_eq!(items(&[b"data: a\n\ndata: b\n"]), [event("", "a")]);
}

#[test]
fn what_was_given_whole_leaves_a_clean_end() {
    for body in ["", "data: a\n\n", "data: a\n\n: ka\n", "retry: 1\n", "x: y\n", "id: 1\n\n", "\r"] {
        assert_eq!(finish(body.as_bytes()), Finish::Clean, "{body:?}");
    }
}

#[test]
fn a_line_may_be_as_long_as_its_limit_and_not_longer() {
    let limits = Limits { line: 8, event: 100 };
    let exact = decode(limits, [&b"data: ab\n\n"[..]]);
    assert_eq!((exact.items.len(), exact.error), (1, None));
    for chunks in [vec![&b"data: abc\n\n"[..]], vec![b"data: ", b"abc"], vec![b": 3456789"]] {
        let reading = decode(limits, chunks);
        assert_eq!(reading.error, Some(DecodeError::LineTooLong { limit: 8 }));
        assert_eq!(reading.finish, Finish::Partial);
    }
}

#[test]
fn joined_data_name_and_the_line_being_read_count_against_the_event() {
    let limits = Limits { line: 100, event: 12 };
    let error = |body: &[u8]| decode(limits, [body]).error;
    let too_large = Some(DecodeError::EventTooLarge { limit: 12 });
    assert_eq!(error(b"data: a\ndata: b\ndata: c\ndata: d\n\n"), None);
    assert_eq!(error(b"data: a\ndata: b\ndata: c\ndata: d\ndata: ef"), too_large);
    assert_eq!(error(b"event: abcd\ndata: ef\n\n"), None);
    assert_eq!(error(b"event: abcde\ndata: ef\n\n"), too_large);
    assert_eq!(error(b"data: abcdefg"), too_large);
}

#[test]
fn events_before_the_error_are_given_and_nothing_after_it() {
    let limits = Limits { line: 10, event: 100 };
    let mut decoder = Decoder::new(limits);
    let mut cursor = decoder.feed(b"data: a\n\ndata: abcdefg\n\ndata: b\n\n");
    assert!(matches!(cursor.next(), Some(Ok(Item::Event(_)))));
    assert_eq!(cursor.next(), Some(Err(DecodeError::LineTooLong { limit: 10 })));
    assert_eq!(cursor.next(), None);
    drop(cursor);
    assert_eq!(decoder.feed(b"data: c\n\n").next(), None);
    assert_eq!(decoder.buffered(), 0);
    assert_eq!(decoder.finish(), Finish::Partial);
}

#[test]
fn a_finished_decoder_gives_nothing_more() {
    let mut decoder = Decoder::new(Limits::default());
    drop(decoder.feed(b"data: a"));
    assert_eq!(decoder.finish(), Finish::Partial);
    assert_eq!(decoder.feed(b"\n\n").next(), None);
    assert_eq!(decoder.finish(), Finish::Clean);
}

#[test]
fn a_small_event_does_not_keep_the_buffer_of_the_huge_one_before_it() {
    let mut decoder = Decoder::new(Limits::default());
    drop(decoder.feed(format!("data: {}", "x".repeat(100_000)).as_bytes()));
    drop(decoder.feed(b"\n\ndata: a\ndata: b\nda"));
    assert!((1..=3 * SMALL).contains(&decoder.buffered()));
}
