//! Tool calls as servers answer them, and as they break off.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use proptest::prelude::*;
use streamkeeper_session::{Code, Fault, Kind, Report};

use super::*;

const BOTH: &str = "application/json, text/event-stream";
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"data":{"result":1}}}"#;
const ASKS: &str = r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{"error":1}}"#;
const RESULT_7: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"x"}]}}"#;

fn with_ask<T>(method: Method, headers: &[(&'static str, &str)], body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    let (uri, headers) = (Uri::from_static("/mcp?a=b"), pairs.collect::<HeaderMap>());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn posted<T>(body: &str, test: impl FnOnce(&Ask<'_>) -> T) -> T {
    with_ask(Method::POST, &[("accept", BOTH), ("content-type", "application/json")], body.as_bytes(), test)
}

/// What each event means, one letter each, and the clean end.
fn read(body: &str, stream: &[&str]) -> (String, CleanEnd) {
    let mut reader = posted(body, |ask| Mcp.reader(ask));
    let letter = |data: &&str| match reader.read(&Event { name: b"message", data: data.as_bytes(), id: None }) {
        Meaning::Content => 'C',
        Meaning::Done => 'D',
        other => panic!("{other:?}"),
    };
    (stream.iter().map(letter).collect(), reader.clean_end())
}

fn note(body: &str) -> Option<Box<str>> {
    posted(body, |ask| Mcp.note(ask))
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn spoken(fault: &Fault, note: Option<&str>) -> Vec<String> {
    let events = Mcp.error_events(&told(fault), &Moment { note, last: None });
    events
        .into_iter()
        .map(|event| {
            assert_eq!((event.name.as_str(), event.id), ("message", None));
            event.data
        })
        .collect()
}

#[test]
fn the_wire_is_known_by_its_headers_or_by_taking_json_and_events() {
    let json = ("content-type", "application/json");
    let known = |method: Method, headers: &[(&'static str, &str)]| with_ask(method, headers, b"", Mcp::recognises);
    assert!(known(Method::POST, &[("accept", BOTH), json]));
    assert!(known(Method::POST, &[("accept", "text/event-stream"), ("mcp-protocol-version", "2025-06-18")]));
    assert!(known(Method::GET, &[("accept", "text/event-stream"), ("mcp-session-id", "s")]));
    assert!(known(Method::DELETE, &[("mcp-session-id", "s")]));
    assert!(!known(Method::GET, &[("accept", BOTH), json]));
    assert!(!known(Method::POST, &[("accept", "text/event-stream"), json]));
    assert!(!known(Method::POST, &[("accept", "*/*"), json]));
    assert!(!known(Method::POST, &[("accept", BOTH), ("content-type", "text/plain")]));
}

#[test]
fn a_posts_body_is_read_and_yet_its_answer_may_be_json() {
    assert_eq!(posted(CALL, |ask| Mcp.asks(ask)), Asks::Body);
    assert!(!posted(CALL, |ask| Mcp.asks_in_body(ask)));
    let get = [("accept", "text/event-stream"), ("mcp-session-id", "s")];
    assert_eq!(with_ask(Method::GET, &get, b"", |ask| Mcp.asks(ask)), Asks::No);
    assert_eq!(with_ask(Method::DELETE, &get, b"", |ask| Mcp.asks(ask)), Asks::No);
    assert_eq!(posted(CALL, |ask| Mcp.without_stream(ask)), None);
}

#[test]
fn the_response_to_the_request_is_the_end() {
    let other = RESULT_7.replace("7", "8");
    let quoted = RESULT_7.replace(":7", ":\"7\"");
    assert_eq!(read(CALL, &["", PROGRESS, ASKS, &other, &quoted, RESULT_7]).0, "CCCCCD");
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no such tool"}}"#;
    assert_eq!(read(CALL, &[error]).0, "D", "an error of the server is its own answer");
    assert_eq!(read(CALL, &[r#"{ "id": 7, "result": null }"#]).0, "D");
    let text = CALL.replace(":7", r#":"a\u00e9""#);
    assert_eq!(read(&text, &[r#"{"result":{},"id":"aé"}"#]).0, "D", "an id may be escaped in another way");
}

#[test]
fn without_the_response_the_answer_is_truncated() {
    assert_eq!(read(CALL, &[PROGRESS, ASKS]), ("CC".into(), CleanEnd::Truncated));
    assert_eq!(read(CALL, &[]).1, CleanEnd::Truncated);
    assert_eq!(read(CALL, &["not json \"result\"", "[]", "[1]"]), ("CCC".into(), CleanEnd::Truncated));
}

#[test]
fn a_stream_without_a_request_has_no_end_of_its_own() {
    for body in ["", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, RESULT_7] {
        assert_eq!(read(body, &[PROGRESS, RESULT_7]), ("CC".into(), CleanEnd::Complete), "{body}");
    }
}

#[test]
fn a_batch_ends_with_its_last_response() {
    let batch = format!(r#"[{CALL},{PROGRESS},{}]"#, CALL.replace(":7", ":\"b\""));
    assert_eq!(note(&batch).as_deref(), Some(r#"[7,"b"]"#));
    let both = format!(r#"[{RESULT_7},{}]"#, RESULT_7.replace(":7", ":\"b\""));
    assert_eq!(read(&batch, &[&both]).0, "D");
    assert_eq!(read(&batch, &[RESULT_7, PROGRESS]), ("CC".into(), CleanEnd::Truncated));
    assert_eq!(read(&batch, &[RESULT_7, RESULT_7, &RESULT_7.replace(":7", ":\"b\"")]).0, "CCD");
    let ids: Vec<String> = spoken(&Fault::new(Code::UpstreamReset), note(&batch).as_deref());
    assert!(ids[0].starts_with(r#"{"jsonrpc":"2.0","id":7,"error":{"#) && ids[1].contains(r#""id":"b""#));
}

#[test]
fn the_id_of_the_request_is_noted_as_it_was_written() {
    assert_eq!(note(CALL).as_deref(), Some("7"));
    assert_eq!(note(r#" { "id" : "a\u00e9" , "method" : "m" } "#).as_deref(), Some(r#""a\u00e9""#));
    assert_eq!(note(&format!("[{CALL}]")).as_deref(), Some("[7]"));
    let long = CALL.replace(":7", &format!(":\"{}\"", "x".repeat(300)));
    for body in ["", "[]", "{}", RESULT_7, r#"{"id":null,"method":"m"}"#, r#"{"id":{},"method":"m"}"#, &long] {
        assert_eq!(note(body), None, "{body}");
    }
}

#[test]
fn our_error_answers_the_request() {
    let fault = Fault::new(Code::IdleTimeout);
    let std = r#"{"type":"timeout","severity":"error","message":"The upstream stopped sending events.","code":"idle_timeout","recoverable":true,"request_id":"r-1","retry_after_ms":1000}"#;
    let error = format!(r#"{{"code":-32001,"message":"The upstream stopped sending events.","data":{std}}}"#);
    assert_eq!(spoken(&fault, Some("7")), [format!(r#"{{"jsonrpc":"2.0","id":7,"error":{error}}}"#)]);
    let nobody = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#);
    assert_eq!(spoken(&fault, None), std::slice::from_ref(&nobody));
    assert_eq!(Mcp.error_body(&told(&fault)), nobody);
    assert!(spoken(&Fault::new(Code::EventTooLarge), Some("[1,2]"))[1].contains(r#""code":"event_too_large""#));
}

#[test]
fn a_json_answer_is_a_message_and_a_batch_is_one_each() {
    let made = |answer: &str| posted(CALL, |ask| Mcp.events_of(ask, answer.as_bytes()));
    let one = vec![OwnedEvent::new("message", RESULT_7)];
    assert_eq!(made(&RESULT_7.replace(',', " ,\n")), Ok(one.clone()));
    assert_eq!(made(&format!("[{RESULT_7},{RESULT_7}]")), Ok([one.clone(), one].concat()));
    for answer in ["", "[]", "{}", "1", r#"{"error":"x"}"#] {
        assert_eq!(made(answer), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

#[test]
fn a_broken_stream_is_gone_on_with_by_a_get() {
    let resume = |id: Option<&[u8]>| posted(CALL, |ask| Mcp.native_resume(ask, id, &mut std::iter::empty()));
    let made = resume(Some(b"s1_e4")).unwrap();
    assert_eq!((made.method, made.keep_body, made.uri), (Method::GET, false, Uri::from_static("/mcp?a=b")));
    assert_eq!(made.last_event_id.unwrap(), "s1_e4");
    assert_eq!(resume(None), None);
    assert_eq!(resume(Some(b"a\nb")), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64), data in r#"[\[{]{0,3}"id":(1|"a"|\[),?("result"|"error"|"method"):[1\]}]{0,4}"#) {
        let headers = [("accept", BOTH), ("content-type", "application/json")];
        for body in [body.as_slice(), data.as_bytes()] {
            with_ask(Method::POST, &headers, body, |ask| {
                let note = Mcp.note(ask);
                let mut reader = Mcp.reader(ask);
                for data in [data.as_bytes(), body] {
                    reader.read(&Event { name: b"", data, id: None });
                }
                let _ = Mcp.events_of(ask, body);
                let events = Mcp.error_events(&told(&Fault::new(Code::Internal)), &Moment { note: note.as_deref(), last: None });
                assert!(!events.is_empty());
            });
        }
    }

    #[test]
    fn our_errors_are_one_line_of_json_each(message in any::<String>(), note in prop_oneof![any::<String>(), Just("[1,\"a\"]".to_owned())], code in any::<Option<String>>()) {
        let fault = Fault::reported(Kind::Business, false, Report { code, message: Some(message), ..Report::default() });
        for data in spoken(&fault, Some(&note)) {
            prop_assert!(!data.contains(['\n', '\r']));
            let object: Value = serde_json::from_str(&data).unwrap();
            prop_assert!(object["error"]["data"]["type"] == "business" && object.get("result").is_none());
        }
    }
}
