//! A stream that broke, and an answer that stands in for what is left of it.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::accumulate::{accumulate, as_streamed};
use super::*;

fn answer(message: &Value) -> Value {
    json!({"id": "answer", "object": "chat.completion", "created": 2, "model": "m", "usage": {"total_tokens": 3},
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
}

fn chunk(index: u32, delta: &Value, finish: Option<&str>) -> String {
    json!({"id": "stream", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}).to_string()
}

fn says(text: &str) -> String {
    chunk(0, &json!({ "content": text }), None)
}

fn role() -> String {
    chunk(0, &json!({"role": "assistant", "content": ""}), None)
}

fn rest(delivered: &[String], answer: &Value) -> Option<Vec<OwnedEvent>> {
    let taken = |data: &String| Delivered { name: Cow::Borrowed(""), data: Cow::Owned(data.clone()) };
    events(&mut delivered.iter().map(taken), answer.to_string().as_bytes(), true)
}

/// What a client has in the end, or `None` if there is no rest.
fn in_the_end(delivered: &[String], answer: &Value) -> Option<Value> {
    let before = delivered.iter().map(|data| OwnedEvent::new("", data.as_str()));
    let left = rest(delivered, answer)?;
    Some(accumulate(&before.chain(left).collect::<Vec<_>>()))
}

/// What it must have: the answer under the stream's own head.
fn under_the_streams_head(answer: &Value) -> Value {
    let mut whole = as_streamed(answer);
    whole["id"] = json!("stream");
    whole["created"] = json!(1);
    whole
}

#[test]
fn only_the_rest_is_sent_under_the_same_head_and_without_a_role() {
    let answer = answer(&json!({"role": "assistant", "content": "Hello wide world"}));
    let left = rest(&[role(), says("Hello "), says("wide")], &answer).unwrap();
    let data: Vec<&str> = left.iter().map(|event| event.data.as_str()).collect();
    let head = r#""id":"stream","object":"chat.completion.chunk","created":1,"model":"m""#;
    let wanted = [
        format!(r#"{{{head},"choices":[{{"index":0,"delta":{{"content":" world"}},"finish_reason":null}}]}}"#),
        format!(r#"{{{head},"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}]}}"#),
        format!(r#"{{{head},"choices":[],"usage":{{"total_tokens":3}}}}"#),
        "[DONE]".into(),
    ];
    assert_eq!(data, wanted);
}

#[test]
fn an_answer_that_says_something_else_has_no_rest() {
    let other = answer(&json!({"role": "assistant", "content": "Hello there"}));
    assert_eq!(rest(&[role(), says("Hello wide")], &other), None);
    assert_eq!(rest(&[role(), says("Hello there!")], &other), None, "delivered more than the answer has");
    assert_eq!(rest(&[role(), says("Hello")], &answer(&json!({"role": "assistant", "content": null}))), None);
    assert_eq!(rest(&[chunk(1, &json!({"content": "x"}), None)], &other), None, "a choice that the answer lacks");
}

#[test]
fn what_is_more_than_text_cannot_be_continued() {
    let call = json!([{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]);
    let answer = answer(&json!({"role": "assistant", "content": "ab", "refusal": "r", "x": "y"}));
    for delta in [
        json!({"tool_calls": call}),
        json!({"function_call": {"name": "f"}}),
        json!({"refusal": "r"}),
        json!({"audio": {"id": "a"}}),
        json!({"x": "y"}),
        json!({"content": ["a"]}),
    ] {
        assert_eq!(rest(&[role(), chunk(0, &delta, None)], &answer), None, "{delta}");
    }
    let scored = r#"{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]}}]}"#.to_owned();
    assert_eq!(rest(&[scored], &answer), None);
}

#[test]
fn what_is_not_understood_cannot_be_continued() {
    let answer = answer(&json!({"role": "assistant", "content": "ab"}));
    for data in [
        "[DONE]",
        "ping",
        "[]",
        "{}",
        r#"{"choices":null}"#,
        r#"{"choices":[{"index":"x"}]}"#,
        r#"{"error":{"message":"m"}}"#,
    ] {
        assert_eq!(rest(&[role(), data.into()], &answer), None, "{data}");
    }
    assert!(rest(&[role(), String::new()], &answer).is_some());
    assert_eq!(events(&mut std::iter::empty(), br#"{"error":{"message":"m"}}"#, true), None);
}

#[test]
fn tool_calls_that_follow_the_delivered_text_are_part_of_the_rest() {
    let answer = answer(
        &json!({"role": "assistant", "content": "Let me look.", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
    );
    let whole = in_the_end(&[role(), says("Let me")], &answer).unwrap();
    assert_eq!(whole, under_the_streams_head(&answer));
    let finished = [says("Let me look."), chunk(0, &json!({}), Some("stop"))];
    assert_eq!(rest(&finished, &answer), None, "the client was told that nothing follows");
}

#[test]
fn a_finished_choice_gets_nothing_more() {
    let answer = answer(&json!({"role": "assistant", "content": "ab"}));
    let usage = r#"{"id":"stream","choices":[],"usage":{"total_tokens":3}}"#.to_owned();
    let mut delivered = vec![role(), says("ab"), chunk(0, &json!({}), Some("stop"))];
    assert_eq!(rest(&delivered, &answer).unwrap().len(), 2, "usage and terminator");
    delivered.push(usage);
    assert_eq!(rest(&delivered, &answer).unwrap(), [done()]);
    assert_eq!(rest(&[role(), says("a"), chunk(0, &json!({}), Some("length"))], &answer), None);
}

#[test]
fn reasoning_is_not_put_behind_the_words_it_led_to() {
    let answer = answer(&json!({"role": "assistant", "reasoning_content": "Hm, so", "content": "ab"}));
    let thinks = |text: &str| chunk(0, &json!({ "reasoning_content": text }), None);
    assert_eq!(rest(&[role(), thinks("Hm"), says("a")], &answer), None);
    for delivered in [vec![role(), thinks("Hm")], vec![role(), thinks("Hm, "), thinks("so"), says("a")]] {
        assert_eq!(in_the_end(&delivered, &answer).unwrap(), under_the_streams_head(&answer));
    }
}

#[test]
fn a_choice_of_which_nothing_came_is_sent_whole() {
    let mut answer = answer(&json!({"role": "assistant", "content": "ab"}));
    let second = json!({"index": 1, "message": {"role": "assistant", "content": "cd"}, "finish_reason": "length"});
    answer["choices"].as_array_mut().unwrap().push(second);
    assert_eq!(in_the_end(&[role(), says("a")], &answer).unwrap(), under_the_streams_head(&answer));
    assert_eq!(in_the_end(&[], &answer).unwrap(), as_streamed(&answer), "nothing delivered at all");
}

#[test]
fn azures_report_on_the_prompt_does_not_name_the_stream() {
    let prompt = r#"{"id":"","created":0,"model":"","object":"","choices":[],"prompt_filter_results":[]}"#.to_owned();
    let answer = answer(&json!({"role": "assistant", "content": "ab"}));
    let left = rest(&[prompt, role(), says("a")], &answer).unwrap();
    assert!(left[0].data.starts_with(r#"{"id":"stream","#));
}

#[test]
fn legacy_completions_are_continued_alike() {
    let answer = json!({"id": "stream", "object": "text_completion", "created": 1, "model": "m", "usage": {"total_tokens": 3},
        "choices": [{"text": "Once upon", "index": 0, "logprobs": null, "finish_reason": "length"}]});
    let piece = |text: &str, finish: Option<&str>| {
        json!({"id": "stream", "object": "text_completion", "created": 1, "model": "m", "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]}).to_string()
    };
    assert_eq!(in_the_end(&[piece("Once ", None)], &answer).unwrap(), answer);
    assert_eq!(rest(&[piece("Twice", None)], &answer), None);
    assert_eq!(rest(&[piece("Once upon", Some("length"))], &answer).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn wherever_it_breaks_the_client_ends_up_with_the_answer(pieces in prop::collection::vec("[a-zé\"\\\\\u{1f600}\n]{0,5}", 0..8), thoughts in prop::collection::vec("[a-zé]{0,4}", 0..4), cut in 0..13_usize) {
        let answer = answer(&json!({"role": "assistant", "reasoning_content": thoughts.concat(), "content": pieces.concat()}));
        let think = thoughts.iter().map(|text| chunk(0, &json!({ "reasoning_content": text }), None));
        let mut delivered: Vec<String> = std::iter::once(role()).chain(think).chain(pieces.iter().map(|text| says(text))).collect();
        delivered.truncate(cut.max(1));
        let mut whole = in_the_end(&delivered, &answer).unwrap();
        let mut wanted = under_the_streams_head(&answer);
        for side in [&mut whole, &mut wanted] {
            let message = side["choices"][0]["message"].as_object_mut().unwrap();
            message.retain(|_, value| value != "");
        }
        prop_assert_eq!(whole, wanted);
    }

    #[test]
    fn no_bytes_make_the_rest_panic(data in any::<String>(), text in any::<String>(), answer in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = rest(std::slice::from_ref(&data), &self::answer(&json!({"content": text})));
        let _ = rest(&[role(), says(&data)], &self::answer(&json!({"content": text})));
        let _ = events(&mut std::iter::once(Delivered { name: "".into(), data: data.into() }), &answer, true);
    }
}
