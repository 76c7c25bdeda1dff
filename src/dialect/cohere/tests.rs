//! The wire as the rest of the program sees it.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;
use streamkeeper_session::{Code, Fault, Kind, Report};
use streamkeeper_sse::Event;

use super::*;
use crate::dialect::Meaning;

fn with_ask<T>(method: Method, uri: &str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn only_event(error: &ErrorEvent) -> OwnedEvent {
    let mut events = Cohere.error_events(error, &Moment::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[test]
fn the_wire_is_known_by_the_path_and_streams_by_the_body() {
    let known =
        |method: Method, uri: &str| with_ask(method, uri, b"", |ask| (Cohere::recognises(ask), Cohere.asks(ask)));
    for uri in ["/v2/chat", "/compat/v2/chat?x=1", "/providers/cohere/v2/chat"] {
        assert_eq!(known(Method::POST, uri), (true, Asks::Body), "{uri}");
        assert_eq!(known(Method::GET, uri), (false, Asks::No), "{uri}");
    }
    for uri in ["/v1/chat", "/v2/chat/completions", "/xv2/chat", "/v2/embed?a=/v2/chat", "/"] {
        assert_eq!(known(Method::POST, uri), (false, Asks::No), "{uri}");
    }
    let streams = |body: &str| with_ask(Method::POST, "/v2/chat", body.as_bytes(), |ask| Cohere.asks_in_body(ask));
    assert!(streams(r#"{"stream":false, "stream" : true}"#));
    for body in [r#"{"stream":false}"#, r#"{"stream":"true"}"#, r#"{"x":{"stream":true}}"#, r#"[{"stream":true}]"#, ""]
    {
        assert!(!streams(body), "{body}");
    }
}

#[test]
fn the_clients_survive_our_ids_but_must_see_the_body_break() {
    let tolerance = Cohere.tolerance();
    assert!(tolerance.ids && tolerance.retry && tolerance.comments && tolerance.abort_after_error);
    assert_eq!(tolerance.keep_alive, crate::dialect::KeepAlive::Comment);
}

#[test]
fn the_request_without_a_stream_says_so_and_differs_in_nothing_else() {
    let without = |body: &str| {
        let (uri, left) = with_ask(Method::POST, "/v2/chat?a=b", body.as_bytes(), |ask| Cohere.without_stream(ask))?;
        assert_eq!(uri, "/v2/chat?a=b");
        Some(String::from_utf8(left.to_vec()).unwrap())
    };
    let body = r#"{"model":"m","stream":STREAM,"seed":123456789012345678901234567890,"p":1.10,"s":"é\ud800","z":{"stream":true}}"#;
    assert_eq!(without(&body.replace("STREAM", "true")).unwrap(), body.replace("STREAM", "false"));
    assert_eq!(without("[1]"), None);
    assert_eq!(without(""), None);
}

#[test]
fn an_error_is_a_failed_end_with_everything_beside_it() {
    let event = only_event(&told(&Fault::new(Code::IdleTimeout)));
    let message = Code::IdleTimeout.message();
    assert_eq!(
        event.data,
        format!(
            r#"{{"type":"message-end","delta":{{"finish_reason":"ERROR","error":"{message}"}},"proxy_error":{{"type":"timeout","severity":"error","message":"{message}","code":"idle_timeout","recoverable":true,"request_id":"r-1","retry_after_ms":1000}}}}"#
        )
    );
    assert_eq!((event.name.as_str(), event.id), ("message-end", None));
}

#[test]
fn an_error_body_is_cohere_s_with_ours_in_it() {
    for code in [Code::InvalidRequest, Code::RateLimited, Code::HeadTimeout, Code::Internal] {
        let body = Cohere.error_body(&told(&Fault::new(code)));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["id"], &body["message"]), (&json!("r-1"), &json!(code.message())));
        assert_eq!((&body["code"], &body["type"]), (&json!(code.as_str()), &json!(code.kind().as_str())));
        assert_eq!(body["error"]["code"], code.as_str());
    }
}

#[test]
fn our_error_is_understood_by_another_proxy_of_our_kind() {
    for code in Code::ALL {
        let error = told(&Fault::new(*code));
        let event = only_event(&error);
        let meaning = with_ask(Method::POST, "/v2/chat", b"{}", |ask| {
            let event = Event { name: event.name.as_bytes(), data: event.data.as_bytes(), id: None };
            Cohere.reader(ask).read(&event)
        });
        let Meaning::Error(fault) = meaning else { panic!("{meaning:?}") };
        assert_eq!(
            (fault.kind, fault.recoverable, fault.message.as_ref()),
            (code.kind(), code.recoverable(), code.message())
        );
        assert_eq!(fault.report.unwrap().code.as_deref(), Some(code.as_str()));
    }
}

proptest! {
    #[test]
    fn every_error_is_one_line_that_is_named_as_it_says(message in any::<String>(), code in any::<Option<String>>(), at in 0..Code::ALL.len()) {
        let report = Report { code: code.clone(), message: Some(message.clone()), kind: code, traceback: None };
        for fault in [Fault::reported(Kind::Business, false, report), Fault::new(Code::ALL[at]).message(message.clone())] {
            let event = only_event(&told(&fault));
            prop_assert!(event.id.is_none() && !event.data.contains(['\n', '\r']));
            let end: Value = serde_json::from_str(&event.data).unwrap();
            prop_assert_eq!(end["type"].as_str().unwrap(), &event.name);
            prop_assert_eq!(&end["delta"], &json!({"finish_reason": "ERROR", "error": message}));
            prop_assert_eq!(&end["proxy_error"]["message"], &json!(message));
        }
    }

    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        with_ask(Method::POST, "/v2/chat", &body, |ask| {
            Cohere.asks_in_body(ask);
            let _ = Cohere.without_stream(ask);
            let _ = Cohere.events_of(ask, &body);
            let _ = Cohere.rest_of(ask, &mut std::iter::empty(), &body);
        });
    }
}

/// A client as the tests need it: puts the events of a stream together to the answer they stand for. Every event must
/// be one line that is named as its type says, and the last one must end the stream. Test code only.
pub(super) fn accumulate(events: &[OwnedEvent]) -> Value {
    let mut whole = json!({ "message": {} });
    let mut logprobs = Vec::new();
    for event in events {
        assert!(event.id.is_none() && !event.data.contains(['\n', '\r']));
        let said: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(said["type"], json!(event.name), "name and type are the same");
        let (index, delta) = (said["index"].as_u64().map(|index| index as usize), &said["delta"]["message"]);
        let list = |whole: &mut Value, field: &str, value: &Value| {
            let list = whole["message"][field].as_array_mut().expect("the start showed it empty");
            assert_eq!(list.len(), index.unwrap(), "indices count up");
            list.push(value.clone());
        };
        match event.name.as_str() {
            "message-start" => {
                assert_eq!(whole, json!({"message": {}}), "there is one start and it comes first");
                whole["message"] = delta.clone();
                let others =
                    said.as_object().unwrap().iter().filter(|(key, _)| !["type", "delta"].contains(&key.as_str()));
                others.for_each(|(key, value)| whole[key.as_str()] = value.clone());
            }
            "content-start" => list(&mut whole, "content", &delta["content"]),
            "content-delta" => {
                grow(&mut whole["message"]["content"][index.unwrap()], &delta["content"]);
                logprobs.extend(said.get("logprobs").cloned());
            }
            "tool-plan-delta" => grow(&mut whole["message"], delta),
            "tool-call-start" => list(&mut whole, "tool_calls", &delta["tool_calls"]),
            "tool-call-delta" => grow(&mut whole["message"]["tool_calls"][index.unwrap()], &delta["tool_calls"]),
            "citation-start" => list(&mut whole, "citations", &delta["citations"]),
            "content-end" | "tool-call-end" | "citation-end" => assert!(index.is_some() && said.get("delta").is_none()),
            "message-end" => {
                let ended = said["delta"].as_object().unwrap();
                ended.iter().for_each(|(key, value)| whole[key.as_str()] = value.clone());
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.iter().position(|event| event.name == END), Some(events.len() - 1));
    if !logprobs.is_empty() {
        whole["logprobs"] = logprobs.into();
    }
    whole
}

fn grow(known: &mut Value, more: &Value) {
    match (known, more) {
        (Value::String(known), Value::String(more)) => known.push_str(more),
        (Value::Object(known), Value::Object(more)) => {
            more.iter().for_each(|(key, value)| grow(known.entry(key.as_str()).or_insert(Value::Null), value));
        }
        (known, more) => *known = more.clone(),
    }
}

/// `answer` as a stream shows it: what the start shows empty is there even if the answer leaves it out.
pub(super) fn as_streamed(answer: &Value) -> Value {
    let mut streamed = answer.clone();
    for (field, empty) in
        [("content", json!([])), ("tool_plan", json!("")), ("tool_calls", json!([])), ("citations", json!([]))]
    {
        if streamed["message"][field].is_null() {
            streamed["message"][field] = empty;
        }
    }
    streamed
}
