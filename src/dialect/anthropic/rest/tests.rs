//! A stream that broke, and an answer that stands in for what is left of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::accumulate::accumulate;
use super::super::answer;
use super::*;

fn message(content: &Value) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": "end_turn",
        "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 5}})
}

fn text(text: &str) -> Value {
    message(&json!([{"type": "text", "text": text}]))
}

fn named(name: &str, more: Value) -> OwnedEvent {
    let mut data = json!({ "type": name });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    OwnedEvent::new(name, data.to_string())
}

fn start() -> OwnedEvent {
    named(
        "message_start",
        json!({"message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 1, "output_tokens": 1}}}),
    )
}

fn begin(index: usize, block: Value) -> OwnedEvent {
    named("content_block_start", json!({"index": index, "content_block": block}))
}

fn delta(index: usize, delta: Value) -> OwnedEvent {
    named("content_block_delta", json!({"index": index, "delta": delta}))
}

fn says(piece: &str) -> OwnedEvent {
    delta(0, json!({"type": "text_delta", "text": piece}))
}

fn stops(index: usize) -> OwnedEvent {
    named("content_block_stop", json!({ "index": index }))
}

/// A stream of text as far as it came.
fn said(pieces: &[&str]) -> Vec<OwnedEvent> {
    let mut events = vec![start(), begin(0, json!({"type": "text", "text": ""})), named("ping", json!({}))];
    events.extend(pieces.iter().map(|piece| says(piece)));
    events
}

fn rest(delivered: &[OwnedEvent], answer: &Value) -> Option<Vec<OwnedEvent>> {
    events(&mut delivered.iter().map(Delivered::from), answer.to_string().as_bytes())
}

/// What a client has in the end, or `None` if there is no rest.
fn in_the_end(delivered: &[OwnedEvent], answer: &Value) -> Option<Value> {
    let left = rest(delivered, answer)?;
    Some(accumulate(&[delivered, &left].concat()))
}

#[test]
fn only_the_rest_is_sent_under_the_same_head() {
    let left = rest(&said(&["Hello ", "wide"]), &text("Hello wide world")).unwrap();
    let wanted = [
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" world"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":1,"output_tokens":5}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    assert_eq!(left.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), wanted);
}

#[test]
fn an_answer_that_says_something_else_has_no_rest() {
    let other = text("Hello there");
    assert_eq!(rest(&said(&["Hello wide"]), &other), None);
    assert_eq!(rest(&said(&["Hello there!"]), &other), None, "delivered more than the answer has");
    assert_eq!(rest(&[said(&["Hello"]), vec![stops(0)]].concat(), &other), None, "the block stopped earlier");
    assert_eq!(rest(&said(&["Hello"]), &message(&json!([]))), None);
    assert_eq!(rest(&said(&[""]), &message(&json!([{"type": "thinking", "thinking": ""}]))), None);
    let lost = [said(&["a"]), vec![stops(0), begin(1, json!({"type": "text", "text": ""}))]].concat();
    assert_eq!(rest(&lost, &text("a")), None, "a block that the answer lacks");
}

#[test]
fn what_is_not_understood_has_no_rest() {
    let answer = text("ab");
    let odd = [
        OwnedEvent::new("", "[DONE]"),
        OwnedEvent::new("", "{}"),
        start(),
        named("message_stop", json!({})),
        named("error", json!({"error": {"type": "api_error", "message": "m"}})),
        named("new_event", json!({})),
        delta(0, json!({"type": "new_delta", "text": "a"})),
        delta(1, json!({"type": "text_delta", "text": "a"})),
        delta(0, json!({"type": "citations_delta", "citation": {}})),
        stops(7),
        begin(0, json!({"type": "text", "text": ""})),
    ];
    for event in odd {
        assert_eq!(rest(&[said(&[]), vec![event.clone()]].concat(), &answer), None, "{}", event.data);
    }
    assert_eq!(rest(&[says("a")], &answer), None, "a block that did not begin");
    assert_eq!(events(&mut std::iter::empty(), br#"{"type":"error","error":{"message":"m"}}"#), None);
}

#[test]
fn nothing_delivered_leaves_the_whole() {
    for delivered in [vec![], vec![named("ping", json!({}))]] {
        assert_eq!(in_the_end(&delivered, &text("ab")).unwrap(), text("ab"));
    }
    assert_eq!(in_the_end(&[start()], &text("ab")).unwrap(), text("ab"));
    assert_eq!(in_the_end(&said(&[]), &text("ab")).unwrap(), text("ab"));
}

#[test]
fn an_ended_message_only_lacks_its_stop() {
    let end = named("message_delta", json!({"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}));
    let whole = [said(&["ab"]), vec![stops(0), end.clone()]].concat();
    assert_eq!(rest(&whole, &text("ab")).unwrap(), [stop()]);
    assert_eq!(rest(&whole, &text("abc")), None);
    assert_eq!(rest(&[said(&["a"]), vec![end.clone()]].concat(), &text("ab")), None, "inside a block");
    let more = message(&json!([{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]));
    assert_eq!(rest(&whole, &more), None, "the client was told that nothing follows");
    let counts = named("message_delta", json!({"delta": {"stop_reason": null}, "usage": {"output_tokens": 5}}));
    assert_eq!(in_the_end(&[said(&["a"]), vec![counts]].concat(), &text("ab")).unwrap(), text("ab"));
}

#[test]
fn a_tool_in_flight_goes_on_only_if_it_is_the_same_call() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"a": "b c"}});
    let answer = message(&json!([call("t1")]));
    let begin = |id: &str| begin(0, json!({"type": "tool_use", "id": id, "name": "f", "input": {}}));
    let piece = |json: &str| delta(0, json!({"type": "input_json_delta", "partial_json": json}));
    for pieces in [vec![], vec![piece("")], vec![piece("{\"a\":"), piece("\"b ")]] {
        let delivered = [vec![start(), begin("t1")], pieces].concat();
        assert_eq!(in_the_end(&delivered, &answer).unwrap(), answer);
    }
    assert_eq!(rest(&[start(), begin("t2")], &answer), None, "another call");
    assert_eq!(rest(&[start(), begin("t1"), piece("{\"x")], &answer), None, "another input");
    assert_eq!(rest(&[start(), begin("t1"), piece("{\"a\": \"b")], &answer), None, "other white space, cut off");
    let whole = [start(), begin("t1"), piece("{\"a\": \"b c\"}"), stops(0)];
    assert_eq!(in_the_end(&whole, &answer).unwrap(), answer, "other white space, but whole");
}

#[test]
fn thoughts_go_on_until_they_are_signed() {
    let thought = |text: &str, signature: &str| json!({"type": "thinking", "thinking": text, "signature": signature});
    let answer = message(&json!([thought("Hm, so", "S1")]));
    let thinks = |text: &str| delta(0, json!({"type": "thinking_delta", "thinking": text}));
    let signs = |text: &str| delta(0, json!({"type": "signature_delta", "signature": text}));
    let head = vec![start(), begin(0, thought("", ""))];
    for more in [vec![], vec![thinks("Hm")], vec![thinks("Hm, so")], vec![thinks("Hm, "), thinks("so"), signs("S1")]] {
        assert_eq!(in_the_end(&[head.clone(), more].concat(), &answer).unwrap(), answer);
    }
    for more in
        [vec![thinks("Hm, so"), signs("S2")], vec![thinks("Hm"), signs("S1")], vec![thinks("Hm, so"), signs("S")]]
    {
        assert_eq!(rest(&[head.clone(), more].concat(), &answer), None);
    }
}

#[test]
fn a_block_that_was_given_whole_must_be_the_same() {
    let result = |url: &str| json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": url}]});
    let answer = message(&json!([result("a"), {"type": "text", "text": "ab"}]));
    assert_eq!(in_the_end(&[start(), begin(0, result("a"))], &answer).unwrap(), answer);
    assert_eq!(rest(&[start(), begin(0, result("b"))], &answer), None);
    assert_eq!(rest(&[start(), begin(0, json!({"type": "web_search_tool_result"}))], &answer), None, "less");
    let spread = r#"{"type": "content_block_start", "index": 0, "content_block": {"type": "web_search_tool_result", "tool_use_id": "s", "content": [ {"url": "a"} ] }}"#;
    assert!(rest(&[start(), OwnedEvent::new("content_block_start", spread)], &answer).is_some());
}

#[test]
fn a_long_answer_in_small_pieces_is_compared_in_one_go() {
    let long = "ab ".repeat(50_000);
    let pieces: Vec<&str> = long.as_bytes().chunks(3).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    let left = rest(&said(&pieces), &text(&format!("{long}c"))).unwrap();
    assert!(left[0].data.ends_with(r#""text":"c"}}"#));
}

/// The same stream with every delta of text, thoughts and input in pieces of at most `size` characters.
fn in_pieces(events: Vec<OwnedEvent>, size: usize) -> Vec<OwnedEvent> {
    let split = |event: OwnedEvent| {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        let keys = ["text", "thinking", "partial_json"];
        let Some((key, whole)) = keys.iter().find_map(|key| Some((*key, data["delta"][*key].as_str()?))) else {
            return vec![event];
        };
        let chars: Vec<char> = whole.chars().collect();
        let piece = |chars: &[char]| {
            let mut data = data.clone();
            data["delta"][key] = chars.iter().collect::<String>().into();
            OwnedEvent::new(event.name.as_str(), data.to_string())
        };
        chars.chunks(size).map(piece).collect()
    };
    events.into_iter().flat_map(split).collect()
}

proptest! {
    #[test]
    fn wherever_it_breaks_the_client_ends_up_with_the_answer(thought in any::<String>(), words in "[a-zé\"\\\\\u{1f600}\n]{0,12}", more in any::<String>(), size in 1..5_usize, cut in 0..60_usize) {
        let answer = message(&json!([
            {"type": "thinking", "thinking": thought, "signature": "S"},
            {"type": "text", "text": words, "citations": [{"type": "char_location", "cited_text": more}, {"type": "page_location"}]},
            {"type": "redacted_thinking", "data": more},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": words, "b": [1, {}]}},
            {"type": "text", "text": more},
        ]));
        let mut delivered = in_pieces(answer::events(answer.to_string().as_bytes()).unwrap(), size);
        delivered.truncate(cut.min(delivered.len() - 1));
        prop_assert_eq!(in_the_end(&delivered, &answer).unwrap(), answer);
    }

    #[test]
    fn no_bytes_make_the_rest_panic(data in any::<String>(), name in "[a-z_]{0,8}", answer in prop::collection::vec(any::<u8>(), 0..64)) {
        let odd = OwnedEvent::new(name, data);
        let _ = rest(std::slice::from_ref(&odd), &text("a"));
        let _ = rest(&[said(&["a"]), vec![odd.clone()]].concat(), &text("ab"));
        let _ = events(&mut std::iter::once(Delivered::from(&odd)), &answer);
    }

    #[test]
    fn no_change_in_an_event_makes_the_rest_panic(at in 0..200_usize, byte in 32..127_u8, which in 0..4_usize) {
        let mut events = said(&["a"]);
        let mut data = events[which].data.clone().into_bytes();
        let at = at % data.len();
        data[at] = byte;
        events[which].data = String::from_utf8(data).unwrap();
        let _ = rest(&events, &text("ab"));
    }
}
