//! Answers and events in the vendor's shape, written for the tests.

use std::borrow::Cow;

use serde_json::{Value, json};
use streamkeeper_sse::OwnedEvent;

use crate::dialect::Delivered;

/// A message with one text.
pub(super) fn message(id: &str, text: &str) -> Value {
    json!({"id": id, "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]})
}

/// A reasoning item with these summaries.
pub(super) fn reasoning(id: &str, summaries: &[&str]) -> Value {
    let summaries: Vec<Value> = summaries.iter().map(|text| json!({"type": "summary_text", "text": text})).collect();
    json!({"id": id, "type": "reasoning", "summary": summaries})
}

pub(super) fn function_call(id: &str, call: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": "completed", "call_id": call, "name": "look_up", "arguments": arguments})
}

/// A completed response with these items.
pub(super) fn response(id: &str, output: &[Value]) -> Value {
    json!({"id": id, "object": "response", "created_at": 1_760_000_000, "status": "completed", "background": false,
        "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null, "model": "gpt-5",
        "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": "medium", "summary": "auto"}, "store": true, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 18},
        "user": null, "metadata": {}})
}

/// One of everything.
pub(super) fn rich() -> Value {
    let scored = json!({"token": "Hi", "logprob": -0.25, "bytes": [72, 105],
        "top_logprobs": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105]}]});
    let mut thought = reasoning("rs_1", &["First, é", "Then \"more\""]);
    thought["encrypted_content"] = json!("gAAAA");
    let cited = json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "phase": "final_answer",
    "content": [
        {"type": "output_text", "text": "Hi there\n", "logprobs": [scored], "annotations": [
            {"type": "url_citation", "url": "https://example.org/a", "title": "A", "start_index": 0, "end_index": 2},
            {"type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 3}]},
        {"type": "refusal", "refusal": "I cannot say more."},
        {"type": "output_text", "text": "", "annotations": []},
    ]});
    let open = json!({"id": "rs_2", "type": "reasoning", "summary": [], "status": "completed",
        "content": [{"type": "reasoning_text", "text": "Raw thoughts"}]});
    let search = json!({"id": "ws_1", "type": "web_search_call", "status": "completed",
        "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://example.org"}]}});
    let custom = json!({"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "run", "input": "ls"});
    let call = function_call("fc_1", "call_1", "{\"city\":\"Köln\"}");
    response("resp_1", &[thought, search, cited, call, custom, open, message("msg_2", "Bye")])
}

/// Events as they were delivered.
pub(super) fn delivered(events: &[OwnedEvent]) -> impl Iterator<Item = Delivered<'_>> {
    events.iter().map(Delivered::from)
}

/// An event of the vendor's, named after its type.
pub(super) fn event(data: &Value) -> OwnedEvent {
    OwnedEvent::new(data["type"].as_str().unwrap(), data.to_string())
}

/// How the vendor streams one message, numbered from 0: in small pieces, each with some noise of its own.
pub(super) fn streamed(response_id: &str, item: &str, pieces: &[&str]) -> Vec<OwnedEvent> {
    let mut begun = response(response_id, &[]);
    begun["status"] = json!("in_progress");
    begun["usage"] = Value::Null;
    let mut all = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": item, "type": "message",
            "status": "in_progress", "content": [], "role": "assistant"}}),
        json!({"type": "response.content_part.added", "item_id": item, "output_index": 0, "content_index": 0,
            "part": {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}}),
    ];
    for piece in pieces {
        all.push(json!({"type": "response.output_text.delta", "item_id": item, "output_index": 0, "content_index": 0,
            "delta": piece, "logprobs": [], "obfuscation": "x7Fq"}));
    }
    let text: String = pieces.concat();
    let whole = message(item, &text);
    all.extend([
        json!({"type": "response.output_text.done", "item_id": item, "output_index": 0, "content_index": 0,
            "text": text, "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": item, "output_index": 0, "content_index": 0,
            "part": whole["content"][0]}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": whole}),
        json!({"type": "response.completed", "response": response(response_id, &[whole])}),
    ]);
    let numbered = all.into_iter().enumerate().map(|(number, mut data)| {
        data["sequence_number"] = json!(number);
        event(&data)
    });
    numbered.collect()
}

/// One delivered event, whatever it says.
pub(super) fn raw(data: &str) -> Delivered<'_> {
    Delivered { name: Cow::Borrowed(""), data: Cow::Borrowed(data) }
}
