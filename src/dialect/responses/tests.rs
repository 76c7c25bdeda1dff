//! The wire as the rest of the program sees it.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;
use serde_json::json;
use streamkeeper_session::{Code, Fault, Kind, Report};

use super::samples::{delivered, message, raw, response, streamed};
use super::*;

fn with_ask<T>(method: Method, uri: &str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn posted<T>(body: &str, test: impl FnOnce(&Ask<'_>) -> T) -> T {
    with_ask(Method::POST, "/openai/v1/responses?api-version=preview", body.as_bytes(), test)
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn error_event(error: &ErrorEvent, last: Option<Delivered<'_>>) -> OwnedEvent {
    let mut events = Responses.error_events(error, &Moment { note: None, last });
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[test]
fn a_response_that_is_streamed_again_is_this_wire_too() {
    let asks = |path| with_ask(Method::GET, path, b"", |ask| (Responses::recognises(ask), Responses.asks(ask)));
    assert_eq!(asks("/v1/responses/resp_1?stream=true&starting_after=7"), (true, Asks::Stream));
    assert_eq!(asks("/v1/responses/resp_1"), (false, Asks::No));
    assert_eq!(asks("/v1/responses/resp_1/input_items?stream=true"), (false, Asks::No));
    assert_eq!(asks("/v1/responses/?stream=true"), (false, Asks::No));
}

#[test]
fn the_wire_is_known_by_method_and_the_end_of_the_path() {
    for path in
        ["/v1/responses", "/responses", "/openai/responses?api-version=2025-04-01-preview", "/openai/v1/responses"]
    {
        assert!(with_ask(Method::POST, path, b"", Responses::recognises), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| Responses.asks(ask)), Asks::Body);
        assert_eq!(with_ask(Method::GET, path, b"", |ask| Responses.asks(ask)), Asks::No);
    }
    for path in
        ["/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/v1/myresponses", "/v1/chat/completions?x=/responses"]
    {
        assert!(!with_ask(Method::POST, path, b"", Responses::recognises), "{path}");
    }
}

#[test]
fn only_a_literal_true_asks_for_a_stream() {
    let streams = |body: &str| posted(body, |ask| Responses.asks_in_body(ask));
    assert!(streams(r#"{"model":"m","input":"x","stream":true}"#));
    for body in ["", "{}", "[]", r#"{"stream":"true"}"#, r#"{"stream":false}"#, r#"{"a":{"stream":true}}"#] {
        assert!(!streams(body), "{body}");
    }
}

#[test]
fn the_request_without_a_stream_differs_in_nothing_else() {
    let body = r#"{"model":"m","stream":true,"t":1.10,"stream_options":{"include_obfuscation":false},"input":[{"stream":true}]}"#;
    let (uri, left) = posted(body, |ask| Responses.without_stream(ask)).unwrap();
    assert_eq!(uri, "/openai/v1/responses?api-version=preview");
    assert_eq!(left, r#"{"model":"m","t":1.10,"input":[{"stream":true}]}"#);
    assert_eq!(posted("[1]", |ask| Responses.without_stream(ask)), None);
    assert_eq!(posted(r#"{"stream":true,"background":true}"#, |ask| Responses.without_stream(ask)), None);
}

#[test]
fn an_error_is_numbered_named_nested_and_flat() {
    let report = Report {
        kind: Some("server_error".into()),
        code: Some("E7".into()),
        message: Some("m\n".into()),
        traceback: Some("t".into()),
    };
    let event = error_event(
        &told(&Fault::reported(Kind::System, true, report)),
        Some(raw(r#"{"type":"response.output_text.delta","sequence_number":41}"#)),
    );
    let head = r#""severity":"error","message":"m\n","code":"upstream_error","recoverable":true,"request_id":"r-1","retry_after_ms":1000"#;
    let said = r#""upstream_code":"E7","upstream_type":"server_error""#;
    let wanted = format!(
        r#"{{"type":"error",{head},{said},"sequence_number":42,"param":null,"error":{{"type":"system",{head},"param":null,{said}}}}}"#
    );
    assert_eq!(event, OwnedEvent::new("error", wanted));
}

#[test]
fn the_number_of_an_error_follows_the_last_event_or_is_the_first() {
    let number = |last: Option<Delivered<'_>>| {
        let event = error_event(&told(&Fault::new(Code::IdleTimeout)), last);
        serde_json::from_str::<Value>(&event.data).unwrap()["sequence_number"].clone()
    };
    assert_eq!(number(None), json!(0));
    for data in ["", "x", "{}", r#"{"sequence_number":"7"}"#, r#"{"sequence_number":-1}"#] {
        assert_eq!(number(Some(raw(data))), json!(0), "{data}");
    }
    assert_eq!(number(Some(raw(r#"{"sequence_number":0}"#))), json!(1));
    assert_eq!(number(Some(raw(&format!(r#"{{"sequence_number":{}}}"#, u64::MAX)))), json!(u64::MAX));
}

#[test]
fn an_error_body_is_the_vendors_with_ours_beside_it() {
    let body: Value = serde_json::from_slice(&Responses.error_body(&told(&Fault::new(Code::RateLimited)))).unwrap();
    assert_eq!(body["error"]["message"], Code::RateLimited.message());
    assert_eq!((&body["error"]["type"], &body["type"]), (&json!("rate_limit"), &json!("rate_limit")));
    assert_eq!((&body["error"]["param"], &body["code"]), (&Value::Null, &json!("rate_limited")));
}

#[test]
fn inner_causes_are_told_in_development_mode_only() {
    let fault = Fault::new(Code::UpstreamReset).cause("broken pipe");
    assert!(!error_event(&told(&fault), None).data.contains("broken pipe"));
    let open = ErrorEvent::new(&fault, "r-1", Duration::ZERO, true);
    assert!(error_event(&open, None).data.contains(r#""traceback":"broken pipe""#));
}

#[test]
fn the_vendor_is_asked_to_go_on_only_where_it_does_so_unheard() {
    let stream = streamed("resp_1", "msg_1", &["a"]);
    let resumed = |body: &str| posted(body, |ask| Responses.native_resume(ask, None, &mut delivered(&stream[..5])));
    let uri = resumed(r#"{"stream":true,"background":true}"#).unwrap().uri;
    assert_eq!(uri, "/openai/v1/responses/resp_1?api-version=preview&stream=true&starting_after=4");
    assert!(resumed(r#"{"background":true,"store":true}"#).is_some());
    for body in ["", "{}", r#"{"background":true,"store":false}"#, r#"{"background":false}"#, r#"{"store":true}"#] {
        assert_eq!(resumed(body), None, "{body}");
    }
    let body = br#"{"background":true}"#;
    let elsewhere = with_ask(Method::POST, "/v1/other", body, |ask| {
        Responses.native_resume(ask, Some(b"7"), &mut delivered(&stream))
    });
    assert_eq!(elsewhere, None);
}

#[test]
fn a_pretty_answer_becomes_events_of_one_line_each() {
    let answer = serde_json::to_string_pretty(&response("resp_1", &[message("msg_1", "a\nb")])).unwrap();
    let events = posted("{}", |ask| Responses.events_of(ask, answer.as_bytes())).unwrap();
    assert!(events.iter().all(|event| !event.data.contains(['\n', '\r'])));
    assert_eq!(events.last().unwrap().name, "response.completed");
    assert_eq!(posted("{}", |ask| Responses.events_of(ask, b"<html>")), Err(NoAnswer::NotAnAnswer));
    let told = streamed("resp_2", "msg_2", &["a"]);
    let left = posted("{}", |ask| Responses.rest_of(ask, &mut delivered(&told[..5]), answer.as_bytes())).unwrap();
    assert!(left[0].data.contains(r#""delta":"\nb""#));
}

proptest! {
    #[test]
    fn every_error_block_is_one_named_line_with_a_number(message in any::<String>(), code in any::<Option<String>>(), at in 0..Code::ALL.len(), last in any::<u32>()) {
        let report = Report { code: code.clone(), message: Some(message.clone()), kind: code, traceback: None };
        let before = json!({ "sequence_number": last }).to_string();
        for fault in [Fault::reported(Kind::Business, false, report), Fault::new(Code::ALL[at]).message(message)] {
            let event = error_event(&told(&fault), Some(raw(&before)));
            prop_assert!(event.name == "error" && event.id.is_none() && !event.data.contains(['\n', '\r']));
            let object: Value = serde_json::from_str(&event.data).unwrap();
            prop_assert_eq!(&object["type"], "error");
            prop_assert_eq!(&object["sequence_number"], &json!(u64::from(last) + 1));
            prop_assert_eq!(&object["error"]["message"], &object["message"]);
            prop_assert_eq!(&object["error"]["type"], fault.kind.as_str());
        }
    }

    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        with_ask(Method::POST, "/v1/responses", &body, |ask| {
            Responses.asks_in_body(ask);
            Responses.without_stream(ask);
            let _ = Responses.events_of(ask, &body);
            let text = String::from_utf8_lossy(&body);
            Responses.native_resume(ask, None, &mut [raw(&text)].into_iter());
            Responses.rest_of(ask, &mut [raw(&text)].into_iter(), &body);
        });
    }
}
