//! Answers as the vendor gives them, and what its clients make of our events.

use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::Kind;

use super::super::accumulate::accumulate;
use super::*;

/// One message with everything in it that the vendor documents.
fn rich() -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "container": {"id": "c1", "expires_at": "2026-01-01T00:00:00Z"},
        "content": [
            {"type": "thinking", "thinking": "Let me \"see\".\n\u{1f600}", "signature": "EqQB=="},
            {"type": "thinking", "thinking": "", "signature": "omitted=="},
            {"type": "redacted_thinking", "data": "EmwKAhg="},
            {"type": "text", "text": "I look.", "citations": null},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a b"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result", "url": "https://example.com", "title": "T", "encrypted_content": "E=", "page_age": null}]},
            {"type": "text", "text": "It is so.", "citations": [
                {"type": "web_search_result_location", "url": "https://example.com", "title": "T", "encrypted_index": "I=", "cited_text": "so"},
                {"type": "char_location", "cited_text": "is", "document_index": 0, "document_title": null, "start_char_index": 0, "end_char_index": 2}]},
            {"type": "text", "text": ""},
            {"type": "mcp_tool_use", "id": "m1", "name": "f", "server_name": "s", "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "m1", "is_error": false, "content": [{"type": "text", "text": "ok", "citations": []}]},
            {"type": "container_upload", "file_id": "f1"},
            {"type": "block_of_the_future", "text": "x", "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris \u{e9}", "days": [1, 2.5, {"deep": null}]}, "caller": {"type": "direct"}},
            {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null, "stop_details": null,
        "context_management": {"applied_edits": []},
        "usage": {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 77, "server_tool_use": {"web_search_requests": 1}, "service_tier": "standard"}})
}

fn plain(content: &Value, stop: &Value, sequence: &Value) -> Value {
    json!({"id": "msg_2", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop,
        "stop_sequence": sequence, "usage": {"input_tokens": 1, "output_tokens": 2}})
}

fn answers() -> Vec<Value> {
    let mut refused = plain(&json!([]), &json!("refusal"), &json!(null));
    refused["stop_details"] = json!({"type": "refusal", "category": "cyber", "explanation": null});
    vec![
        rich(),
        plain(&json!([{"type": "text", "text": "Hi"}]), &json!("end_turn"), &json!(null)),
        plain(&json!([{"type": "text", "text": "1 2"}]), &json!("stop_sequence"), &json!("3")),
        plain(&json!([]), &json!("end_turn"), &json!(null)),
        refused,
    ]
}

#[test]
fn an_sdk_makes_the_same_answer_of_our_events() {
    for answer in answers() {
        let made = events(answer.to_string().as_bytes()).unwrap();
        assert_eq!(accumulate(&made), answer);
    }
}

#[test]
fn events_come_in_the_order_that_the_api_documents() {
    let answer = br#"{ "id": "m1", "type": "message", "role": "assistant", "model": "m",
        "content": [ {"type": "thinking", "thinking": "Hm", "signature": "S="},
                     {"type": "text", "text": "a b", "citations": [ {"type": "char_location"} ]},
                     {"type": "tool_use", "id": "t", "name": "f", "input": {"x": "a b"}} ],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 5} }"#;
    let made = events(answer).unwrap();
    let wanted = [
        r#"{"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":0}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"S="}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a b"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location"}}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":\"a b\"}"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":1,"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    assert_eq!(made.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), wanted);
}

#[test]
fn redacted_thoughts_results_and_unknown_blocks_are_whole_where_they_begin() {
    let made = events(rich().to_string().as_bytes()).unwrap();
    for (index, kind) in [(2, "redacted_thinking"), (5, "web_search_tool_result"), (11, "block_of_the_future")] {
        let of_block: Vec<&OwnedEvent> =
            made.iter().filter(|event| event.data.contains(&format!(r#","index":{index},"#))).collect();
        assert_eq!(of_block.len(), 1, "no delta");
        assert!(of_block[0].data.contains(&rich()["content"][index].to_string()), "{kind}");
    }
}

#[test]
fn numbers_and_escapes_are_passed_on_as_they_were_written() {
    let answer = br#"{"id":"m","type":"message","n":12345678901234567890123,"content":[{"type":"text","text":"\ud800"},{"type":"tool_use","input":{"x":1.10e1}}],"usage":{}}"#;
    let data: Vec<String> = events(answer).unwrap().into_iter().map(|event| event.data).collect();
    assert!(data[0].contains(r#""n":12345678901234567890123,"#));
    assert!(data[2].contains(r#"{"type":"text_delta","text":"\ud800"}"#));
    assert!(data.iter().any(|data| data.contains(r#""partial_json":"{\"x\":1.10e1}""#)));
}

#[test]
fn a_usage_is_made_up_where_there_is_none_because_sdks_fail_without() {
    let made = events(br#"{"type":"message","content":[]}"#).unwrap();
    assert_eq!(accumulate(&made)["usage"], json!({"input_tokens": 0, "output_tokens": 0}));
}

#[test]
fn a_reported_error_is_a_fault_and_no_answer() {
    for answer in [
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"req_1"}"#,
        r#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#,
    ] {
        let Err(NoAnswer::Fault(fault)) = events(answer.as_bytes()) else { panic!("{answer}") };
        assert_eq!((fault.kind, fault.status, fault.message.as_ref()), (Kind::RateLimit, 429, "slow down"));
    }
}

#[test]
fn what_has_no_content_is_no_answer() {
    for answer in [
        "",
        "<html>",
        "null",
        "[]",
        "{}",
        r#"{"type":"message"}"#,
        r#"{"type":"message","content":"x"}"#,
        r#"{"type":"message","content":["x"]}"#,
        r#"{"type":"message","content":[{"text":"x"}]}"#,
        r#"{"type":"list","content":[]}"#,
    ] {
        assert_eq!(events(answer.as_bytes()), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

#[test]
fn a_hostile_answer_does_not_grow() {
    let answer = |count: usize| format!(r#"{{"content":[{}]}}"#, vec![r#"{"type":""}"#; count].join(","));
    assert_eq!(events(answer(4097).as_bytes()), Err(NoAnswer::NotAnAnswer));
    assert_eq!(events(answer(4096).as_bytes()).unwrap().len(), 2 * 4096 + 3);
}

proptest! {
    #[test]
    fn no_bytes_make_an_answer_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = events(&bytes);
    }

    #[test]
    fn no_shape_of_a_block_makes_an_answer_panic(kind in "text|thinking|tool_use|x", fields in prop::collection::vec(("text|thinking|signature|input|citations|type", r#""[a-z]{0,3}"|null|\{\}|\{"a":1\}|\[\]|\[1\]|7"#), 0..5)) {
        let fields: String = fields.iter().map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
        let answer = format!(r#"{{"content":[{{"type":"{kind}"{fields}}}]}}"#);
        if let Ok(made) = events(answer.as_bytes()) {
            prop_assert!(made.iter().all(|event| serde_json::from_str::<Value>(&event.data).is_ok()));
        }
    }

    #[test]
    fn whatever_is_said_an_sdk_makes_the_same_of_it(texts in prop::collection::vec(any::<String>(), 0..4), thought in any::<String>(), key in any::<String>()) {
        let mut content = vec![json!({"type": "thinking", "thinking": thought, "signature": "S"})];
        content.extend(texts.iter().map(|text| json!({ "type": "text", "text": text })));
        content.push(json!({"type": "tool_use", "id": "t", "name": "f", "input": {&key: texts}}));
        let answer = plain(&json!(content), &json!("tool_use"), &json!(null));
        prop_assert_eq!(accumulate(&events(answer.to_string().as_bytes()).unwrap()), answer);
    }
}
