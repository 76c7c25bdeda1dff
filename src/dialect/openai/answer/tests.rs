//! Answers as vendors give them, and what their clients make of our chunks.

use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::Kind;

use super::super::accumulate::{accumulate, as_streamed};
use super::*;

fn usage() -> Value {
    json!({"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21, "prompt_tokens_details": {"cached_tokens": 0}})
}

fn answers() -> Vec<Value> {
    let choice = |index: u32, message: Value, finish: &str| json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish});
    let chat = |choices: Vec<Value>| json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_741_569_952, "model": "gpt-4o", "choices": choices, "usage": usage(), "service_tier": "default", "system_fingerprint": "fp_1"});
    let mut azure = chat(vec![choice(0, json!({"content": "Hi", "refusal": null, "role": "assistant"}), "stop")]);
    azure["prompt_filter_results"] =
        json!([{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}}]);
    azure["choices"][0]["content_filter_results"] = json!({"hate": {"filtered": false, "severity": "safe"}});
    let mut scored = chat(vec![choice(0, json!({"role": "assistant", "content": "Hi"}), "length")]);
    scored["choices"][0]["logprobs"] = json!({"content": [{"token": "Hi", "logprob": -0.012_345_678_9, "bytes": [72, 105], "top_logprobs": []}], "refusal": null});
    scored["choices"][0]["stop_reason"] = json!(null);
    vec![
        chat(vec![choice(
            0,
            json!({"role": "assistant", "content": "Hello \"there\"\n\u{1f600}", "refusal": null, "annotations": []}),
            "stop",
        )]),
        chat(vec![
            choice(1, json!({"role": "assistant", "content": "b"}), "stop"),
            choice(0, json!({"role": "assistant", "content": "a"}), "length"),
        ]),
        chat(vec![choice(
            0,
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"city\": \"Paris\"}"}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
            "tool_calls",
        )]),
        chat(vec![choice(
            0,
            json!({"role": "assistant", "content": "42", "reasoning_content": "Hm. Let me think."}),
            "stop",
        )]),
        chat(vec![choice(0, json!({"role": "assistant", "content": null, "refusal": "No."}), "stop")]),
        chat(vec![choice(
            0,
            json!({"role": "assistant", "content": null, "audio": {"id": "a1", "data": "AAA=", "expires_at": 1, "transcript": "Hi"}}),
            "stop",
        )]),
        chat(vec![choice(
            0,
            json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}}),
            "function_call",
        )]),
        azure,
        scored,
        json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [
            {"text": " one", "index": 0, "logprobs": null, "finish_reason": "length"},
            {"text": " two", "index": 1, "logprobs": {"tokens": [" two"], "token_logprobs": [-0.5], "top_logprobs": null, "text_offset": [3]}, "finish_reason": "stop", "stop_reason": null}],
            "usage": usage()}),
    ]
}

#[test]
fn an_sdk_makes_the_same_answer_of_our_chunks() {
    for mut answer in answers() {
        for asked in [true, false] {
            let streamed = accumulate(&events(answer.to_string().as_bytes(), asked).unwrap());
            answer["choices"].as_array_mut().unwrap().sort_by_key(|choice| choice["index"].as_u64());
            assert_eq!(streamed, as_streamed(&answer));
        }
    }
}

#[test]
fn chunks_come_in_the_order_that_the_api_documents() {
    let answer = br#"{
      "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
      "choices": [ {"index": 0, "message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"} ],
      "usage": {"total_tokens": 1}
    }"#;
    let data: Vec<String> = events(answer, true).unwrap().into_iter().map(|event| event.data).collect();
    let head = r#""id":"c1","object":"chat.completion.chunk","created":1,"model":"m""#;
    let chunk = |choice: &str| format!(r#"{{{head},"choices":[{choice}]}}"#);
    let wanted = [
        chunk(r#"{"index":0,"delta":{"role":"assistant","content":"a b"},"finish_reason":null}"#),
        chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#),
        format!(r#"{{{head},"choices":[],"usage":{{"total_tokens":1}}}}"#),
        "[DONE]".into(),
    ];
    assert_eq!(data, wanted);
}

#[test]
fn usage_that_was_not_asked_for_stands_on_the_last_chunk() {
    let answer =
        br#"{"id":"c1","choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"total_tokens":1}}"#;
    let events = events(answer, false).unwrap();
    let last: Value = serde_json::from_str(&events[events.len() - 2].data).unwrap();
    assert_eq!((&last["choices"][0]["finish_reason"], &last["usage"]["total_tokens"]), (&json!("stop"), &json!(1)));
    assert_eq!(events.iter().filter(|event| event.data.contains("usage")).count(), 1);
}

#[test]
fn numbers_and_escapes_are_passed_on_as_they_were_written() {
    // 1e41569952 is infinity to JavaScript and Python, and no number to serde_json.
    let answer = br#"{"id":"c1","created":12345678901234567890123,"choices":[{"message":{"content":"\ud800","x":1.10e1,"y":1e41569952}}]}"#;
    let events = events(answer, false).unwrap();
    assert!(events[0].data.contains(r#""created":12345678901234567890123,"#));
    assert!(events[0].data.contains(r#"{"content":"\ud800","x":1.10e1,"y":1e41569952}"#));
}

#[test]
fn a_reported_error_is_a_fault_and_no_answer() {
    for answer in [
        r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
        r#"{"object":"error","message":"slow down","type":"RateLimitError","code":429}"#,
        r#"[{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}]"#,
    ] {
        let Err(NoAnswer::Fault(fault)) = events(answer.as_bytes(), false) else { panic!("{answer}") };
        assert_eq!((fault.kind, fault.status, fault.message.as_ref()), (Kind::RateLimit, 429, "slow down"));
    }
    let harmless =
        r#"{"error":null,"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}"#;
    assert!(events(harmless.as_bytes(), false).unwrap().iter().all(|event| !event.data.contains("error")));
}

#[test]
fn what_has_no_choices_is_no_answer() {
    for answer in [
        "",
        "<html>",
        "null",
        "[]",
        "{}",
        r#"{"choices":[]}"#,
        r#"{"choices":{}}"#,
        r#"{"choices":[{}]}"#,
        r#"{"choices":[{"message":"x"}]}"#,
    ] {
        assert_eq!(events(answer.as_bytes(), true), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

#[test]
fn a_hostile_answer_does_not_grow() {
    let choices = |count: usize| vec![r#"{"text":"x"}"#; count].join(",");
    let long = "i".repeat(100_000);
    let answer = |count| format!(r#"{{"id":"{long}","choices":[{}]}}"#, choices(count));
    assert_eq!(events(answer(129).as_bytes(), false), Err(NoAnswer::NotAnAnswer));
    let made = events(answer(128).as_bytes(), false).unwrap();
    assert_eq!(made.len(), 129);
    assert!(made.iter().map(|event| event.data.len()).sum::<usize>() < 20_000);
}

proptest! {
    #[test]
    fn no_bytes_make_an_answer_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), usage in any::<bool>()) {
        let _ = events(&bytes, usage);
    }

    #[test]
    fn no_cut_or_change_in_an_answer_makes_it_panic(which in 0..10_usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = answers()[which].to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        for event in events(&bytes, true).unwrap_or_default() {
            // JSON by its grammar: a number beyond all of serde_json's is passed on as it was written.
            prop_assert!(event.data == DONE || serde_json::from_str::<&RawValue>(&event.data).is_ok(), "{}", event.data);
        }
    }
}
