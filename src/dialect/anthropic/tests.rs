//! The wire as the rest of the program sees it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::{Code, ErrorEvent, Fault, Kind, Report};
use streamkeeper_sse::OwnedEvent;

use super::Anthropic;
use crate::dialect::{Ask, Asks, Delivered, Dialect, Moment, Prefill};

fn with_ask<T>(method: Method, uri: &str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn only_event(error: &ErrorEvent) -> OwnedEvent {
    let mut events = Anthropic.error_events(error, &Moment::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[test]
fn the_wire_is_known_by_method_and_the_end_of_the_path() {
    for path in ["/v1/messages", "/anthropic/v1/messages?beta=true", "/proxy/x/v1/messages"] {
        assert!(with_ask(Method::POST, path, b"", Anthropic::recognises), "{path}");
        assert!(!with_ask(Method::GET, path, b"", Anthropic::recognises), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| Anthropic.asks(ask)), Asks::Body);
    }
    for path in
        ["/v1/messages/count_tokens", "/v1/messages/batches", "/v1/xmessages", "/v1/chat/completions?a=/messages"]
    {
        assert!(!with_ask(Method::POST, path, b"", Anthropic::recognises), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| Anthropic.asks(ask)), Asks::No);
    }
}

#[test]
fn any_other_path_of_messages_needs_the_vendors_header_or_a_route_that_says_so() {
    for path in ["/messages", "/v1/threads/t1/messages", "/api/messages"] {
        assert!(!with_ask(Method::POST, path, b"", Anthropic::recognises), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| Anthropic.asks(ask)), Asks::Body, "the route said so");
        let uri: Uri = path.parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        assert!(Anthropic::recognises(&Ask { method: &Method::POST, uri: &uri, headers: &headers, body: b"" }));
    }
}

#[test]
fn only_a_literal_true_asks_for_a_stream() {
    let streams =
        |body: &str| with_ask(Method::POST, "/v1/messages", body.as_bytes(), |ask| Anthropic.asks_in_body(ask));
    assert!(streams(r#"{"model":"m","stream":true}"#) && streams(r#" {"stream":false, "stream" : true} "#));
    for body in [
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"a":{"stream":true}}"#,
        r#"[{"stream":true}]"#,
        r#"{"stream":true"#,
        "",
    ] {
        assert!(!streams(body), "{body}");
    }
}

#[test]
fn the_request_without_a_stream_differs_in_nothing_else() {
    let body = br#"{"model":"m","n":123456789012345678901234567890,"stream":true,"t":1.10,"s":"\u00e9\ud800","messages":[{"stream":true}]}"#;
    let (uri, left) =
        with_ask(Method::POST, "/v1/messages?beta=true", body, |ask| Anthropic.without_stream(ask)).unwrap();
    assert_eq!(uri, "/v1/messages?beta=true");
    assert_eq!(
        left,
        r#"{"model":"m","n":123456789012345678901234567890,"t":1.10,"s":"\u00e9\ud800","messages":[{"stream":true}]}"#
    );
    assert_eq!(with_ask(Method::POST, "/v1/messages", b"[1]", |ask| Anthropic.without_stream(ask)), None);
}

#[test]
fn an_error_is_the_vendors_with_the_standard_one_in_both_objects() {
    let event = only_event(&told(&Code::IdleTimeout.into()));
    let rest = r#""severity":"error","message":"The upstream stopped sending events.","code":"idle_timeout","recoverable":true,"request_id":"r-1","retry_after_ms":1000"#;
    let inner = format!(
        r#"{{"type":"timeout_error",{rest},"error_type":"timeout","details":{{"error_code":"idle_timeout"}}}}"#
    );
    assert_eq!(event.data, format!(r#"{{"type":"error",{rest},"error":{inner}}}"#));
    assert_eq!((event.name.as_str(), event.id), ("error", None));
}

#[test]
fn every_code_is_an_error_of_the_vendors_shape() {
    let types = [
        "invalid_request_error",
        "permission_error",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    ];
    for code in Code::ALL {
        let error: Value = serde_json::from_str(&only_event(&told(&(*code).into())).data).unwrap();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code.as_str())));
        assert_eq!(error["error"]["error_type"], code.kind().as_str());
        assert_eq!(error["error"]["details"]["error_code"], code.as_str());
        assert!(types.contains(&error["error"]["type"].as_str().unwrap()), "{code}");
        assert!(error["error"]["message"].is_string() && error["request_id"] == "r-1");
    }
}

#[test]
fn an_error_body_is_the_same_object_and_keeps_the_vendors_type() {
    let report = Report {
        kind: Some("authentication_error".into()),
        message: Some("invalid x-api-key".into()),
        ..Report::default()
    };
    let error = told(&Fault::reported(Kind::Validation, false, report));
    let body: Value = serde_json::from_slice(&Anthropic.error_body(&error)).unwrap();
    assert_eq!(body["error"]["type"], "authentication_error");
    assert_eq!(body["error"]["message"], "invalid x-api-key");
    assert_eq!(
        (&body["error"]["upstream_type"], &body["error"]["error_type"]),
        (&json!("authentication_error"), &json!("validation"))
    );
    assert_eq!(body.get("retry_after_ms"), None);
    assert_eq!(only_event(&error).data.as_bytes(), Anthropic.error_body(&error));
}

#[test]
fn inner_causes_are_told_in_development_mode_only() {
    let fault = Fault::new(Code::UpstreamReset).cause("broken pipe");
    assert!(!only_event(&told(&fault)).data.contains("broken pipe"));
    let open = ErrorEvent::new(&fault, "r-1", Duration::ZERO, true);
    assert!(only_event(&open).data.contains(r#""traceback":"broken pipe""#));
}

#[test]
fn only_a_trailing_message_is_a_continuation_here() {
    let delivered = [
        r#"{"type":"message_start","message":{"content":[],"usage":{"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
    ];
    let body = br#"{"stream":true,"messages":[{"role":"user","content":"q"}]}"#;
    let continued = |prefill| {
        let mut delivered = delivered.iter().map(|data| Delivered { name: "".into(), data: (*data).into() });
        with_ask(Method::POST, "/v1/messages", body, |ask| Anthropic.continuation(ask, prefill, &mut delivered))
            .is_some()
    };
    assert!(continued(Prefill::Trailing));
    assert!(!continued(Prefill::Prefix) && !continued(Prefill::ContinueFinalMessage));
}

proptest! {
    #[test]
    fn no_error_block_is_unnamed_or_longer_than_a_line(message in any::<String>(), kind in any::<Option<String>>(), at in 0..Code::ALL.len()) {
        let report = Report { code: kind.clone(), message: Some(message.clone()), kind, traceback: None };
        for fault in [Fault::reported(Kind::Business, false, report), Fault::new(Code::ALL[at]).message(message)] {
            let event = only_event(&told(&fault));
            prop_assert!(event.name == "error" && event.id.is_none());
            prop_assert!(!event.data.contains(['\n', '\r']));
            let object: Value = serde_json::from_str(&event.data).unwrap();
            prop_assert_eq!(&object["type"], "error");
            prop_assert!(object["error"]["type"].as_str().is_some_and(|kind| kind.ends_with("_error") || kind == "request_too_large"));
        }
    }

    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64), uri in "(/[a-z0-9]{0,3})?/messages") {
        with_ask(Method::POST, &uri, &body, |ask| {
            Anthropic.asks_in_body(ask);
            Anthropic.without_stream(ask);
            let _ = Anthropic.events_of(ask, &body);
            let _ = Anthropic.continuation(ask, Prefill::Trailing, &mut std::iter::empty());
        });
    }
}
