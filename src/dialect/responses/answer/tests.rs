//! Whole answers as streams.

use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::Kind;
use streamkeeper_sse::OwnedEvent;

use super::super::accumulate::accumulate;
use super::super::samples::{function_call, message, reasoning, response, rich};
use super::super::script;
use super::*;
use crate::dialect::json::compact;

fn told(answer: &Value) -> Result<Vec<OwnedEvent>, NoAnswer> {
    let line = compact(serde_json::to_string_pretty(answer).unwrap().as_bytes()).unwrap();
    Answer::read(&line).map(|answer| script::whole(&answer))
}

fn kinds(answer: &Value) -> Vec<String> {
    told(answer).unwrap().into_iter().map(|event| event.name).collect()
}

#[test]
fn a_rich_answer_is_accumulated_to_itself() {
    let answer = rich();
    assert_eq!(accumulate(&told(&answer).unwrap()), answer);
}

#[test]
fn a_message_is_told_in_the_vendors_order() {
    let mut answer = response("resp_1", &[message("msg_1", "Hi")]);
    answer["output"][0]["content"][0]["annotations"] = json!([{"type": "url_citation"}]);
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds(&answer), wanted);
}

#[test]
fn reasoning_and_calls_are_told_in_the_vendors_order() {
    let answer = response("resp_1", &[reasoning("rs_1", &["So"]), function_call("fc_1", "call_1", "{}")]);
    let wanted = [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds(&answer)[2..], wanted);
}

#[test]
fn events_are_written_as_the_vendor_writes_them() {
    let events = told(&response("resp_1", &[message("msg_1", "é\"")])).unwrap();
    let data: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
    let place = r#""item_id":"msg_1","output_index":0,"content_index":0"#;
    let part = |text: &str| format!(r#"{{"annotations":[],"logprobs":[],"text":"{text}","type":"output_text"}}"#);
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(
        read(data[3]),
        read(&format!(r#"{{"type":"response.content_part.added","sequence_number":3,{place},"part":{}}}"#, part("")))
    );
    assert_eq!(
        data[4],
        format!(r#"{{"type":"response.output_text.delta","sequence_number":4,{place},"delta":"é\"","logprobs":[]}}"#)
    );
    assert_eq!(
        data[5],
        format!(r#"{{"type":"response.output_text.done","sequence_number":5,{place},"text":"é\"","logprobs":[]}}"#)
    );
    let added = &read(data[2])["item"];
    assert_eq!(
        *added,
        json!({"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []})
    );
}

#[test]
fn the_promise_has_the_answers_id_and_none_of_its_results() {
    let mut answer = rich();
    answer["output_text"] = json!("Hi");
    answer["completed_at"] = json!(1);
    let first: Value = serde_json::from_str(&told(&answer).unwrap()[0].data).unwrap();
    let begun = &first["response"];
    assert_eq!((&begun["id"], &begun["model"], &begun["usage"]), (&json!("resp_1"), &json!("gpt-5"), &Value::Null));
    assert_eq!((begun.get("output_text"), &begun["completed_at"]), (None, &Value::Null));
}

#[test]
fn the_calls_name_and_the_reasons_secret_go_along() {
    let events = told(&rich()).unwrap();
    let of = |kind: &str| -> Value {
        serde_json::from_str(&events.iter().find(|event| event.name == kind).unwrap().data).unwrap()
    };
    assert_eq!(of("response.function_call_arguments.done")["name"], "look_up");
    assert_eq!(of("response.output_item.added")["item"]["encrypted_content"], "gAAAA");
    assert_eq!(of("response.output_text.delta")["logprobs"][0]["logprob"], -0.25);
}

#[test]
fn an_incomplete_answer_ends_as_one() {
    let mut answer = response("resp_1", &[message("msg_1", "Hi")]);
    answer["status"] = json!("incomplete");
    answer["incomplete_details"] = json!({"reason": "max_output_tokens"});
    answer["output"][0]["status"] = json!("incomplete");
    let events = told(&answer).unwrap();
    assert_eq!(events.last().unwrap().name, "response.incomplete");
    assert_eq!(accumulate(&events), answer);
}

#[test]
fn an_empty_answer_is_a_promise_and_an_end() {
    let answer = response("resp_1", &[]);
    assert_eq!(kinds(&answer), ["response.created", "response.in_progress", "response.completed"]);
}

#[test]
fn what_cannot_be_told_in_parts_is_told_whole() {
    let mut nameless = function_call("", "call_1", "{}");
    nameless.as_object_mut().unwrap().remove("id");
    for item in [
        nameless,
        json!({"id": "x", "type": "message", "role": "assistant", "content": "text"}),
        json!({"id": "x", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": 1}]}),
        json!({"id": "x", "type": "reasoning", "summary": "text"}),
        json!({"id": "x", "type": "function_call", "call_id": "c", "name": "f"}),
        json!({"id": "x"}),
    ] {
        let answer = response("resp_1", &[item]);
        assert_eq!(kinds(&answer)[2..4], ["response.output_item.added", "response.output_item.done"], "{answer}");
        assert_eq!(accumulate(&told(&answer).unwrap()), answer);
    }
    let mut audio = response("resp_1", &[message("msg_1", "")]);
    audio["output"][0]["content"] = json!([{"type": "output_audio", "data": "AAAA", "transcript": "Hi"}]);
    assert_eq!(accumulate(&told(&audio).unwrap()), audio);
}

#[test]
fn a_reported_error_is_a_fault_and_a_receipt_is_no_answer() {
    let mut failed = response("resp_1", &[]);
    failed["status"] = json!("failed");
    failed["error"] = json!({"code": "server_error", "message": "m"});
    let mut cancelled = response("resp_1", &[]);
    cancelled["status"] = json!("cancelled");
    for (answer, kind) in [
        (failed, Kind::System),
        (cancelled, Kind::Business),
        (json!({"error": {"message": "m", "type": "invalid_request_error"}}), Kind::Validation),
        (json!({"error": {}}), Kind::System),
    ] {
        let Err(NoAnswer::Fault(fault)) = told(&answer) else { panic!("an answer: {answer}") };
        assert_eq!(fault.kind, kind, "{answer}");
    }
    let mut receipt = response("resp_1", &[]);
    receipt["status"] = json!("queued");
    for answer in [receipt, json!({}), json!([]), json!({"output": {}}), json!({"output": [1]}), json!({"choices": []})]
    {
        assert_eq!(told(&answer), Err(NoAnswer::NotAnAnswer), "{answer}");
    }
}

#[test]
fn a_hostile_answer_does_not_grow_beyond_measure() {
    let mut answer = response("resp_1", &[message("msg_1", "Hi")]);
    answer["output"][0]["content"][0]["annotations"] = json!(vec![0; EVENTS_CAP]);
    assert_eq!(told(&answer), Err(NoAnswer::NotAnAnswer));
    let long = response("resp_1", &[message(&"x".repeat(ID_CAP + 1), "Hi")]);
    assert_eq!(told(&long), Err(NoAnswer::NotAnAnswer));
}

#[test]
fn values_are_passed_on_as_they_were_written() {
    let line = r#"{"id":"r","big":123456789012345678901234567890,"t":1.10,"output":[{"id":"m","type":"message","x":1e400,"content":[{"type":"output_text","text":"\u00e9"}]}]}"#;
    let events = script::whole(&Answer::read(line).unwrap());
    assert!(events.last().unwrap().data.ends_with(&format!(r#""response":{line}}}"#)));
    assert!(events[0].data.contains(r#""big":123456789012345678901234567890,"t":1.10"#));
    assert!(events[2].data.contains(r#""x":1e400,"content":[]"#));
}

fn any_item() -> impl Strategy<Value = Value> {
    prop_oneof![
        (any::<String>(), prop::option::of("[a-z]{0,3}")).prop_map(|(text, refusal)| {
            let mut item = message("", &text);
            if let Some(refusal) = refusal {
                item["content"].as_array_mut().unwrap().push(json!({"type": "refusal", "refusal": refusal}));
            }
            item
        }),
        prop::collection::vec(any::<String>(), 0..3)
            .prop_map(|texts| reasoning("", &texts.iter().map(String::as_str).collect::<Vec<_>>())),
        any::<String>().prop_map(|text| function_call("", "", &text)),
        any::<u8>().prop_map(|n| json!({"id": "", "type": "image_generation_call", "result": n})),
    ]
}

proptest! {
    #[test]
    fn any_answer_is_accumulated_to_itself(mut items in prop::collection::vec(any_item(), 0..5)) {
        for (at, item) in items.iter_mut().enumerate() {
            item["id"] = json!(format!("item_{at}"));
        }
        let answer = response("resp_1", &items);
        prop_assert_eq!(accumulate(&told(&answer).unwrap()), answer);
    }

    #[test]
    fn no_text_makes_the_answer_panic(text in r#"\{("(output|status|error|content|type|id|text)"|"message"|[:,{}\[\]1"]){0,16}\}"#) {
        let _ = Answer::read(&text).map(|answer| script::whole(&answer));
    }
}
