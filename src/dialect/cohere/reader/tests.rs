//! Streams as Cohere sends them, written down from its reference.

use proptest::prelude::*;

use super::*;

fn meaning(reader: &mut EventReader, name: &str, data: &str) -> Meaning {
    reader.read(&Event { name: name.as_bytes(), data: data.as_bytes(), id: None })
}

/// What each event means, one letter each: Content, Preamble, Done, Error, Skip; and the clean end. The same comes out
/// whether the events are named or not.
fn read(stream: &[&str]) -> (String, CleanEnd) {
    let letters = |named: bool| {
        let mut reader = EventReader::default();
        let letter = |data: &&str| {
            let said: Value = serde_json::from_str(data).unwrap_or_default();
            let name = said["type"].as_str().filter(|_| named).unwrap_or_default();
            match meaning(&mut reader, name, data) {
                Meaning::Content => 'C',
                Meaning::Replace(_) => 'R',
                Meaning::Preamble => 'P',
                Meaning::Done => 'D',
                Meaning::Error(_) => 'E',
                Meaning::Skip => 'S',
                Meaning::Filler => 'F',
            }
        };
        (stream.iter().map(letter).collect::<String>(), reader.clean_end())
    };
    assert_eq!(letters(true), letters(false));
    letters(true)
}

const START: &str = r#"{"id":"29f14a5a","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#;
const TEXT_START: &str =
    r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#;
const TEXT_END: &str = r#"{"type":"content-end","index":0}"#;
const LAST: &str = r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":3,"output_tokens":2},"tokens":{"input_tokens":9,"output_tokens":2}}}}"#;

fn says(text: &str) -> String {
    format!(r#"{{"type":"content-delta","index":0,"delta":{{"message":{{"content":{{"text":"{text}"}}}}}}}}"#)
}

#[test]
fn a_stream_begins_with_a_promise_and_ends_with_its_reason() {
    let (first, second) = (says("Hello"), says(r#" \"type\":\"message-end\" [DONE]"#));
    let stream = [START, TEXT_START, &first, &second, TEXT_END, LAST];
    assert_eq!(read(&stream), ("PPCCCD".into(), CleanEnd::Truncated));
    for cut in 0..stream.len() {
        let (letters, end) = read(&stream[..cut]);
        assert!(!letters.contains('D') && end == CleanEnd::Truncated);
    }
}

#[test]
fn tool_plans_calls_thoughts_and_citations_are_content() {
    let plan = r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#;
    let call = r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"f_1","type":"function","function":{"name":"f","arguments":""}}}}}"#;
    let arguments = r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a\":1}"}}}}}"#;
    let citation = r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":5,"text":"Hello","sources":[{"type":"document","id":"d","document":{"message":"x","error":"y"}}]}}}}"#;
    let thought =
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":"Hm"}}}}"#;
    for content in [plan, call, arguments, citation, thought] {
        assert_eq!(read(&[START, content, START]).0, "PCC", "{content}");
    }
    assert_eq!(read(&[START, plan, call, arguments, r#"{"type":"tool-call-end","index":0}"#, LAST]).0, "PCCCCD");
}

#[test]
fn every_reason_but_an_error_ends_the_answer() {
    for reason in ["COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "TOOL_CALL", "TIMEOUT"] {
        assert_eq!(read(&[&LAST.replace("COMPLETE", reason)]).0, "D", "{reason}");
    }
    for reason in ["ERROR", "ERROR_TOXIC", "ERROR_LIMIT"] {
        assert_eq!(read(&[&LAST.replace("COMPLETE", reason)]).0, "E", "{reason}");
    }
    assert_eq!(read(&[r#"{"type":"message-end","delta":{"error":"went wrong"}}"#]).0, "E");
    assert_eq!(read(&[r#"{"type":"message-end"}"#]).0, "D");
}

#[test]
fn what_says_nothing_is_left_out() {
    assert_eq!(read(&["", "[DONE]"]), ("SS".into(), CleanEnd::Truncated));
    assert_eq!(read(&[r#"{"type":"debug","prompt":"p"}"#, &says("a")]).0, "PC");
    assert_eq!(read(&["ping", "[1]", r#"{"x":1}"#]).0, "CCC", "what is not known is the client's business");
}

#[test]
fn an_error_keeps_the_vendors_words() {
    let fault_of = |name: &str, data: &str| match meaning(&mut EventReader::default(), name, data) {
        Meaning::Error(fault) => *fault,
        other => panic!("{data}: {other:?}"),
    };
    let fault = fault_of(
        "message-end",
        r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"the model is overloaded"}}"#,
    );
    assert_eq!((fault.kind, fault.recoverable, fault.status), (Kind::System, true, 502));
    assert_eq!(fault.message, "the model is overloaded");
    assert_eq!(fault.report.unwrap().kind.as_deref(), Some("ERROR"));
    let silent = fault_of("message-end", r#"{"type":"message-end","delta":{"finish_reason":"ERROR"}}"#);
    assert_eq!(silent.message, silent.code.message());
    let cases: &[(&str, &str, Kind, bool)] = &[
        ("", r#"{"id":"x","message":"m"}"#, Kind::System, true),
        ("error", r#"{"error":{"message":"m","code":429}}"#, Kind::RateLimit, true),
        ("error", "m", Kind::System, true),
        ("error", r#"{"message":"m","status_code":400}"#, Kind::Validation, false),
        ("error", r#"{"message":"m","status_code":498}"#, Kind::Business, false),
        ("error", r#"{"error":{"message":"m","code":"504"}}"#, Kind::Timeout, true),
        ("", r#"{"type":"error","error":"m"}"#, Kind::System, true),
    ];
    for (name, data, kind, recoverable) in cases {
        let fault = fault_of(name, data);
        assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (*kind, *recoverable, "m"), "{data}");
    }
}

#[test]
fn the_wait_that_a_proxy_asks_for_is_kept_within_bounds() {
    let asked = |ms: &str| {
        fault(
            format!(r#"{{"proxy_error":{{"type":"rate_limit","recoverable":true,"retry_after_ms":{ms}}}}}"#).as_bytes(),
        )
        .retry_after
    };
    assert_eq!(asked("1500"), Some(Duration::from_millis(1500)));
    assert_eq!(asked("999999999999"), Some(WAIT_CAP));
    assert_eq!(asked("-1"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(data in prop::collection::vec(any::<u8>(), 0..80), name in "(message-end|error|content-start|message|)") {
        let mut reader = EventReader::default();
        reader.read(&Event { name: name.as_bytes(), data: &data, id: None });
        reader.read(&Event { name: &data, data: name.as_bytes(), id: None });
    }

    #[test]
    fn no_change_in_an_event_makes_the_reader_panic(which in 0..3_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut data = [START, TEXT_START, LAST][which].as_bytes().to_vec();
        let at = at.index(data.len());
        data[at] = byte;
        for name in ["", "message-end", "content-start", "error"] {
            EventReader::default().read(&Event { name: name.as_bytes(), data: &data, id: None });
        }
    }
}
