//! Runs as LangGraph's servers stream them.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;
use streamkeeper_session::Severity;

use super::*;

const RUN: &str = r#"{"run_id":"1f0-ab","attempt":1}"#;
const OF_A_THREAD: &str = "/threads/t-1/runs/stream";

fn with_ask<T>(method: Method, uri: &str, body: &str, test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body: body.as_bytes() })
}

fn meaning(reader: &mut dyn Reader, name: &str, data: &str) -> Meaning {
    reader.read(&Event { name: name.as_bytes(), data: data.as_bytes(), id: None })
}

/// What each event means, one letter each.
fn read(stream: &[(&str, &str)]) -> (String, CleanEnd) {
    let mut reader = with_ask(Method::POST, OF_A_THREAD, "{}", |ask| LangGraph.reader(ask));
    let letter = |(name, data): &(&str, &str)| match meaning(&mut *reader, name, data) {
        Meaning::Content => 'C',
        Meaning::Preamble => 'P',
        Meaning::Done => 'D',
        Meaning::Error(_) => 'E',
        other => panic!("{other:?}"),
    };
    (stream.iter().map(letter).collect(), reader.clean_end())
}

fn fault_of(data: &str) -> Fault {
    match meaning(&mut RunReader::default(), "error", data) {
        Meaning::Error(fault) => *fault,
        other => panic!("{other:?}"),
    }
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn spoken(fault: &Fault) -> Value {
    let mut events = LangGraph.error_events(&told(fault), &Moment::default());
    let event = events.pop().unwrap();
    assert!(events.is_empty() && event.name == "error" && event.id.is_none() && !event.data.contains('\n'));
    serde_json::from_str(&event.data).unwrap()
}

#[test]
fn beginning_a_run_and_joining_one_are_known_by_their_paths() {
    for (method, uri) in [
        (Method::POST, "/runs/stream"),
        (Method::POST, "/threads/t-1/runs/stream"),
        (Method::POST, "/api/threads/t-1/runs/stream?x=1"),
        (Method::GET, "/threads/t-1/runs/r-1/stream"),
        (Method::GET, "/runs/r-1/stream?stream_mode=values"),
    ] {
        assert!(with_ask(method.clone(), uri, "", LangGraph::recognises), "{method} {uri}");
        assert_eq!(with_ask(method, uri, "", |ask| LangGraph.asks(ask)), Asks::Stream);
    }
    for (method, uri) in [
        (Method::GET, "/runs/stream"),
        (Method::POST, "/runs/wait"),
        (Method::POST, "/threads/t-1/runs"),
        (Method::POST, "/runs/r-1/stream"),
        (Method::GET, "/runs//stream"),
        (Method::POST, "/xruns/stream"),
        (Method::GET, "/threads/t-1/stream"),
    ] {
        assert!(!with_ask(method.clone(), uri, "", LangGraph::recognises), "{method} {uri}");
        assert_eq!(with_ask(method, uri, "", |ask| LangGraph.asks(ask)), Asks::No);
    }
}

#[test]
fn a_run_begins_with_its_name_and_just_ends() {
    let stream = [("metadata", RUN), ("messages/metadata", "{}"), ("messages|sub", "[]"), ("values", "{}")];
    assert_eq!(read(&stream), ("PCCC".into(), CleanEnd::Complete));
    assert_eq!(read(&[("values", "{}"), ("metadata", RUN)]).0, "CC", "a second attempt is part of the answer");
    assert_eq!(read(&[("metadata", RUN), ("values", "{}"), ("end", "null")]).0, "PCD");
    assert_eq!(read(&[("metadata", RUN), ("error", "{}")]).0, "PE");
}

#[test]
fn an_exceptions_name_tells_what_kind_of_error_it_is() {
    for (data, kind, recoverable) in [
        (r#"{"error":"ValueError","message":"m"}"#, Kind::System, true),
        (r#"{"error":"RateLimitError","message":"m"}"#, Kind::RateLimit, true),
        (r#"{"error":"TimeoutError","message":"m"}"#, Kind::Timeout, true),
        (r#"{"error":"GraphRecursionError","message":"m"}"#, Kind::Business, false),
        (r#"{"error":"UserInterrupt","message":"m"}"#, Kind::Business, false),
        (r#"{"error":"NotFoundError","message":"m"}"#, Kind::Validation, false),
        (r#"{"error":"HTTPException","message":"m","status_code":404}"#, Kind::Validation, false),
        (r#"{"error":"APIStatusError","message":"m","status_code":529}"#, Kind::System, true),
        (r#"{"status_code":429,"message":"m"}"#, Kind::RateLimit, true),
        (r#""m""#, Kind::System, true),
        ("m", Kind::System, true),
    ] {
        let fault = fault_of(data);
        assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (kind, recoverable, "m"), "{data}");
    }
    let fault = fault_of(r#"{"error":"HTTPException","message":"m","status_code":404}"#);
    let report = fault.report.unwrap();
    assert_eq!((report.kind.as_deref(), report.code.as_deref()), (Some("HTTPException"), Some("404")));
    assert_eq!(fault_of("").message, Code::UpstreamError.message());
}

#[test]
fn our_error_has_the_type_a_status_and_everything_else() {
    let got = spoken(&Fault::new(Code::IdleTimeout));
    let text = r#"{"error":"timeout","status_code":504,"type":"timeout","severity":"error","message":"The upstream stopped sending events.","code":"idle_timeout","recoverable":true,"request_id":"r-1","retry_after_ms":1000}"#;
    assert_eq!(got.to_string(), text);
    let got = spoken(&Fault::reported(Kind::RateLimit, true, Report::default()));
    assert_eq!((&got["error"], &got["status_code"]), (&"rate_limit".into(), &429.into()));
    assert_eq!(spoken(&Fault::new(Code::Internal))["severity"], Severity::Fatal.as_str());
    let body: Value = serde_json::from_slice(&LangGraph.error_body(&told(&Fault::new(Code::Overloaded)))).unwrap();
    assert_eq!((&body["status_code"], &body["detail"]), (&503.into(), &Code::Overloaded.message().into()));
}

#[test]
fn only_a_run_without_a_thread_that_tells_only_state_can_be_waited_for() {
    let without = |uri: &str, body: &str| with_ask(Method::POST, uri, body, |ask| LangGraph.without_stream(ask));
    for mode in ["", r#","stream_mode":"values""#, r#","stream_mode":["values"]"#, r#","stream_mode":null"#] {
        let body = format!(r#"{{"assistant_id":"a","input":{{}}{mode}}}"#);
        let (uri, left) = without("/api/runs/stream?x=1", &body).unwrap();
        assert_eq!((uri, left), (Uri::from_static("/api/runs/wait?x=1"), body.into()));
    }
    for (uri, body) in [
        (OF_A_THREAD, "{}"),
        ("/runs/stream", ""),
        ("/runs/stream", r#"{"stream_mode":"messages-tuple"}"#),
        ("/runs/stream", r#"{"stream_mode":["values","updates"]}"#),
        ("/runs/stream", r#"{"stream_subgraphs":true}"#),
    ] {
        assert_eq!(without(uri, body), None, "{uri} {body}");
    }
}

#[test]
fn the_last_state_is_all_that_a_stream_of_states_must_tell() {
    let made = |body: &str, answer: &str| {
        with_ask(Method::POST, "/runs/stream", body, |ask| LangGraph.events_of(ask, answer.as_bytes()))
    };
    let state = "{ \"messages\": [ {\"content\": \"a b\", \"n\": 1.0} ],\n \"error\": null }";
    let events = made("{}", state).unwrap();
    assert_eq!(events, [OwnedEvent::new("values", r#"{"messages":[{"content":"a b","n":1.0}],"error":null}"#)]);
    let Err(NoAnswer::Fault(fault)) = made("{}", r#"{"__error__":{"error":"TimeoutError","message":"late"}}"#) else {
        panic!("no fault")
    };
    assert_eq!((fault.kind, fault.message.as_ref()), (Kind::Timeout, "late"));
    assert_eq!(made(r#"{"stream_mode":"updates"}"#, state), Err(NoAnswer::NotAnAnswer));
    assert_eq!(made("{}", "<html>"), Err(NoAnswer::NotAnAnswer));
    let mut none = std::iter::empty();
    assert_eq!(with_ask(Method::POST, "/runs/stream", "{}", |ask| LangGraph.rest_of(ask, &mut none, b"{}")), None);
}

#[test]
fn a_broken_run_is_joined_and_never_begun_again() {
    let events = |data: &str| [OwnedEvent::new("metadata", data), OwnedEvent::new("values", RUN)];
    let resume = |method: Method, uri: &str, data: &str, id: Option<&[u8]>| {
        let events = events(data);
        let mut delivered = events.iter().map(Delivered::from);
        with_ask(method, uri, "{}", |ask| LangGraph.native_resume(ask, id, &mut delivered))
    };
    let made = resume(Method::POST, "/api/threads/t-1/runs/stream?k=v", RUN, Some(b"17-0")).unwrap();
    assert_eq!((made.method, made.keep_body), (Method::GET, false));
    assert_eq!(
        (made.uri.to_string().as_str(), made.last_event_id.unwrap().to_str().unwrap()),
        ("/api/threads/t-1/runs/1f0-ab/stream?k=v", "17-0")
    );
    let joined = resume(Method::GET, "/runs/r-1/stream", "", Some(b"17-0")).unwrap();
    assert_eq!((joined.method, joined.uri), (Method::GET, Uri::from_static("/runs/r-1/stream")));
    assert_eq!(resume(Method::POST, OF_A_THREAD, RUN, None), None);
    for data in ["{}", "", r#"{"run_id":""}"#, r#"{"run_id":"../x"}"#, r#"{"run_id":"a?b"}"#, r#"{"run_id":7}"#] {
        assert_eq!(resume(Method::POST, OF_A_THREAD, data, Some(b"17-0")), None, "{data}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_wire_panic(name in "error|end|metadata|[a-z|]{0,4}", data in prop::collection::vec(any::<u8>(), 0..80), uri in "(/[a-z]{0,3}){0,2}/runs/stream") {
        RunReader::default().read(&Event { name: name.as_bytes(), data: &data, id: None });
        let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
        let ask = Ask { method: &Method::POST, uri: &uri, headers: &headers, body: &data };
        let _ = LangGraph.without_stream(&ask);
        let _ = LangGraph.events_of(&ask, &data);
        let text = String::from_utf8_lossy(&data);
        let event = OwnedEvent::new("metadata", text);
        let _ = LangGraph.native_resume(&ask, Some(&data), &mut std::iter::once(Delivered::from(&event)));
    }

    #[test]
    fn our_errors_always_have_a_status_and_a_message(message in any::<String>(), at in 0..Code::ALL.len()) {
        let got = spoken(&Fault::new(Code::ALL[at]).message(message.clone()));
        prop_assert!((400..600).contains(&got["status_code"].as_u64().unwrap()));
        prop_assert_eq!(&got["message"], &Value::from(message));
    }
}
