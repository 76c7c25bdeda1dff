//! Answers as Cohere gives them, and what a client makes of our events.

use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::Kind;

use super::super::tests::{accumulate, as_streamed};
use super::*;

fn answers() -> Vec<Value> {
    let usage = json!({"billed_units": {"input_tokens": 3.0, "output_tokens": 2.0}, "tokens": {"input_tokens": 9, "output_tokens": 2}, "cached_tokens": 0});
    let answer = |message: Value, finish: &str| json!({"id": "c14c80c3", "finish_reason": finish, "message": message, "usage": usage});
    let mut scored = answer(json!({"role": "assistant", "content": [{"type": "text", "text": "Hé!"}]}), "MAX_TOKENS");
    scored["logprobs"] = json!([{"text": "H", "token_ids": [1], "logprobs": [-0.012_345_678_9]}, {"text": "é", "token_ids": [2, 3], "logprobs": [-0.5, -1.0]}, {"text": "other", "token_ids": [4]}]);
    let mut odd = answer(
        json!({"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "u"}, "text": "x"}, {"type": "text", "text": null}, {"type": "text", "text": "", "n": 1}], "refusal": "r"}),
        "COMPLETE",
    );
    odd["warnings"] = json!(["w"]);
    vec![
        answer(
            json!({"role": "assistant", "content": [{"type": "text", "text": "Hello \"there\"\n\u{1f600}"}]}),
            "COMPLETE",
        ),
        answer(
            json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "42"}, {"type": "text", "text": "!"}]}),
            "STOP_SEQUENCE",
        ),
        answer(
            json!({"role": "assistant", "tool_plan": "I will look both up.", "tool_calls": [
                {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{\"city\": \"Paris\"}"}},
                {"id": "g_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                {"id": "h_3", "type": "function", "function": {"name": "h"}}]}),
            "TOOL_CALL",
        ),
        answer(
            json!({"role": "assistant", "content": [{"type": "text", "text": "Emperor penguins."}], "citations": [
                {"start": 0, "end": 7, "text": "Emperor", "sources": [{"type": "document", "id": "doc:0", "document": {"id": "doc:0", "text": "…"}}], "type": "TEXT_CONTENT", "content_index": 0},
                {"start": 8, "end": 16, "text": "penguins", "sources": [{"type": "tool", "id": "t:0", "tool_output": {"a": 1}}], "type": "TEXT_CONTENT"}]}),
            "COMPLETE",
        ),
        answer(json!({"role": "assistant", "content": [], "tool_plan": null, "tool_calls": null}), "TIMEOUT"),
        answer(json!({"role": "assistant"}), "COMPLETE"),
        scored,
        odd,
    ]
}

fn made(answer: &Value) -> Vec<OwnedEvent> {
    events(answer.to_string().as_bytes()).unwrap()
}

#[test]
fn a_client_makes_the_same_answer_of_our_events() {
    for answer in answers() {
        assert_eq!(accumulate(&made(&answer)), as_streamed(&answer));
    }
}

#[test]
fn events_have_the_shape_that_the_api_documents() {
    let answer = br#"{
      "id": "c1", "finish_reason": "COMPLETE",
      "message": {"role": "assistant", "tool_plan": "P", "content": [{"type": "text", "text": "a b"}],
        "tool_calls": [{"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        "citations": [{"start": 0, "end": 1, "text": "a", "sources": []}]},
      "usage": {"tokens": {"input_tokens": 1}}
    }"#;
    let data: Vec<String> = events(answer).unwrap().into_iter().map(|event| event.data).collect();
    let wanted = [
        r#"{"id":"c1","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"a b"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"P"}}}"#,
        r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"f_1","type":"function","function":{"name":"f","arguments":""}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{}"}}}}}"#,
        r#"{"type":"tool-call-end","index":0}"#,
        r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"a","sources":[]}}}}"#,
        r#"{"type":"citation-end","index":0}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":1}}}}"#,
    ];
    assert_eq!(data, wanted);
}

#[test]
fn nothing_is_sent_for_what_is_empty() {
    let call = json!({"id": "f_1", "type": "function", "function": {"name": "f", "arguments": ""}});
    let content = json!([{"type": "text", "text": ""}]);
    let message = json!({"role": "assistant", "content": content, "tool_plan": "", "tool_calls": [call]});
    let events = made(&json!({ "message": message }));
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        ["message-start", "content-start", "content-end", "tool-call-start", "tool-call-end", "message-end"]
    );
}

#[test]
fn logprobs_come_with_the_text_they_are_about() {
    let pieces: Vec<(Value, Value)> = made(&answers()[6])
        .iter()
        .filter(|event| event.name == "content-delta")
        .map(|event| serde_json::from_str::<Value>(&event.data).unwrap())
        .map(|said| (said["delta"]["message"]["content"]["text"].clone(), said["logprobs"]["text"].clone()))
        .collect();
    let wanted = [("H", json!("H")), ("é", json!("é")), ("", json!("other")), ("!", Value::Null)];
    assert_eq!(pieces, wanted.map(|(text, about)| (json!(text), about)));
}

#[test]
fn numbers_and_escapes_are_passed_on_as_they_were_written() {
    let answer =
        br#"{"id":"c1","message":{"content":[],"x":1.10e1},"usage":{"n":12345678901234567890123,"s":"\ud800"}}"#;
    let events = events(answer).unwrap();
    assert!(events[0].data.contains(r#""x":1.10e1"#));
    assert!(events[1].data.contains(r#"{"n":12345678901234567890123,"s":"\ud800"}"#));
}

#[test]
fn an_answer_that_reports_an_error_is_one() {
    for answer in [
        r#"{"id":"x","message":"too much"}"#,
        r#"{"error":"too much"}"#,
        r#"{"id":"x","finish_reason":"ERROR","error":"too much","message":{"role":"assistant","content":[]}}"#,
    ] {
        let Err(NoAnswer::Fault(fault)) = events(answer.as_bytes()) else { panic!("{answer}") };
        assert_eq!((fault.kind, fault.recoverable, fault.message.as_ref()), (Kind::System, true, "too much"));
    }
    let silent = r#"{"finish_reason":"ERROR","message":{"role":"assistant","content":[]}}"#;
    assert!(matches!(events(silent.as_bytes()), Err(NoAnswer::Fault(_))));
}

#[test]
fn what_has_no_message_is_no_answer() {
    for answer in [
        "",
        "<html>",
        "null",
        "[]",
        "{}",
        r#"{"message":[]}"#,
        r#"{"message":{"content":"x"}}"#,
        r#"{"message":{"content":[1]}}"#,
        r#"{"message":{"tool_calls":[1]}}"#,
        r#"{"message":{"citations":{}}}"#,
        r#"{"message":{},"logprobs":1}"#,
    ] {
        let found = events(answer.as_bytes());
        let hollow = answer.contains("citations"); // an empty object says nothing, as null does
        assert_eq!(found.is_ok(), hollow, "{answer}");
        assert!(hollow || found == Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

#[test]
fn a_hostile_answer_does_not_grow() {
    let answer = |count: usize| format!(r#"{{"message":{{"content":[{}]}}}}"#, vec!["{}"; count].join(","));
    assert_eq!(events(answer(100_000).as_bytes()), Err(NoAnswer::NotAnAnswer));
    let made = events(answer(1000).as_bytes()).unwrap();
    assert!(made.iter().map(|event| event.data.len()).sum::<usize>() < 200_000);
}

proptest! {
    #[test]
    fn no_bytes_make_an_answer_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = events(&bytes);
    }

    #[test]
    fn no_cut_or_change_in_an_answer_makes_it_panic(which in 0..8_usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = answers()[which].to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        for event in events(&bytes).unwrap_or_default() {
            // By the grammar of JSON alone: numbers are passed on as they were written, however large.
            let said = RawObject::read(event.data.as_bytes()).unwrap();
            prop_assert_eq!(said.get("type").unwrap().get(), json!(event.name).to_string());
        }
    }
}
