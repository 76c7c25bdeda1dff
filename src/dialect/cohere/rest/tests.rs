//! A stream that broke, and an answer that stands in for what is left of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{accumulate, as_streamed};
use super::*;

fn answer(content: &Value) -> Value {
    json!({"id": "stream", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": content}, "usage": {"tokens": {"output_tokens": 3}}})
}

fn event(name: &str, said: &Value) -> OwnedEvent {
    let mut data = json!({ "type": name });
    said.as_object().unwrap().iter().for_each(|(key, value)| data[key.as_str()] = value.clone());
    OwnedEvent::new(name, data.to_string())
}

fn start() -> OwnedEvent {
    event(
        "message-start",
        &json!({"id": "stream", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
    )
}

fn begins(index: usize) -> OwnedEvent {
    event("content-start", &json!({"index": index, "delta": {"message": {"content": {"type": "text", "text": ""}}}}))
}

fn says(index: usize, text: &str) -> OwnedEvent {
    event("content-delta", &json!({"index": index, "delta": {"message": {"content": {"text": text}}}}))
}

fn ends(index: usize) -> OwnedEvent {
    event("content-end", &json!({"index": index}))
}

fn rest(delivered: &[OwnedEvent], answer: &Value) -> Option<Vec<OwnedEvent>> {
    events(&mut delivered.iter().map(Delivered::from), answer.to_string().as_bytes())
}

/// What a client has in the end, or `None` if there is no rest.
fn in_the_end(delivered: &[OwnedEvent], answer: &Value) -> Option<Value> {
    let left = rest(delivered, answer)?;
    Some(accumulate(&delivered.iter().cloned().chain(left).collect::<Vec<_>>()))
}

#[test]
fn only_the_rest_is_sent() {
    let answer = answer(&json!([{"type": "text", "text": "Hello wide world"}]));
    let left = rest(&[start(), begins(0), says(0, "Hello "), says(0, "wide")], &answer).unwrap();
    let data: Vec<&str> = left.iter().map(|event| event.data.as_str()).collect();
    let wanted = [
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":" world"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"tokens":{"output_tokens":3}}}}"#,
    ];
    assert_eq!(data, wanted);
}

#[test]
fn an_answer_that_says_something_else_has_no_rest() {
    let other = answer(&json!([{"type": "text", "text": "Hello there"}]));
    let broken = |text: &str| [start(), begins(0), says(0, text)];
    assert_eq!(rest(&broken("Hello wide"), &other), None);
    assert_eq!(rest(&broken("Hello there!"), &other), None, "delivered more than the answer has");
    assert_eq!(rest(&[start(), begins(1)], &other), None, "a block that the answer lacks");
    assert_eq!(rest(&broken("Hello"), &answer(&json!([]))), None);
    assert_eq!(rest(&[start(), begins(0), says(0, "Hello"), ends(0)], &other), None, "the block was told to be whole");
    let again = [start(), begins(0), says(0, "Hello there"), ends(0), begins(0)];
    assert_eq!(rest(&again, &other), None, "a block that began twice");
    assert_eq!(rest(&broken("a"), &json!({"message": "too much"})), None);
}

#[test]
fn what_is_more_than_text_cannot_be_continued() {
    let message = |message: Value| json!({"index": 0, "delta": { "message": message }});
    let answer = answer(&json!([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "ab"}]));
    for more in [
        event("content-start", &message(json!({"content": {"type": "thinking", "thinking": ""}}))),
        event("content-delta", &message(json!({"content": {"thinking": "Hm"}}))),
        event("tool-plan-delta", &message(json!({"tool_plan": "I"}))),
        event("tool-call-start", &message(json!({"tool_calls": {"id": "f"}}))),
        event("citation-start", &message(json!({"citations": {"start": 0}}))),
        event("message-end", &json!({"delta": {"finish_reason": "COMPLETE"}})),
        event("debug", &json!({"prompt": "p"})),
        says(1, "ab"),
    ] {
        assert_eq!(rest(&[start(), more.clone()], &answer), None, "{more:?}");
    }
    assert_eq!(in_the_end(&[start()], &answer).unwrap(), as_streamed(&answer), "nothing was said yet");
    assert_eq!(in_the_end(&[], &answer).unwrap(), as_streamed(&answer), "nor was it begun");
}

#[test]
fn what_is_not_understood_cannot_be_continued() {
    let answer = answer(&json!([{"type": "text", "text": "ab"}]));
    for data in [
        "ping",
        "[]",
        "{}",
        r#"{"type":"content-delta"}"#,
        r#"{"type":"content-delta","index":"x"}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":1}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"x":1}}}}"#,
        r#"{"type":"content-delta","index":0,"logprobs":{"text":"b"},"delta":{"message":{"content":{"text":"b"}}}}"#,
        r#"{"type":"message-start","delta":{"message":{"role":"assistant","content":["a"]}}}"#,
        r#"{"type":"brand-new"}"#,
    ] {
        assert_eq!(rest(&[start(), begins(0), says(0, "a"), OwnedEvent::new("", data)], &answer), None, "{data}");
    }
    assert!(rest(&[start(), begins(0), OwnedEvent::new("", "")], &answer).is_some());
}

#[test]
fn all_that_follows_the_text_is_part_of_the_rest() {
    let mut answer = answer(&json!([{"type": "text", "text": "ab"}, {"type": "text", "text": "cd"}]));
    answer["message"]["tool_calls"] =
        json!([{"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    answer["message"]["tool_plan"] = json!("P");
    answer["message"]["citations"] = json!([{"start": 0, "end": 1, "text": "a", "sources": []}]);
    let stream = [start(), begins(0), says(0, "a"), says(0, "b"), ends(0), begins(1), says(1, "cd"), ends(1)];
    for cut in 0..=stream.len() {
        assert_eq!(in_the_end(&stream[..cut], &answer).unwrap(), as_streamed(&answer), "{cut}");
    }
}

#[test]
fn logprobs_of_a_part_are_not_sent_for_the_rest() {
    let mut scored = answer(&json!([{"type": "text", "text": "ab"}]));
    scored["logprobs"] = json!([{"text": "ab", "token_ids": [1]}]);
    assert_eq!(in_the_end(&[start()], &scored).unwrap(), as_streamed(&scored));
    let left = rest(&[start(), begins(0), says(0, "a")], &scored).unwrap();
    assert!(left.iter().all(|event| !event.data.contains("logprobs")));
}

proptest! {
    #[test]
    fn wherever_it_breaks_the_client_ends_up_with_the_answer(pieces in prop::collection::vec("[a-zé\"\\\\\u{1f600}\n]{0,5}", 0..8), cut in 0..11_usize) {
        let answer = answer(&json!([{"type": "text", "text": pieces.concat()}]));
        let mut delivered: Vec<OwnedEvent> = [start(), begins(0)].into_iter().chain(pieces.iter().map(|text| says(0, text))).chain([ends(0)]).collect();
        delivered.truncate(cut);
        prop_assert_eq!(in_the_end(&delivered, &answer).unwrap(), as_streamed(&answer));
    }

    #[test]
    fn no_bytes_make_the_rest_panic(data in any::<String>(), text in any::<String>(), answer in prop::collection::vec(any::<u8>(), 0..64)) {
        let whole = self::answer(&json!([{"type": "text", "text": text}]));
        let _ = rest(&[start(), OwnedEvent::new("", data.as_str())], &whole);
        let _ = rest(&[start(), begins(0), says(0, &data)], &whole);
        let _ = events(&mut std::iter::once(Delivered { name: "".into(), data: data.into() }), &answer);
    }
}
