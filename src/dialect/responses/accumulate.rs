//! A client as the tests need it: as strict as Node's accumulator, and stricter where it costs nothing.
//!
//! What is announced must be new, what is pointed at must be there under the same id, numbers must be dense, and
//! what a `done` event says must be what the deltas before it have built. Test code only.

use serde_json::{Value, json};
use streamkeeper_sse::OwnedEvent;

/// The response that ends a stream. Its items are compared with what the events have built.
pub(super) fn accumulate(events: &[OwnedEvent]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut last = None;
    for (number, event) in events.iter().enumerate() {
        assert!(last.is_none(), "nothing follows the end");
        assert!(event.id.is_none() && !event.data.contains(['\n', '\r']));
        let said: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!((&said["type"], &said["sequence_number"]), (&json!(event.name), &json!(number)));
        match event.name.as_str() {
            "response.created" | "response.in_progress" => {
                assert!(number < 2 && output.is_empty());
                assert_eq!(
                    (&said["response"]["status"], &said["response"]["output"]),
                    (&json!("in_progress"), &json!([]))
                );
            }
            "response.completed" | "response.incomplete" => last = Some(said["response"].clone()),
            _ => item_event(&mut output, &event.name, &said),
        }
    }
    let last = last.unwrap();
    assert_eq!(last["output"], json!(output));
    last
}

fn item_event(output: &mut Vec<Value>, kind: &str, said: &Value) {
    let at = index(said, "output_index");
    if kind == "response.output_item.added" {
        assert_eq!(at, output.len(), "an item is announced in its place");
        return output.push(said["item"].clone());
    }
    let item = &mut output[at];
    if kind == "response.output_item.done" {
        item["status"] = said["item"]["status"].clone();
        if item["status"].is_null() {
            item.as_object_mut().unwrap().remove("status");
        }
        assert_eq!(*item, said["item"]);
        return;
    }
    assert_eq!(item["id"], said["item_id"]);
    let list = if kind.starts_with("response.reasoning_summary") { "summary" } else { "content" };
    let place = || index(said, if list == "summary" { "summary_index" } else { "content_index" });
    match kind {
        "response.content_part.added" | "response.reasoning_summary_part.added" => {
            let parts = item[list].as_array_mut().unwrap();
            assert_eq!(place(), parts.len(), "a part is announced in its place");
            parts.push(said["part"].clone());
        }
        "response.content_part.done" | "response.reasoning_summary_part.done" => {
            assert_eq!(item[list][place()], said["part"]);
        }
        "response.output_text.annotation.added" => {
            let known = item[list][place()]["annotations"].as_array_mut().unwrap();
            assert_eq!(index(said, "annotation_index"), known.len());
            known.push(said["annotation"].clone());
        }
        "response.function_call_arguments.delta" => grow(&mut item["arguments"], &said["delta"]),
        "response.function_call_arguments.done" => {
            assert_eq!((&item["arguments"], &item["name"]), (&said["arguments"], &said["name"]));
        }
        "response.refusal.delta" => grow(&mut item[list][place()]["refusal"], &said["delta"]),
        "response.refusal.done" => assert_eq!(item[list][place()]["refusal"], said["refusal"]),
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" | "response.output_text.delta" => {
            let part = &mut item[list][place()];
            grow(&mut part["text"], &said["delta"]);
            for scored in said["logprobs"].as_array().into_iter().flatten() {
                part["logprobs"].as_array_mut().unwrap().push(scored.clone());
            }
        }
        "response.reasoning_summary_text.done" | "response.reasoning_text.done" | "response.output_text.done" => {
            assert_eq!(item[list][place()]["text"], said["text"]);
        }
        _ => panic!("{kind}"),
    }
}

fn grow(text: &mut Value, more: &Value) {
    let grown = format!("{}{}", text.as_str().unwrap(), more.as_str().unwrap());
    *text = grown.into();
}

fn index(said: &Value, key: &str) -> usize {
    usize::try_from(said[key].as_u64().unwrap()).unwrap()
}
