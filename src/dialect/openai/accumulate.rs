//! A client as the tests need it: puts chunks together as the accumulators of the Python and Node SDKs do.
//!
//! Text grows, lists are matched by `index`, everything else is replaced. A role sent twice shows as
//! `assistantassistant`, as it does in Python. Test code only.

use serde_json::{Map, Value, json};
use streamkeeper_sse::OwnedEvent;

/// The answer in the events of a stream, which must be unnamed chunks and one `[DONE]`, last.
pub(super) fn accumulate(events: &[OwnedEvent]) -> Value {
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last.data, "[DONE]");
    let (mut whole, mut choices) = (Map::new(), Vec::<Value>::new());
    for event in chunks {
        assert!(event.name.is_empty() && event.id.is_none());
        assert!(!event.data.contains(['\n', '\r']));
        let chunk: Map<String, Value> = serde_json::from_str(&event.data).unwrap();
        for (key, value) in chunk {
            match key.as_str() {
                "choices" => value.as_array().unwrap().iter().for_each(|choice| add_choice(&mut choices, choice)),
                _ => drop(whole.insert(key, value)),
            }
        }
    }
    choices.sort_by_key(|choice| choice["index"].as_u64());
    whole.insert("choices".into(), Value::Array(choices));
    Value::Object(whole)
}

fn add_choice(choices: &mut Vec<Value>, choice: &Value) {
    let index = &choice["index"];
    if !choices.iter().any(|known| known["index"] == *index) {
        choices.push(json!({ "index": index }));
    }
    let known = choices.iter_mut().find(|known| known["index"] == *index).unwrap();
    for (key, value) in choice.as_object().unwrap() {
        match key.as_str() {
            "index" => {}
            "delta" => merge(&mut known["message"], value),
            "text" | "logprobs" => merge(&mut known[key.as_str()], value),
            "finish_reason" if value.is_null() && !known["finish_reason"].is_null() => {}
            _ => known[key.as_str()] = value.clone(),
        }
    }
}

fn merge(known: &mut Value, more: &Value) {
    match (known, more) {
        (Value::String(known), Value::String(more)) => known.push_str(more),
        (Value::Object(known), Value::Object(more)) => {
            for (key, value) in more {
                merge(known.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            for item in more {
                match known
                    .iter_mut()
                    .find(|known| item.get("index").is_some() && known.get("index") == item.get("index"))
                {
                    Some(known) => merge(known, item),
                    None => known.push(item.clone()),
                }
            }
        }
        (_, Value::Null) => {}
        (known, more) => *known = more.clone(),
    }
}

/// `answer` as a stream shows it: the chunk's `object`, numbered tool calls.
pub(super) fn as_streamed(answer: &Value) -> Value {
    let mut streamed = answer.clone();
    let top = streamed.as_object_mut().unwrap();
    if top.get("object") == Some(&json!("chat.completion")) {
        top.insert("object".into(), json!("chat.completion.chunk"));
    }
    for choice in top["choices"].as_array_mut().unwrap() {
        let calls = choice.get_mut("message").and_then(|message| message.get_mut("tool_calls"));
        for (at, call) in calls.and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            call.as_object_mut().unwrap().entry("index").or_insert(json!(at));
        }
    }
    streamed
}
