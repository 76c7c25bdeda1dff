//! The wire as the rest of the program sees it.

use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::{Code, ErrorEvent, Fault, Kind, Report};

use streamkeeper_sse::OwnedEvent;

use super::{OpenAi, Wishes};
use crate::dialect::{Ask, Asks, Dialect, Moment};

fn with_ask<T>(method: Method, uri: &str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn streams(body: &[u8]) -> bool {
    with_ask(Method::POST, "/v1/chat/completions", body, |ask| OpenAi.asks_in_body(ask))
}

fn without_stream(body: &str) -> Option<String> {
    let uri = "/openai/deployments/x/chat/completions?api-version=1";
    let (left, body) = with_ask(Method::POST, uri, body.as_bytes(), |ask| OpenAi.without_stream(ask))?;
    assert_eq!(left, uri);
    Some(String::from_utf8(body.to_vec()).unwrap())
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

#[test]
fn the_wire_is_known_by_method_and_the_end_of_the_path() {
    let known = |method: Method, uri| with_ask(method, uri, b"", OpenAi::recognises);
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/completions",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/api/v1/chat/completions?x=/messages",
    ] {
        assert!(known(Method::POST, path), "{path}");
        assert!(!known(Method::GET, path), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| OpenAi.asks(ask)), Asks::Body);
    }
    for path in
        ["/v1/chat/completions/chatcmpl-1", "/v1/responses", "/xcompletions", "/v1/messages?a=/completions", "/"]
    {
        assert!(!known(Method::POST, path), "{path}");
        assert_eq!(with_ask(Method::POST, path, b"", |ask| OpenAi.asks(ask)), Asks::No);
    }
}

#[test]
fn only_a_literal_true_asks_for_a_stream() {
    assert!(streams(br#"{"model":"m","stream":true}"#));
    assert!(streams(br#" {"stream":false, "stream" : true} "#));
    for body in [
        r#"{"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream":1}"#,
        r#"{"nested":{"stream":true}}"#,
        r#"[{"stream":true}]"#,
        r#"{"stream":true"#,
        "",
        "\u{feff}x",
    ] {
        assert!(!streams(body.as_bytes()), "{body}");
    }
}

#[test]
fn the_body_tells_how_many_choices_and_whether_usage_is_wanted() {
    let wishes = |body: &str| Wishes::read(body.as_bytes());
    assert!(wishes(r#"{"n":1}"#).one_choice && wishes(r#"{"n":null,"prompt":"a"}"#).one_choice);
    assert!(
        !wishes(r#"{"n":2}"#).one_choice && !wishes(r#"{"prompt":["a","b"]}"#).one_choice && !wishes("").one_choice
    );
    assert!(wishes(r#"{"stream_options":{"include_usage":true}}"#).usage);
    assert!(!wishes(r#"{"stream_options":null}"#).usage && !wishes("{}").usage);
}

#[test]
fn the_request_without_a_stream_differs_in_nothing_else() {
    let body = r#"{"model":"m","seed":123456789012345678901234567890,"stream":true,"t":1.10,"s":"é\u00e9\ud800","stream_options":{"include_usage":true},"z":{"stream":true},"a":1e400}"#;
    let left = r#"{"model":"m","seed":123456789012345678901234567890,"t":1.10,"s":"é\u00e9\ud800","z":{"stream":true},"a":1e400}"#;
    assert_eq!(without_stream(body).unwrap(), left);
    assert_eq!(without_stream("{}").unwrap(), "{}");
    assert_eq!(without_stream("[1]"), None);
    assert_eq!(without_stream(""), None);
}

#[test]
fn an_error_is_unnamed_and_says_everything_nested_and_flat() {
    let report = Report {
        kind: Some("server_error".into()),
        code: Some("E7".into()),
        message: Some("m\n".into()),
        traceback: Some("t".into()),
    };
    let event = only_event(&OpenAi, &told(&Fault::reported(Kind::System, true, report)));
    let std = r#""type":"system","severity":"error","message":"m\n","code":"upstream_error","recoverable":true,"request_id":"r-1","retry_after_ms":1000,"param":null,"upstream_code":"E7","upstream_type":"server_error""#;
    assert_eq!(event.data, format!(r#"{{"error":{{{std}}},{std}}}"#));
    assert_eq!((event.name.as_str(), event.id), ("", None));
}

#[test]
fn an_error_body_is_the_same_object() {
    let error = told(&Fault::new(Code::InvalidRequest));
    let body: Value = serde_json::from_slice(&OpenAi.error_body(&error)).unwrap();
    assert_eq!(body["error"]["code"], "invalid_request");
    assert_eq!(body["error"].get("retry_after_ms"), None);
    assert_eq!(body["error"]["param"], json!(null));
    assert_eq!(only_event(&OpenAi, &error).data.as_bytes(), OpenAi.error_body(&error));
}

#[test]
fn inner_causes_are_told_in_development_mode_only() {
    let fault = Fault::new(Code::UpstreamReset).cause("broken pipe");
    assert!(!only_event(&OpenAi, &told(&fault)).data.contains("broken pipe"));
    let open = ErrorEvent::new(&fault, "r-1", Duration::ZERO, true);
    assert!(only_event(&OpenAi, &open).data.contains(r#""traceback":"broken pipe""#));
}

proptest! {
    #[test]
    fn no_error_block_has_a_name_or_a_choice_or_a_second_line(message in any::<String>(), code in any::<Option<String>>(), at in 0..Code::ALL.len()) {
        let report = Report { code: code.clone(), message: Some(message.clone()), kind: code, traceback: None };
        for fault in [Fault::reported(Kind::Business, false, report), Fault::new(Code::ALL[at]).message(message)] {
            let event = only_event(&OpenAi, &told(&fault));
            prop_assert!(event.name.is_empty() && event.id.is_none());
            prop_assert!(!event.data.contains(['\n', '\r']));
            let object: Value = serde_json::from_str(&event.data).unwrap();
            prop_assert!(object["error"].is_object() && object.get("choices").is_none());
        }
    }

    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64), uri in "(/[a-z]{0,3})?/completions") {
        with_ask(Method::POST, &uri, &body, |ask| {
            OpenAi.asks_in_body(ask);
            OpenAi.without_stream(ask);
            let _ = OpenAi.events_of(ask, &body);
        });
    }
}

fn only_event(dialect: &dyn Dialect, error: &ErrorEvent) -> OwnedEvent {
    let mut events = dialect.error_events(error, &Moment::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}
