//! Chains as LangServe streams them, and clients as its Python and JavaScript ones read them.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use proptest::prelude::*;
use streamkeeper_session::{Code, Fault, Kind};
use streamkeeper_sse::Event;

use super::*;
use crate::dialect::{CleanEnd, Meaning};

const BODY: &str = r#"{"input":{"topic":"x"},"config":{},"kwargs":{}}"#;

fn with_ask<T>(uri: &str, body: &str, test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
    let uri = uri.parse::<Uri>().unwrap();
    test(&Ask { method: &Method::POST, uri: &uri, headers: &headers, body: body.as_bytes() })
}

fn made(uri: &str, answer: &str) -> Result<Vec<OwnedEvent>, NoAnswer> {
    with_ask(uri, BODY, |ask| LangServe.events_of(ask, answer.as_bytes()))
}

fn rest(delivered: &[OwnedEvent], output: &Value) -> Option<Vec<OwnedEvent>> {
    let answer = serde_json::json!({ "output": output, "metadata": { "run_id": "r" } }).to_string();
    let mut delivered = delivered.iter().map(Delivered::from);
    with_ask("/chain/stream", BODY, |ask| LangServe.rest_of(ask, &mut delivered, answer.as_bytes()))
}

fn meaning(name: &str, data: &str) -> Meaning {
    let mut reader = with_ask("/chain/stream", BODY, |ask| LangServe.reader(ask));
    reader.read(&Event { name: name.as_bytes(), data: data.as_bytes(), id: None })
}

/// The chunks that the clients yield: Python stops at `end`, JavaScript takes whatever has data and is neither an
/// error nor metadata.
fn yielded(events: &[OwnedEvent]) -> Vec<Value> {
    let parsed = |event: &OwnedEvent| serde_json::from_str(&event.data).unwrap();
    let python = events.iter().take_while(|event| event.name != "end").filter(|event| event.name == "data");
    let python: Vec<Value> = python.map(parsed).collect();
    let js = events.iter().filter(|event| event.name != "metadata" && !event.data.is_empty()).map(parsed);
    assert_eq!(python, js.collect::<Vec<_>>());
    assert_eq!(events.iter().filter(|event| event.name == "end").count(), 1);
    assert_eq!(events.last().unwrap().name, "end");
    python
}

#[test]
fn the_wire_is_known_by_path_and_body() {
    for path in ["/stream", "/chain/stream", "/chain/c/abc/stream_log?x=1", "/chain/stream_events"] {
        assert_eq!(with_ask(path, "", |ask| LangServe.asks(ask)), Asks::Body, "{path}");
        assert!(with_ask(path, BODY, |ask| LangServe.asks_in_body(ask)));
        assert!(with_ask(path, r#"{"input":null}"#, LangServe::recognises));
        for body in [r#"{"message":"input"}"#, r#"{"a":{"input":1}}"#, "[]", "no json"] {
            assert!(!with_ask(path, body, |ask| LangServe.asks_in_body(ask)), "{body}");
            assert!(!with_ask(path, body, LangServe::recognises), "{body}");
        }
        assert!(!with_ask(path, "", |ask| LangServe.asks_in_body(ask)));
    }
    for path in ["/chain/invoke", "/chain/batch", "/livestream", "/stream/x"] {
        assert_eq!(with_ask(path, BODY, |ask| LangServe.asks(ask)), Asks::No, "{path}");
    }
    let (uri, headers) = (Uri::from_static("/chain/stream"), HeaderMap::new());
    let ask = Ask { method: &Method::POST, uri: &uri, headers: &headers, body: &[] };
    assert!(!LangServe::recognises(&ask) && !LangServe::recognises(&Ask { method: &Method::GET, ..ask }));
}

#[test]
fn a_chain_streams_data_between_metadata_and_end() {
    assert_eq!(meaning("metadata", r#"{"run_id":"r"}"#), Meaning::Preamble);
    assert_eq!(meaning("data", "\"a\""), Meaning::Content);
    assert_eq!(meaning("end", ""), Meaning::Done);
    let reader = with_ask("/chain/stream", BODY, |ask| LangServe.reader(ask));
    assert_eq!(reader.clean_end(), CleanEnd::Complete, "the server's `end` has no data and is no event");
    let Meaning::Error(fault) = meaning("error", r#"{"status_code": 500, "message": "Internal Server Error"}"#) else {
        panic!("no error")
    };
    assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (Kind::System, true, "Internal Server Error"));
    assert_eq!(fault.report.unwrap().code.as_deref(), Some("500"));
}

#[test]
fn our_error_is_one_the_client_raises() {
    let fault = Fault::new(Code::UpstreamTruncated);
    let error = ErrorEvent::new(&fault, "r-1", Duration::from_secs(1), false);
    let events = LangServe.error_events(&error, &Moment::default());
    assert_eq!((events.len(), events[0].name.as_str()), (1, "error"));
    let got: Value = serde_json::from_str(&events[0].data).unwrap();
    assert_eq!((&got["status_code"], &got["message"]), (&502.into(), &Code::UpstreamTruncated.message().into()));
    assert_eq!((&got["error"], &got["code"]), (&"system".into(), &"upstream_truncated".into()));
    let body: Value = serde_json::from_slice(&LangServe.error_body(&error)).unwrap();
    assert_eq!(body["detail"], body["message"]);
}

#[test]
fn the_same_chain_can_be_invoked() {
    let without = |uri: &str, body: &str| with_ask(uri, body, |ask| LangServe.without_stream(ask));
    let (uri, body) = without("/chain/c/abc/stream?x=1", BODY).unwrap();
    assert_eq!((uri, body), (Uri::from_static("/chain/c/abc/invoke?x=1"), BODY.into()));
    assert_eq!(without("/chain/stream_log", BODY), None);
    assert_eq!(without("/chain/stream_events", BODY), None);
    assert_eq!(without("/chain/stream", "{}"), None);
}

#[test]
fn an_invoked_output_is_the_only_chunk() {
    let message = r#"{"content":"a b","type":"ai","response_metadata":{"n":1.0},"tool_calls":[{"name":"f","args":{}}],"usage_metadata":{"total_tokens":3}}"#;
    let answer = format!(r#"{{ "output": {message}, "metadata": {{"run_id": "r", "feedback_tokens": []}} }}"#);
    let events = made("/chain/stream", &answer).unwrap();
    assert_eq!(events[0], OwnedEvent::new("metadata", r#"{"run_id":"r","feedback_tokens":[]}"#));
    assert_eq!(yielded(&events), [serde_json::from_str::<Value>(message).unwrap()]);
    assert_eq!(events.len(), 3);
    for output in ["null", "\"\"", "[1]", "{}"] {
        let events = made("/chain/stream", &format!(r#"{{"output":{output}}}"#)).unwrap();
        assert_eq!(yielded(&events), [serde_json::from_str::<Value>(output).unwrap()]);
    }
}

#[test]
fn what_is_no_output_is_no_answer() {
    for answer in ["", "[]", "{}", r#"{"detail":"x"}"#] {
        assert_eq!(made("/chain/stream", answer), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
    assert_eq!(made("/chain/stream_log", r#"{"output":1}"#), Err(NoAnswer::NotAnAnswer));
    let Err(NoAnswer::Fault(fault)) = made("/chain/stream", r#"{"status_code":429,"message":"slow down"}"#) else {
        panic!("no fault")
    };
    assert_eq!((fault.kind, fault.message.as_ref()), (Kind::RateLimit, "slow down"));
}

#[test]
fn there_is_no_rest_of_what_is_not_text_or_differs() {
    let data = |value: &str| OwnedEvent::new("data", value);
    let text = Value::from("Hello");
    assert!(rest(&[data("\"Hel\"")], &text).is_some());
    assert_eq!(rest(&[data("\"Hal\"")], &text), None);
    assert_eq!(rest(&[data("\"Hello you\"")], &text), None);
    assert_eq!(rest(&[data(r#"{"content":"Hel","type":"AIMessageChunk"}"#)], &text), None);
    assert_eq!(rest(&[data("\"Hel\""), OwnedEvent::new("end", "")], &text), None);
    assert_eq!(rest(&[data("\"Hel\"")], &serde_json::json!({"content": "Hello"})), None);
}

proptest! {
    #[test]
    fn text_cut_anywhere_is_whole_again(pieces in prop::collection::vec("[a é\"\\\\]{0,4}", 1..8), cut in 0_usize..8) {
        let whole = pieces.concat();
        let cut = cut.min(pieces.len());
        let chunks = pieces[..cut].iter().map(|piece| OwnedEvent::new("data", quoted(piece)));
        let mut events: Vec<_> = [OwnedEvent::new("metadata", r#"{"run_id":"r"}"#)].into_iter().chain(chunks).collect();
        let left = rest(&events, &Value::from(whole.as_str())).unwrap();
        events.extend(left);
        let said: String = yielded(&events).iter().map(|chunk| chunk.as_str().unwrap().to_owned()).collect();
        prop_assert_eq!(said, whole);
    }

    #[test]
    fn no_bytes_make_the_wire_panic(name in "error|end|data|[a-z]{0,3}", data in any::<String>(), uri in "(/[a-z]{0,3}){0,2}/stream(_log)?") {
        meaning(&name, &data);
        with_ask(&uri, &data, |ask| {
            let _ = LangServe.asks_in_body(ask);
            let _ = LangServe.without_stream(ask);
            let _ = LangServe.events_of(ask, data.as_bytes());
        });
    }
}
