//! Apps that speak as they like.

use std::time::Duration;

use http::HeaderMap;
use http::header::ACCEPT;
use proptest::prelude::*;
use streamkeeper_session::{Code, GapReason};

use super::*;

fn dialect(done_events: &[&str], done_data: &[&str]) -> GenericDialect {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    GenericDialect::new(Generic {
        done_events: owned(done_events),
        done_data: owned(done_data),
        error_events: Vec::new(),
    })
}

fn with_ask<T>(method: &Method, accept: &'static str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let headers: HeaderMap = [(ACCEPT, accept.parse().unwrap())].into_iter().collect();
    test(&Ask { method, uri: &Uri::from_static("/chat?x=1"), headers: &headers, body })
}

fn reader(dialect: &GenericDialect) -> Box<dyn Reader> {
    with_ask(&Method::GET, "*/*", b"", |ask| dialect.reader(ask))
}

fn read(dialect: &GenericDialect, name: &str, data: &str) -> Meaning {
    reader(dialect).read(&Event { name: name.as_bytes(), data: data.as_bytes(), id: None })
}

fn fault(data: &str) -> Fault {
    match read(&dialect(&[], &[]), "error", data) {
        Meaning::Error(fault) => *fault,
        other => panic!("{other:?} for {data}"),
    }
}

#[test]
fn an_accept_that_names_event_streams_and_not_json_asks_for_one() {
    let asks = |method: Method, accept| with_ask(&method, accept, b"", |ask| dialect(&[], &[]).asks(ask));
    assert_eq!(asks(Method::GET, "text/event-stream"), Asks::Stream);
    assert_eq!(asks(Method::POST, "text/event-stream, text/plain"), Asks::Stream);
    assert_eq!(asks(Method::POST, "application/json, text/event-stream"), Asks::No);
    assert_eq!(asks(Method::GET, "*/*"), Asks::No);
    assert_eq!(asks(Method::HEAD, "text/event-stream"), Asks::No);
    assert_eq!(asks(Method::OPTIONS, "text/event-stream"), Asks::No);
}

#[test]
fn without_a_configured_terminator_a_clean_end_is_the_end() {
    assert_eq!(reader(&dialect(&[], &[])).clean_end(), CleanEnd::Complete);
    assert_eq!(reader(&dialect(&["done"], &[])).clean_end(), CleanEnd::Truncated);
    assert_eq!(reader(&dialect(&[], &["[DONE]"])).clean_end(), CleanEnd::Truncated);
}

#[test]
fn configured_names_and_data_end_the_stream() {
    let dialect = dialect(&["done", "message"], &["[DONE]"]);
    assert_eq!(read(&dialect, "done", r#"{"token_count":3}"#), Meaning::Done);
    assert_eq!(read(&dialect, "token", "[DONE]"), Meaning::Done);
    assert_eq!(read(&dialect, "token", " [DONE]"), Meaning::Content);
    assert_eq!(read(&dialect, "", "an event without a name is a message"), Meaning::Done);
    assert_eq!(read(&self::dialect(&[], &[]), "done", ""), Meaning::Content);
}

#[test]
fn an_apps_own_error_is_understood() {
    let said = fault(
        r#"{"type":"timeout","severity":"error","message":"Generation timeout","code":"E1","recoverable":false,"retry_after_ms":1500}"#,
    );
    assert_eq!(
        (said.code, said.kind, said.recoverable, said.message.as_ref()),
        (Code::UpstreamError, Kind::Timeout, false, "Generation timeout")
    );
    assert_eq!(said.retry_after, Some(Duration::from_millis(1500)));
    let nested = fault(r#"{"error":{"type":"business","message":"no","code":7}}"#);
    assert_eq!((nested.kind, nested.recoverable), (Kind::Business, false));
    assert_eq!(nested.report.unwrap().code.as_deref(), Some("7"));
    let fatal = fault(r#"{"type":"system","severity":"fatal","message":"m","traceback":"Traceback"}"#);
    assert_eq!((fatal.severity, fatal.recoverable), (Severity::Fatal, false));
    assert_eq!(fatal.report.unwrap().traceback.as_deref(), Some("Traceback"));
    let unknown = fault(r#"{"type":"ValueError","detail":"d"}"#);
    assert_eq!((unknown.kind, unknown.recoverable, unknown.message.as_ref()), (Kind::System, true, "d"));
    assert_eq!(unknown.report.unwrap().kind.as_deref(), Some("ValueError"));
}

#[test]
fn plain_text_is_the_message_of_an_error() {
    for data in ["Timeout", "\"Timeout\"", r#"{"error":"Timeout"}"#] {
        assert_eq!(fault(data).message, "Timeout", "{data}");
    }
    assert_eq!(fault("").message, Code::UpstreamError.message());
    assert_eq!(fault(&"é".repeat(4000)).message.len(), MESSAGE_CAP);
}

#[test]
fn a_warning_lets_the_stream_go_on() {
    let dialect = dialect(&[], &[]);
    assert_eq!(read(&dialect, "error", r#"{"severity":"warning","message":"slow"}"#), Meaning::Content);
    assert_eq!(read(&dialect, "error", r#"{"error":{"severity":"warning"}}"#), Meaning::Content);
}

#[test]
fn configured_error_names_replace_the_usual_one() {
    let dialect = GenericDialect::new(Generic { error_events: vec!["oops".into()], ..Generic::default() });
    assert_eq!(read(&dialect, "error", "x"), Meaning::Content);
    assert!(matches!(read(&dialect, "oops", "x"), Meaning::Error(_)));
}

#[test]
fn our_error_is_flat_and_nested_under_the_name_error() {
    let fault = Fault::new(Code::IdleTimeout).cause("inner");
    let event = only_event(&dialect(&[], &[]), &ErrorEvent::new(&fault, "r-1", Duration::from_secs(1), false));
    let std = r#""type":"timeout","severity":"error","message":"The upstream stopped sending events.","code":"idle_timeout","recoverable":true,"request_id":"r-1","retry_after_ms":1000"#;
    assert_eq!((event.name.as_str(), event.data), ("error", format!(r#"{{{std},"error":{{{std}}}}}"#)));
    let open = ErrorEvent::new(&fault, "r-1", Duration::from_secs(1), true);
    assert!(only_event(&dialect(&[], &[]), &open).data.contains(r#""traceback":"inner""#));
}

#[test]
fn a_gap_is_an_event_without_an_id() {
    let gap = Gap { from: 3, to: 9, reason: GapReason::Evicted };
    let event = dialect(&[], &[]).gap_event(&gap).unwrap();
    assert_eq!(event, OwnedEvent::new("gap", r#"{"from":3,"to":9,"reason":"evicted"}"#));
}

#[test]
fn a_body_that_says_stream_has_a_form_without_it() {
    let without =
        |body: &str| with_ask(&Method::POST, "*/*", body.as_bytes(), |ask| dialect(&[], &[]).without_stream(ask));
    let (uri, body) = without(r#"{"q":"x","stream":true,"n":1.0}"#).unwrap();
    assert_eq!((uri, &body[..]), (Uri::from_static("/chat?x=1"), &br#"{"q":"x","n":1.0}"#[..]));
    for body in ["", r#"{"stream":false}"#, r#"{"q":"x"}"#, "[]"] {
        assert_eq!(without(body), None, "{body}");
    }
}

#[test]
fn a_json_answer_is_one_event_and_the_configured_end() {
    let made = |dialect: &GenericDialect, answer: &str| {
        with_ask(&Method::GET, "*/*", b"", |ask| dialect.events_of(ask, answer.as_bytes()))
    };
    let answer = "{\n  \"a\": 1.0,\n  \"error\": null\n}";
    let one = OwnedEvent::new("", r#"{"a":1.0,"error":null}"#);
    assert_eq!(made(&dialect(&[], &[]), answer).unwrap(), std::slice::from_ref(&one));
    assert_eq!(made(&dialect(&["done"], &[]), answer).unwrap(), [one.clone(), OwnedEvent::new("done", "{}")]);
    assert_eq!(made(&dialect(&["done"], &["", "[DONE]"]), answer).unwrap(), [one, OwnedEvent::new("", "[DONE]")]);
    assert_eq!(made(&dialect(&[], &[]), "<html>"), Err(NoAnswer::NotAnAnswer));
    let Err(NoAnswer::Fault(fault)) = made(&dialect(&[], &[]), r#"{"error":"no luck"}"#) else { panic!("an answer") };
    assert_eq!(fault.message, "no luck");
}

proptest! {
    #[test]
    fn no_bytes_make_the_dialect_panic(name in "error|done|[a-z]{0,3}", data in prop::collection::vec(any::<u8>(), 0..80)) {
        let dialect = dialect(&["done"], &["[DONE]"]);
        reader(&dialect).read(&Event { name: name.as_bytes(), data: &data, id: None });
        with_ask(&Method::POST, "*/*", &data, |ask| {
            let _ = dialect.without_stream(ask);
            let _ = dialect.events_of(ask, &data);
        });
    }
}

fn only_event(dialect: &dyn Dialect, error: &ErrorEvent) -> OwnedEvent {
    let mut events = dialect.error_events(error, &Moment::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}
