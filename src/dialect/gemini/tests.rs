//! The wire as the rest of the program sees it.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;
use serde_json::json;
use streamkeeper_session::{Code, Fault, Kind, Report};
use streamkeeper_sse::Event;

use super::*;
use crate::dialect::Meaning;

const PATH: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";

fn with_ask<T>(method: Method, uri: &str, body: &[u8], test: impl FnOnce(&Ask<'_>) -> T) -> T {
    let (uri, headers) = (uri.parse::<Uri>().unwrap(), HeaderMap::new());
    test(&Ask { method: &method, uri: &uri, headers: &headers, body })
}

fn events_of(answer: &str) -> Result<Vec<OwnedEvent>, NoAnswer> {
    with_ask(Method::POST, PATH, b"{}", |ask| Gemini.events_of(ask, answer.as_bytes()))
}

fn told(fault: &Fault) -> ErrorEvent {
    ErrorEvent::new(fault, "r-1", Duration::from_secs(1), false)
}

fn only_event(error: &ErrorEvent) -> OwnedEvent {
    let mut events = Gemini.error_events(error, &Moment::default());
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// What the Node SDK raises, or nothing: it wants an `error` with a numeric code of an HTTP error.
fn raised(data: &str) -> Option<(u64, String, String)> {
    let block: Value = serde_json::from_str(data).unwrap();
    let error = block.get("error")?;
    let code = error["code"].as_u64().filter(|code| (400..600).contains(code))?;
    Some((code, error["status"].as_str()?.to_owned(), error["message"].as_str()?.to_owned()))
}

#[test]
fn the_wire_is_known_by_the_verb_and_streams_with_alt_sse() {
    let asks =
        |method: Method, uri: &str| with_ask(method, uri, b"{}", |ask| (Gemini::recognises(ask), Gemini.asks(ask)));
    for uri in [
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?key=k&alt=sse",
        "/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent?$alt=SSE",
        "/v1internal:streamGenerateContent?alt=sse",
    ] {
        assert_eq!(asks(Method::POST, uri), (true, Asks::Stream), "{uri}");
        assert_eq!(asks(Method::GET, uri), (false, Asks::No), "{uri}");
    }
    for uri in [
        "/v1beta/models/m:streamGenerateContent",
        "/v1beta/models/m:streamGenerateContent?alt=json",
        "/v1beta/models/m:streamGenerateContent?xalt=sse&key=alt%3Dsse",
        "/v1beta/models/m:generateContent?alt=sse",
    ] {
        assert_eq!(asks(Method::POST, uri), (true, Asks::No), "{uri}");
    }
    for uri in ["/v1beta/models/m:countTokens", "/v1beta/models/m", "/x?a=:streamGenerateContent&alt=sse"] {
        assert_eq!(asks(Method::POST, uri), (false, Asks::No), "{uri}");
    }
}

#[test]
fn nothing_may_be_put_into_these_streams() {
    let tolerance = Gemini.tolerance();
    assert!(!tolerance.ids && !tolerance.retry && !tolerance.comments && tolerance.abort_after_error);
    assert_eq!(tolerance.keep_alive, KeepAlive::BlankLine);
}

#[test]
fn the_request_without_a_stream_keeps_its_key_and_its_body() {
    let without = |uri: &str| {
        let body = r#"{"contents":[{"parts":[{"text":"é\ud800"}]}],"n":1.10}"#;
        let (uri, left) = with_ask(Method::POST, uri, body.as_bytes(), |ask| Gemini.without_stream(ask))?;
        assert_eq!(left, body);
        Some(uri.to_string())
    };
    let left = |query: &str| without(&format!("{PATH}{query}")).unwrap();
    let whole = "/v1beta/models/gemini-2.5-flash:generateContent";
    assert_eq!(left("?alt=sse"), whole);
    assert_eq!(left("?alt=sse&key=a%2Fb"), format!("{whole}?key=a%2Fb"));
    assert_eq!(left("?key=k&alt=sse&$alt=sse&x"), format!("{whole}?key=k&x"));
    assert_eq!(left(""), whole);
    assert_eq!(without("http://h:1/m:streamGenerateContent?alt=sse").unwrap(), "http://h:1/m:generateContent");
    assert_eq!(without("/v1beta/models/m:generateContent"), None);
    assert_eq!(with_ask(Method::POST, PATH, b"", |ask| Gemini.without_stream(ask)), None);
}

#[test]
fn an_error_begins_with_the_error_and_has_googles_words_and_ours() {
    let event = only_event(&told(&Fault::new(Code::IdleTimeout)));
    let message = Code::IdleTimeout.message();
    let rest = r#""recoverable":true,"request_id":"r-1","retry_after_ms":1000"#;
    assert_eq!(
        event.data,
        format!(
            r#"{{"error":{{"code":504,"message":"{message}","status":"DEADLINE_EXCEEDED","type":"timeout","severity":"error",{rest},"error_code":"idle_timeout"}},"type":"timeout","severity":"error","message":"{message}","code":"idle_timeout",{rest}}}"#
        )
    );
    assert_eq!((event.name.as_str(), event.id), ("", None));
}

#[test]
fn an_error_body_is_the_same_object() {
    for code in [Code::InvalidRequest, Code::RateLimited, Code::HeadTimeout, Code::Internal] {
        let error = told(&Fault::new(code));
        assert_eq!(only_event(&error).data.as_bytes(), Gemini.error_body(&error));
        let (number, _, message) = raised(&only_event(&error).data).unwrap();
        assert_eq!((number, message.as_str()), (u64::from(code.status()), code.message()));
    }
}

#[test]
fn what_google_reported_reaches_the_client_as_google_said_it() {
    let said = r#"{"error":{"code":429,"message":"You exceeded your quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]}}"#;
    let meaning = with_ask(Method::POST, PATH, b"{}", |ask| {
        Gemini.reader(ask).read(&Event { name: b"", data: said.as_bytes(), id: None })
    });
    let Meaning::Error(fault) = meaning else { panic!("{meaning:?}") };
    assert_eq!((fault.kind, fault.recoverable, fault.status), (Kind::RateLimit, true, 429));
    let data = only_event(&told(&fault)).data;
    assert_eq!(raised(&data).unwrap(), (429, "RESOURCE_EXHAUSTED".into(), "You exceeded your quota".into()));
    let block: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(block["error"]["error_code"], "upstream_error");
    assert_eq!(block["error"]["retry_after_ms"], 7000);
    assert_eq!(block["upstream_type"], "RESOURCE_EXHAUSTED");
}

#[test]
fn a_rich_answer_becomes_one_block_of_one_line() {
    let answer = json!({
        "candidates": [{
            "content": {"role": "model", "parts": [
                {"text": "Let me think.", "thought": true},
                {"text": "Here is \"it\":\n"},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
                {"functionCall": {"name": "f", "args": {"error": {"code": 500}, "finishReason": "x"}}, "thoughtSignature": "c2ln"},
            ]},
            "finishReason": "STOP", "index": 0, "avgLogprobs": -0.125,
            "citationMetadata": {"citationSources": [{"startIndex": 1, "endIndex": 9, "uri": "https://example.com"}]},
            "groundingMetadata": {"webSearchQueries": ["q"]},
            "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}],
        }],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5, "totalTokenCount": 8, "thoughtsTokenCount": 2},
        "modelVersion": "gemini-2.5-flash", "responseId": "r1",
    });
    let events = events_of(&serde_json::to_string_pretty(&answer).unwrap()).unwrap();
    let [only] = events.as_slice() else { panic!("{events:?}") };
    assert!(only.name.is_empty() && only.id.is_none() && !only.data.contains(['\n', '\r']));
    assert_eq!(serde_json::from_str::<Value>(&only.data).unwrap(), answer);
    let meaning = with_ask(Method::POST, PATH, b"{}", |ask| {
        let mut reader = Gemini.reader(ask);
        (reader.read(&Event { name: b"", data: only.data.as_bytes(), id: None }), reader.clean_end())
    });
    assert_eq!(meaning, (Meaning::Content, crate::dialect::CleanEnd::Complete));
}

#[test]
fn a_blocked_prompt_a_wrapped_answer_and_a_list_are_answers() {
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    let wrapped = r#"{"response":{"candidates":[{"content":{"parts":[{"text":"a"}]}}]},"traceId":"t"}"#;
    for answer in [blocked, wrapped, r#"{"candidates":[],"n":12345678901234567890123}"#] {
        assert_eq!(events_of(answer).unwrap(), [OwnedEvent::new("", answer)]);
    }
    let both = events_of(&format!("[ {wrapped} ,\n{blocked} ]")).unwrap();
    assert_eq!(both, [OwnedEvent::new("", wrapped), OwnedEvent::new("", blocked)]);
}

#[test]
fn what_is_no_answer_is_refused_and_what_reports_an_error_is_one() {
    for answer in ["", "<html>", "null", "[]", "{}", "[1]", r#"{"candidates":{}}"#, r#"[{"candidates":[]},{}]"#] {
        assert_eq!(events_of(answer), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
    for answer in [
        r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#,
        r#"[{"candidates":[]},{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]"#,
    ] {
        let Err(NoAnswer::Fault(fault)) = events_of(answer) else { panic!("{answer}") };
        assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (Kind::System, true, "m"));
    }
}

proptest! {
    #[test]
    fn every_error_block_is_one_the_sdks_raise_on(message in any::<String>(), code in any::<Option<String>>(), kind in any::<Option<String>>(), at in 0..Code::ALL.len()) {
        let report = Report { code, message: Some(message.clone()), kind, traceback: None };
        for fault in [Fault::reported(Kind::Business, false, report), Fault::new(Code::ALL[at]).message(message.clone())] {
            let event = only_event(&told(&fault));
            prop_assert!(event.name.is_empty() && event.id.is_none());
            prop_assert!(!event.data.contains(['\n', '\r']));
            prop_assert!(event.data.starts_with(r#"{"error":{"code":"#), "{}", event.data);
            prop_assert_eq!(&raised(&event.data).unwrap().2, &message);
        }
    }

    #[test]
    fn no_bytes_make_the_wire_panic(body in prop::collection::vec(any::<u8>(), 0..64), query in "[a-z=&$%]{0,12}") {
        with_ask(Method::POST, &format!("{PATH}?{query}"), &body, |ask| {
            Gemini.asks(ask);
            let _ = Gemini.without_stream(ask);
            let _ = Gemini.events_of(ask, &body);
            let _ = Gemini.rest_of(ask, &mut std::iter::empty(), &body);
        });
    }
}
