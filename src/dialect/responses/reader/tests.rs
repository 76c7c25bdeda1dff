//! Streams in the vendor's shape, and in those of servers that speak alike.

use proptest::prelude::*;
use serde_json::json;
use streamkeeper_session::{Code, Fault, Kind};

use super::super::samples::{event, response, rich, streamed};
use super::super::script;
use super::*;

fn read(reader: &mut EventReader, name: &str, data: &str) -> Meaning {
    reader.read(&Event { name: name.as_bytes(), data: data.as_bytes(), id: None })
}

fn read_first(name: &str, data: &str) -> Meaning {
    read(&mut EventReader::default(), name, data)
}

fn fault(name: &str, data: &str) -> Fault {
    match read_first(name, data) {
        Meaning::Error(fault) => *fault,
        other => panic!("{other:?} for {data}"),
    }
}

#[test]
fn a_stream_of_the_vendor_is_preamble_then_content_then_done() {
    let events = streamed("resp_1", "msg_1", &["Hel", "lo \"error\"", ""]);
    let mut reader = EventReader::default();
    let read: Vec<Meaning> = events.iter().map(|event| read(&mut reader, &event.name, &event.data)).collect();
    let (last, others) = read.split_last().unwrap();
    assert_eq!(*last, Meaning::Done);
    assert_eq!(others[..2], [Meaning::Preamble, Meaning::Preamble]);
    assert!(others[2..].iter().all(|meaning| *meaning == Meaning::Content));
    assert_eq!(reader.clean_end(), CleanEnd::Truncated);
}

#[test]
fn unnamed_events_are_told_by_their_type_wherever_it_stands() {
    for rewritten in [
        |data: &str| data.to_owned(),
        |data: &str| data.replacen("{\"type\":", "{\"type\": ", 1),
        |data: &str| data.replacen('{', "{\"a\":[1],", 1),
    ] {
        for name in ["", "message"] {
            let mut reader = EventReader::default();
            let mut meanings = Vec::new();
            for event in streamed("resp_1", "msg_1", &["a"]) {
                meanings.push(read(&mut reader, name, &rewritten(&event.data)));
            }
            assert_eq!(meanings[..3], [Meaning::Preamble, Meaning::Preamble, Meaning::Content]);
            assert_eq!(meanings.last(), Some(&Meaning::Done));
        }
    }
}

#[test]
fn our_own_events_of_an_answer_are_read_alike() {
    let line = rich().to_string();
    let mut reader = EventReader::default();
    let events = script::whole(&super::super::answer::Answer::read(&line).unwrap());
    let done = events.iter().filter(|event| read(&mut reader, &event.name, &event.data) == Meaning::Done);
    assert_eq!(done.count(), 1);
}

#[test]
fn what_promises_nothing_is_a_preamble_before_content_only() {
    let mut reader = EventReader::default();
    let queued = json!({"type": "response.queued", "sequence_number": 1, "response": {"status": "queued"}}).to_string();
    assert_eq!(read(&mut reader, "response.queued", &queued), Meaning::Preamble);
    assert_eq!(read(&mut reader, "keepalive", r#"{"type":"keepalive","sequence_number":2}"#), Meaning::Preamble);
    assert_eq!(read(&mut reader, "", r#"{"type":"response.web_search_call.searching"}"#), Meaning::Content);
    assert_eq!(read(&mut reader, "keepalive", r#"{"type":"keepalive","sequence_number":4}"#), Meaning::Content);
    assert_eq!(read(&mut reader, "response.in_progress", "{}"), Meaning::Content);
}

#[test]
fn an_incomplete_response_is_a_whole_answer_and_a_failed_one_is_not() {
    let mut ended = response("resp_1", &[]);
    ended["status"] = json!("incomplete");
    ended["incomplete_details"] = json!({"reason": "max_output_tokens"});
    let event = event(&json!({"type": "response.incomplete", "sequence_number": 9, "response": ended}));
    assert_eq!(read_first(&event.name, &event.data), Meaning::Done);
    let mut failed = response("resp_1", &[]);
    failed["status"] = json!("failed");
    failed["error"] = json!({"code": "rate_limit_exceeded", "message": "Slow down."});
    let data = json!({"type": "response.failed", "sequence_number": 9, "response": failed}).to_string();
    for name in ["response.failed", ""] {
        let said = fault(name, &data);
        assert_eq!((said.code, said.kind, said.recoverable), (Code::UpstreamError, Kind::RateLimit, true));
        assert_eq!(said.message, "Slow down.");
        assert_eq!(said.report.unwrap().code.as_deref(), Some("rate_limit_exceeded"));
    }
}

#[test]
fn errors_in_the_stream_are_known_in_every_form() {
    let nested = r#"{"type":"error","sequence_number":3,"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"Too long.","param":"input"}}"#;
    let flat =
        r#"{"type":"error","code":"context_length_exceeded","message":"Too long.","param":null,"sequence_number":3}"#;
    let bare = r#"{"error":{"message":"Too long.","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    for (name, data) in
        [("error", nested), ("", nested), ("error", flat), ("", flat), ("message", bare), ("response.failed", bare)]
    {
        let said = fault(name, data);
        assert_eq!(
            (said.kind, said.recoverable, said.message.as_ref()),
            (Kind::Validation, false, "Too long."),
            "{data}"
        );
        assert_eq!(said.report.unwrap().code.as_deref(), Some("context_length_exceeded"), "{data}");
    }
    assert_eq!(fault("", r#"{"object":"error","message":"m","code":400}"#).kind, Kind::Validation);
    assert_eq!(fault("error", "").code, Code::UpstreamError);
    assert_eq!(fault("error", "it broke").message, "it broke");
}

#[test]
fn an_error_that_says_nothing_is_none() {
    assert_eq!(read_first("", r#"{"type":"response.output_text.delta","delta":"a","error":null}"#), Meaning::Content);
    assert_eq!(read_first("", r#"{"type":"response.created","response":{"error":null}}"#), Meaning::Preamble);
    let word = r#"{"type":"response.output_text.delta","delta":"{\"error\":{\"message\":\"x\"}}","x":["error"]}"#;
    assert_eq!(read_first("response.output_text.delta", word), Meaning::Content);
}

#[test]
fn a_foreign_terminator_does_not_make_an_answer_whole() {
    let mut reader = EventReader::default();
    read(&mut reader, "", r#"{"type":"response.output_text.delta","delta":"a"}"#);
    assert_eq!(read(&mut reader, "", "[DONE]"), Meaning::Skip);
    assert_eq!(read(&mut reader, "", ""), Meaning::Skip);
    assert_eq!(reader.clean_end(), CleanEnd::Truncated);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(name in "(error|response\\.[a-z_.]{0,12}|[a-z]{0,3})", data in prop::collection::vec(any::<u8>(), 0..80)) {
        EventReader::default().read(&Event { name: name.as_bytes(), data: &data, id: None });
    }

    #[test]
    fn no_json_makes_the_reader_panic(data in r#"\{?("(type|error|object)"|"response\.(failed|completed)"|[:,{}\[\]1"]){0,12}\}?"#) {
        EventReader::default().read(&Event { name: b"", data: data.as_bytes(), id: None });
    }
}
