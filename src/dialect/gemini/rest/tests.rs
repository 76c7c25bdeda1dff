//! A stream that broke, and an answer that stands in for what is left of it.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn answer(parts: &Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0, "avgLogprobs": -0.5}],
        "usageMetadata": {"totalTokenCount": 9}, "modelVersion": "m", "responseId": "answer"})
}

fn block(parts: &Value) -> String {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}], "usageMetadata": {"totalTokenCount": 4}, "modelVersion": "m", "responseId": "stream"}).to_string()
}

fn says(text: &str) -> String {
    block(&json!([{ "text": text }]))
}

fn rest(delivered: &[String], answer: &Value) -> Option<Vec<OwnedEvent>> {
    let taken = |data: &String| Delivered { name: Cow::Borrowed(""), data: Cow::Owned(data.clone()) };
    events(&mut delivered.iter().map(taken), answer.to_string().as_bytes())
}

/// A client as the tests need it: text grows, other parts are appended, everything else is replaced by what came last.
fn accumulate(blocks: &[String]) -> Value {
    let mut whole = json!({});
    for block in blocks {
        let block: Value = serde_json::from_str(block).unwrap();
        for (key, value) in block.as_object().unwrap() {
            if key != "candidates" {
                whole[key] = value.clone();
                continue;
            }
            for candidate in value.as_array().unwrap() {
                let known = &mut whole["candidates"][candidate["index"].to_string()];
                for (key, value) in candidate.as_object().unwrap() {
                    if key != "content" {
                        known[key] = value.clone();
                        continue;
                    }
                    known["role"] = value["role"].clone();
                    for part in value["parts"].as_array().unwrap() {
                        add(&mut known["parts"], part);
                    }
                }
            }
        }
    }
    whole
}

fn add(parts: &mut Value, part: &Value) {
    if parts.is_null() {
        *parts = json!([]);
    }
    let parts = parts.as_array_mut().unwrap();
    let thought = part.get("thought").cloned();
    match (part.get("text").and_then(Value::as_str), parts.last_mut()) {
        (Some(""), _) if part.get("thoughtSignature").is_none() => {}
        (Some(more), Some(last)) if last["text"].is_string() && last.get("thought") == thought.as_ref() => {
            last["text"] = Value::from(last["text"].as_str().unwrap().to_owned() + more);
            if let Some(signature) = part.get("thoughtSignature") {
                last["thoughtSignature"] = signature.clone();
            }
        }
        _ => parts.push(part.clone()),
    }
}

/// What a client has in the end, or `None` if there is no rest.
fn in_the_end(delivered: &[String], answer: &Value) -> Option<Value> {
    let left = rest(delivered, answer)?;
    assert!(left.iter().all(|event| event.name.is_empty() && event.id.is_none() && !event.data.contains('\n')));
    let blocks: Vec<String> = delivered.iter().cloned().chain(left.into_iter().map(|event| event.data)).collect();
    Some(accumulate(&blocks))
}

/// What it must have: the answer under the stream's own id.
fn wanted(answer: &Value) -> Value {
    let mut answer = answer.clone();
    answer["responseId"] = json!("stream");
    accumulate(&[answer.to_string()])
}

#[test]
fn only_the_rest_is_sent_and_under_the_streams_id() {
    let answer = answer(&json!([{"text": "Hello wide world"}]));
    let left = rest(&[says("Hello "), says("wide")], &answer).unwrap();
    let data: Vec<&str> = left.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(
        data,
        [
            r#"{"candidates":[{"content":{"parts":[{"text":" world"}],"role":"model"},"finishReason":"STOP","index":0,"avgLogprobs":-0.5}],"usageMetadata":{"totalTokenCount":9},"modelVersion":"m","responseId":"stream"}"#
        ]
    );
}

#[test]
fn text_that_was_delivered_whole_still_gets_its_finish() {
    let answer = answer(&json!([{"text": "ab"}, {"text": "c"}]));
    let left = rest(&[says("abc")], &answer).unwrap();
    assert!(
        left[0]
            .data
            .starts_with(r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP""#)
    );
    let finished = says("abc").replace("\"index\":0", r#""finishReason":"STOP","index":0"#);
    assert_eq!(rest(std::slice::from_ref(&finished), &answer).unwrap(), [], "nothing is left to say");
    assert_eq!(rest(&[finished.replace("abc", "ab")], &answer), None, "the client was told that nothing follows");
}

#[test]
fn an_answer_that_says_something_else_has_no_rest() {
    let other = answer(&json!([{"text": "Hello there"}]));
    assert_eq!(rest(&[says("Hello wide")], &other), None);
    assert_eq!(rest(&[says("Hello there!")], &other), None, "delivered more than the answer has");
    assert_eq!(rest(&[says("Hello").replace("\"index\":0", "\"index\":1")], &other), None);
    assert_eq!(rest(&[says("a")], &json!({"promptFeedback": {"blockReason": "SAFETY"}})), None);
    assert_eq!(rest(&[says("a")], &json!({"candidates": []})), None);
    assert_eq!(rest(&[says("a")], &json!({"error": {"code": 500}})), None);
}

#[test]
fn what_is_more_than_text_cannot_be_continued() {
    let parts = [
        json!({"text": "Hm", "thought": true}),
        json!({"functionCall": {"name": "f", "args": {}}}),
        json!({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
        json!({"text": "Hm", "thoughtSignature": "s"}),
        json!("Hm"),
    ];
    for part in parts {
        let answer = answer(&json!([part, {"text": "Hm, so"}]));
        assert_eq!(rest(&[block(&json!([part]))], &answer), None, "{part}");
        assert_eq!(rest(&[says("Hm")], &answer).is_some(), part.get("thoughtSignature").is_some(), "{part}");
    }
}

#[test]
fn what_is_not_understood_cannot_be_continued() {
    let answer = answer(&json!([{"text": "ab"}]));
    for data in [
        "ping",
        "[]",
        r#"{"error":{"code":500}}"#,
        r#"{"response":{"candidates":[]}}"#,
        r#"{"candidates":{}}"#,
        r#"{"candidates":[{"index":"x"}]}"#,
        r#"{"candidates":[{"content":"a"}]}"#,
        r#"{"candidates":[{"logprobsResult":{"chosenCandidates":[1]}}]}"#,
        r#"{"candidates":[{"citationMetadata":{"citationSources":[1]}}]}"#,
        r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
    ] {
        assert_eq!(rest(&[says("a"), data.into()], &answer), None, "{data}");
    }
    for data in ["", r#"{"usageMetadata":{"totalTokenCount":1}}"#, r#"{"candidates":[{"safetyRatings":[{}]}]}"#] {
        assert!(rest(&[says("a"), data.into()], &answer).is_some(), "{data}");
    }
}

#[test]
fn parts_that_follow_the_delivered_text_are_part_of_the_rest() {
    let answer = answer(&json!([
        {"text": "Let me "}, {"text": "look."},
        {"functionCall": {"name": "f", "args": {"n": 1}}, "thoughtSignature": "s"}, {"text": "More."}
    ]));
    for delivered in [vec![], vec![says("Let")], vec![says("Let me l")], vec![says("Let me "), says("look.")]] {
        let mut wanted = wanted(&answer);
        if delivered.is_empty() {
            wanted["responseId"] = json!("answer");
        }
        assert_eq!(in_the_end(&delivered, &answer).unwrap(), wanted);
    }
    assert_eq!(rest(&[says("Let me look.M")], &answer), None);
}

#[test]
fn the_signature_goes_with_the_end_of_the_text() {
    let answer = answer(&json!([{"text": "abc", "thoughtSignature": "s"}]));
    for cut in ["a", "abc"] {
        assert_eq!(in_the_end(&[says(cut)], &answer).unwrap(), wanted(&answer), "{cut}");
    }
}

#[test]
fn thoughts_are_not_put_behind_the_words_they_led_to() {
    let answer = answer(&json!([{"text": "Hm", "thought": true}, {"text": "ab"}]));
    assert_eq!(rest(&[says("a")], &answer), None);
    let nothing = block(&json!([{"text": ""}]));
    assert_eq!(in_the_end(&[nothing], &answer).unwrap(), wanted(&answer));
}

#[test]
fn each_candidate_goes_on_where_it_stands() {
    let mut answer = answer(&json!([{"text": "ab"}]));
    let second = json!({"content": {"parts": [{"text": "cd"}], "role": "model"}, "finishReason": "MAX_TOKENS", "index": 1, "logprobsResult": {"x": 1}});
    answer["candidates"].as_array_mut().unwrap().push(second);
    assert_eq!(in_the_end(&[says("a")], &answer).unwrap(), wanted(&answer), "nothing came of the second");
    let both = [says("a"), says("c").replace("\"index\":0", "\"index\":1")];
    let mut expected = wanted(&answer);
    expected["candidates"]["1"].as_object_mut().unwrap().remove("logprobsResult");
    assert_eq!(in_the_end(&both, &answer).unwrap(), expected);
}

proptest! {
    #[test]
    fn wherever_it_breaks_the_client_ends_up_with_the_answer(pieces in prop::collection::vec("[a-zé\"\\\\\u{1f600}\n]{0,5}", 1..8), cut in 1..9_usize, split in any::<prop::sample::Index>()) {
        let text = pieces.concat();
        let mut at = split.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let answer = answer(&json!([{"text": &text[..at]}, {"text": &text[at..]}]));
        let mut delivered: Vec<String> = pieces.iter().map(|text| says(text)).collect();
        delivered.truncate(cut);
        prop_assert_eq!(in_the_end(&delivered, &answer).unwrap(), wanted(&answer));
    }

    #[test]
    fn no_bytes_make_the_rest_panic(data in any::<String>(), text in any::<String>(), answer in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = rest(std::slice::from_ref(&data), &self::answer(&json!([{ "text": text }])));
        let _ = rest(&[says(&data)], &self::answer(&json!([{ "text": text }])));
        let _ = events(&mut std::iter::once(Delivered { name: "".into(), data: data.into() }), &answer);
    }
}
