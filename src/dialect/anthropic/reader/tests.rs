//! Streams as vendors send them, written down from their references.

use proptest::prelude::*;
use streamkeeper_session::{Code, Kind};

use super::*;

fn event<'a>(name: &'a str, data: &'a str) -> Event<'a> {
    Event { name: name.as_bytes(), data: data.as_bytes(), id: None }
}

/// What each event means, one letter each: Content, Preamble, Done, Error, Skip; and the clean end.
fn read(stream: &[(&str, &str)]) -> (String, CleanEnd) {
    let mut reader = MessageReader::default();
    let letter = |(name, data): &(&str, &str)| match reader.read(&event(name, data)) {
        Meaning::Content => 'C',
        Meaning::Replace(_) => 'R',
        Meaning::Preamble => 'P',
        Meaning::Done => 'D',
        Meaning::Error(_) => 'E',
        Meaning::Skip => 'S',
        Meaning::Filler => 'F',
    };
    let letters = stream.iter().map(letter).collect();
    (letters, reader.clean_end())
}

const START: (&str, &str) = (
    "message_start",
    r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#,
);
const TEXT: (&str, &str) =
    ("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#);
const PING: (&str, &str) = ("ping", r#"{"type": "ping"}"#);
const WORD: (&str, &str) = (
    "content_block_delta",
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\"type\":\"error\""}}"#,
);
const STOP: (&str, &str) = ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#);
const DELTA: (&str, &str) = (
    "message_delta",
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}"#,
);
const END: (&str, &str) = ("message_stop", r#"{"type":"message_stop"}"#);

#[test]
fn a_message_begins_with_a_promise_of_nothing_and_ends_with_its_stop() {
    let stream = [START, TEXT, PING, WORD, PING, WORD, STOP, DELTA, END];
    assert_eq!(read(&stream), ("PPPCSCCCD".into(), CleanEnd::Unmarked));
}

#[test]
fn a_stream_that_ends_before_its_stop_reason_is_truncated() {
    let stream = [START, TEXT, PING, WORD, STOP, DELTA];
    for cut in 0..stream.len() {
        assert_eq!(read(&stream[..cut]).1, CleanEnd::Truncated, "{cut}");
    }
    assert_eq!(read(&stream).1, CleanEnd::Unmarked, "only the terminator is missing");
    let counts =
        ("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":5}}"#);
    assert_eq!(read(&[START, TEXT, WORD, counts]).1, CleanEnd::Truncated);
}

#[test]
fn thoughts_and_tools_are_content_from_where_they_begin() {
    for block in [
        r#"{"type":"thinking","thinking":"","signature":""}"#,
        r#"{"type":"redacted_thinking","data":"x"}"#,
        r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#,
        r#"{"type":"text","text":"Hi"}"#,
        r#"{"type":"new_block"}"#,
    ] {
        let begin = format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
        assert_eq!(read(&[START, ("content_block_start", &begin), PING]).0, "PCS", "{block}");
    }
    let cited = r#"{"type":"content_block_start","index":0,"content_block":{"citations":[],"type":"text","text":""}}"#;
    assert_eq!(read(&[START, ("content_block_start", cited)]).0, "PP");
}

#[test]
fn only_the_first_ping_is_kept_and_only_before_content() {
    assert_eq!(read(&[PING, START, PING, PING, TEXT, WORD, PING]).0, "PPSSPCS");
}

#[test]
fn an_error_has_the_vendors_words() {
    let overloaded = r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
    let mut reader = MessageReader::default();
    reader.read(&event(WORD.0, WORD.1));
    for name in ["error", "", "message"] {
        let Meaning::Error(fault) = reader.read(&event(name, overloaded)) else { panic!("{name}") };
        assert_eq!((fault.code, fault.kind, fault.recoverable), (Code::UpstreamError, Kind::System, true));
        assert_eq!((fault.status, fault.message.as_ref()), (503, "Overloaded"));
        assert_eq!(fault.report.unwrap().kind.as_deref(), Some("overloaded_error"));
    }
    assert_eq!(read(&[("error", ""), ("error", "went wrong"), ("", r#"{"error":{"message":"m"}}"#)]).0, "EEE");
}

#[test]
fn events_without_a_name_are_read_by_their_type() {
    let stream = [START, TEXT, PING, WORD, STOP, DELTA, END].map(|(_, data)| ("", data));
    assert_eq!(read(&stream), ("PPPCCCD".into(), CleanEnd::Unmarked));
}

#[test]
fn what_is_not_known_is_passed_on_and_what_is_empty_is_not() {
    let new = ("new_event", r#"{"type":"new_event","error":{}}"#);
    assert_eq!(read(&[START, new, ("", "not JSON"), TEXT]).0, "PCCC");
    assert_eq!(read(&[START, ("content_block_delta", ""), ("message_stop", " "), ("ping", "")]).0, "PSSS");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(events in prop::collection::vec((prop::sample::select(vec!["", "content_block_start", "message_delta", "error", "ping", "x"]), prop::collection::vec(any::<u8>(), 0..60)), 0..6)) {
        let mut reader = MessageReader::default();
        for (name, data) in &events {
            reader.read(&Event { name: name.as_bytes(), data, id: None });
        }
        let _ = reader.clean_end();
    }

    #[test]
    fn no_cut_or_change_in_an_event_makes_a_reader_panic(which in 0..7_usize, cut in 0..220_usize, at in 0..220_usize, byte in any::<u8>()) {
        let (name, data) = [START, TEXT, PING, WORD, STOP, DELTA, END][which];
        let mut data = data.as_bytes().to_vec();
        let at = at % data.len();
        data[at] = byte;
        data.truncate(cut);
        for name in [name, ""] {
            MessageReader::default().read(&Event { name: name.as_bytes(), data: &data, id: None });
        }
    }
}
