//! Answers as the AI SDK's server streams them, and a client that is as strict as its own.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use proptest::prelude::*;
use streamkeeper_session::Code;

use super::*;

const START: &str = r#"{"type":"start","messageId":"m1"}"#;
const STEP: &str = r#"{"type":"start-step"}"#;
const OPEN: &str = r#"{"type":"text-start","id":"t1"}"#;
const DELTA: &str = r#"{"type":"text-delta","id":"t1","delta":"\"type\":\"error\" [DONE]"}"#;
const CLOSE: &str = r#"{"type":"text-end","id":"t1"}"#;
const STEP_END: &str = r#"{"type":"finish-step"}"#;
const FINISH: &str = r#"{"type":"finish","finishReason":"stop"}"#;
const DATA: &str = r#"{"type":"data-weather","id":"w","data":{"type":"error"}}"#;

fn with_ask<T>(method: Method, media: &'static str, body: &str, test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static(media))].into_iter().collect();
    let uri = Uri::from_static("/api/chat");
    test(&Ask { method: &method, uri: &uri, headers: &headers, body: body.as_bytes() })
}

/// What each event means, one letter each, and the clean end.
fn read(stream: &[&str]) -> (String, CleanEnd) {
    let mut reader = PartReader::default();
    let letter = |data: &&str| match reader.read(&Event { name: b"", data: data.as_bytes(), id: None }) {
        Meaning::Content => 'C',
        Meaning::Preamble => 'P',
        Meaning::Done => 'D',
        Meaning::Error(_) => 'E',
        Meaning::Skip => 'S',
        Meaning::Filler => 'F',
        other @ Meaning::Replace(_) => panic!("{other:?}"),
    };
    (stream.iter().map(letter).collect(), reader.clean_end())
}

fn fault_of(data: &str) -> Fault {
    match PartReader::default().read(&Event { name: b"", data: data.as_bytes(), id: None }) {
        Meaning::Error(fault) => *fault,
        other => panic!("{other:?}"),
    }
}

fn spoken(fault: &Fault) -> Vec<OwnedEvent> {
    AiSdk.error_events(&ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false), &Moment::default())
}

/// What a client raises that knows no other keys of these parts than the first versions of the wire had.
fn raised(events: &[OwnedEvent]) -> Option<String> {
    let mut errors = Vec::new();
    for event in events {
        assert!(event.name.is_empty() && event.id.is_none() && !event.data.contains(['\n', '\r']));
        if event.data == "[DONE]" {
            continue;
        }
        let part: Map<String, Value> = serde_json::from_str(&event.data).unwrap();
        let keys: Vec<&str> = part.keys().map(String::as_str).collect();
        let kind = part["type"].as_str().unwrap();
        if kind == "error" {
            assert_eq!(keys, ["type", "errorText"]);
            errors.push(part["errorText"].as_str().unwrap().to_owned());
        } else {
            assert!(kind.starts_with("data-") && keys == ["type", "data", "transient"]);
        }
    }
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert_eq!(errors.len(), 1);
    errors.pop()
}

#[test]
fn the_wire_is_known_by_the_header_of_its_answer() {
    let name = HeaderName::from_static("x-vercel-ai-ui-message-stream");
    let answers = |value| AiSdk::answers(&HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))]));
    assert!(answers("v1") && !answers("v2") && !AiSdk::answers(&HeaderMap::new()));
    assert!(!with_ask(Method::POST, "application/json", "", AiSdk::recognises));
}

#[test]
fn where_a_route_names_it_the_sdks_own_requests_ask_for_a_stream() {
    let asks = |method, media| with_ask(method, media, "", |ask| AiSdk.asks(ask));
    assert_eq!(asks(Method::POST, "application/json"), Asks::Body);
    assert_eq!(asks(Method::GET, "application/json"), Asks::No);
    assert_eq!(asks(Method::POST, "text/plain"), Asks::No);
    let streams = |body: &str| with_ask(Method::POST, "application/json", body, |ask| AiSdk.asks_in_body(ask));
    assert!(streams(r#"{"id":"c","messages":[],"trigger":"submit-message"}"#));
    for body in ["", "{}", r#"{"messages":[]}"#, r#"{"messages":"x","trigger":"submit-message"}"#, "[]"] {
        assert!(!streams(body), "{body}");
    }
    assert_eq!(with_ask(Method::POST, "application/json", "{}", |ask| AiSdk.without_stream(ask)), None);
}

#[test]
fn an_answer_opens_its_parts_and_ends_with_done() {
    let stream = [START, STEP, OPEN, DELTA, CLOSE, STEP_END, DATA, FINISH, "[DONE]"];
    assert_eq!(read(&stream).0, "PPPCCCCCD");
    assert_eq!(read(&[START, STEP, OPEN, DELTA, STEP, OPEN, DELTA]).0, "PPPCCCC", "later steps are no preamble");
    assert_eq!(read(&[START, r#"{"type":"tool-input-start","toolCallId":"c","toolName":"t"}"#]).0, "PC");
    assert_eq!(read(&["", " [DONE] "]).0, "SD");
}

#[test]
fn without_finish_the_answer_is_truncated_and_without_done_it_is_not() {
    assert_eq!(read(&[START, OPEN, DELTA, CLOSE, STEP_END]).1, CleanEnd::Truncated);
    assert_eq!(read(&[]).1, CleanEnd::Truncated);
    assert_eq!(read(&[START, OPEN, DELTA, FINISH]).1, CleanEnd::Unmarked);
    assert_eq!(read(&[START, OPEN, DELTA, r#"{"type":"abort"}"#]).1, CleanEnd::Unmarked);
    assert_eq!(read(&[START, DELTA, FINISH, DATA]).1, CleanEnd::Unmarked);
    assert_eq!(read(&[START, DELTA, FINISH, START, DELTA]).1, CleanEnd::Truncated, "a second message began");
}

#[test]
fn a_parts_type_is_read_however_the_part_is_written() {
    for data in [r#"{"type":"finish"}"#, r#"{ "type" : "finish" }"#, r#"{"x":{"type":"error"},"type":"fin\u0069sh"}"#] {
        assert_eq!(kind_of(data.as_bytes()).as_deref(), Some("finish"), "{data}");
    }
    for data in ["", "{}", "[]", r#"{"type":7}"#, r#"{"type":"finish"#, r#"{"type":"a\"#] {
        let kind = kind_of(data.as_bytes());
        assert!(kind.is_none() || kind.as_deref() == Some("finish"), "{data} {kind:?}");
    }
}

#[test]
fn an_error_part_has_words_and_nothing_else() {
    let fault = fault_of(r#"{"type":"error","errorText":" An error occurred. "}"#);
    assert_eq!((fault.code, fault.kind, fault.recoverable), (Code::UpstreamError, Kind::System, true));
    assert_eq!(fault.message, "An error occurred.");
    assert_eq!(fault_of(r#"{"errorText":7,"type":"error"}"#).message, Code::UpstreamError.message());
    let long = format!(r#"{{"type":"error","errorText":"{}"}}"#, "é".repeat(3000));
    assert_eq!(fault_of(&long).message.len(), MESSAGE_CAP);
}

#[test]
fn our_error_is_details_then_an_error_then_the_end() {
    let events = spoken(&Fault::new(Code::UpstreamReset));
    let std = r#"{"type":"system","severity":"error","message":"The upstream broke the connection.","code":"upstream_reset","recoverable":true,"request_id":"r-1","retry_after_ms":1000}"#;
    let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(
        data,
        [
            format!(r#"{{"type":"data-proxy-error","data":{std},"transient":true}}"#).as_str(),
            r#"{"type":"error","errorText":"The upstream broke the connection."}"#,
            "[DONE]"
        ]
    );
    assert_eq!(raised(&spoken(&Fault::new(Code::Draining))).as_deref(), Some(Code::Draining.message()));
    let error = ErrorEvent::new(&Fault::new(Code::RateLimited), "r-1", Duration::from_secs(1), false);
    let body: Value = serde_json::from_slice(&AiSdk.error_body(&error)).unwrap();
    assert_eq!((&body["type"], &body["error"]["code"]), (&json!("rate_limit"), &json!("rate_limited")));
}

#[test]
fn json_is_no_answer_but_may_be_an_error() {
    let made =
        |answer: &str| with_ask(Method::POST, "application/json", "{}", |ask| AiSdk.events_of(ask, answer.as_bytes()));
    for (answer, message) in [(r#"{"error":"no"}"#, "no"), (r#"{"error":{"message":"no","x":1}}"#, "no")] {
        let Err(NoAnswer::Fault(fault)) = made(answer) else { panic!("no fault in {answer}") };
        assert_eq!(fault.message, message);
    }
    for answer in ["", "{}", r#"{"error":null}"#, r#"{"id":"m","role":"assistant","parts":[]}"#] {
        assert_eq!(made(answer), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_wire_panic(data in prop_oneof![prop::collection::vec(any::<u8>(), 0..60), r#"\{"type":"(error|fin|\\|é)"?,?("errorText":[1"]x?"?)?\}?"#.prop_map(String::into_bytes)]) {
        PartReader::default().read(&Event { name: b"", data: &data, id: None });
        let headers = HeaderMap::new();
        let ask = Ask { method: &Method::POST, uri: &Uri::from_static("/"), headers: &headers, body: &data };
        let _ = AiSdk.asks_in_body(&ask);
        let _ = AiSdk.events_of(&ask, &data);
    }

    #[test]
    fn our_errors_pass_the_strictest_client(message in any::<String>(), at in 0..Code::ALL.len()) {
        let report = Report { message: Some(message.clone()), kind: Some(message.clone()), ..Report::default() };
        for fault in [Fault::new(Code::ALL[at]).message(message.clone()), Fault::reported(Kind::Business, false, report)] {
            prop_assert_eq!(raised(&spoken(&fault)), Some(message.clone()));
        }
    }
}
