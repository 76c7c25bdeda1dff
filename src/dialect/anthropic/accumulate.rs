//! A client as the tests need it: puts events together as the accumulators of the Python and TypeScript SDKs do.
//!
//! Blocks are appended where they begin and found by index; text and thoughts grow, signatures are replaced, the input
//! of a tool is what its pieces are as JSON; what ends the message overwrites what began it. Test code only.

use std::collections::HashMap;

use serde_json::{Value, json};
use streamkeeper_sse::OwnedEvent;

/// The message in the events of a stream, whose order must be right and whose last must be `message_stop`.
pub(super) fn accumulate(events: &[OwnedEvent]) -> Value {
    let (last, events) = events.split_last().unwrap();
    assert_eq!((last.name.as_str(), last.data.as_str()), ("message_stop", r#"{"type":"message_stop"}"#));
    let mut message = Value::Null;
    let mut inputs = HashMap::<u64, String>::new();
    let mut open = None;
    for event in events {
        assert!(event.id.is_none() && !event.data.contains(['\n', '\r']));
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(data["type"], event.name.as_str());
        let index = data["index"].as_u64();
        match event.name.as_str() {
            "ping" => {}
            "message_start" => {
                assert!(message.is_null(), "a message begins once");
                message = data["message"].clone();
                assert_eq!((&message["content"], &message["stop_reason"]), (&json!([]), &Value::Null));
            }
            "content_block_start" => {
                assert_eq!(open, None, "one block at a time");
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!(index.unwrap(), content.len() as u64);
                content.push(data["content_block"].clone());
                open = index;
            }
            "content_block_delta" => {
                assert_eq!(open.unwrap(), index.unwrap());
                grow(
                    &mut message["content"][index.unwrap() as usize],
                    &data["delta"],
                    inputs.entry(index.unwrap()).or_default(),
                );
            }
            "content_block_stop" => assert_eq!(open.take().unwrap(), index.unwrap()),
            "message_delta" => end(&mut message, &data),
            other => panic!("{other}"),
        }
    }
    assert_eq!(open, None, "every block stops");
    message
}

fn grow(block: &mut Value, delta: &Value, input: &mut String) {
    let append = |known: &mut Value, more: &Value| {
        *known = json!(format!("{}{}", known.as_str().unwrap(), more.as_str().unwrap()))
    };
    match (delta["type"].as_str().unwrap(), block["type"].as_str().unwrap()) {
        ("text_delta", "text") => append(&mut block["text"], &delta["text"]),
        ("thinking_delta", "thinking") => append(&mut block["thinking"], &delta["thinking"]),
        ("signature_delta", "thinking") => block["signature"] = delta["signature"].clone(),
        ("citations_delta", "text") => {
            if block["citations"].is_null() {
                block["citations"] = json!([]);
            }
            block["citations"].as_array_mut().unwrap().push(delta["citation"].clone());
        }
        ("input_json_delta", "tool_use" | "server_tool_use" | "mcp_tool_use") => {
            input.push_str(delta["partial_json"].as_str().unwrap());
            if let Ok(whole) = serde_json::from_str(input) {
                block["input"] = whole;
            }
        }
        other => panic!("{other:?}"),
    }
}

fn end(message: &mut Value, event: &Value) {
    for key in ["stop_reason", "stop_sequence"] {
        message[key] = event["delta"][key].clone();
    }
    let details = &event["delta"]["stop_details"];
    if message.get("stop_details").is_some() || !details.is_null() {
        message["stop_details"] = details.clone();
    }
    for (from, key) in [(&event["delta"], "container"), (event, "context_management")] {
        if !from[key].is_null() {
            message[key] = from[key].clone();
        }
    }
    assert!(event["usage"]["output_tokens"].is_u64(), "both SDKs read it without asking");
    for (key, value) in event["usage"].as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
        message["usage"][key] = value.clone();
    }
}
