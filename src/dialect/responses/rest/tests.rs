//! A stream that broke, and an answer that stands in for what is left of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::accumulate::accumulate;
use super::super::samples::{delivered, event, function_call, message, raw, reasoning, response, rich, streamed};
use super::*;

fn rest(told: &[OwnedEvent], answer: &Value) -> Option<Vec<OwnedEvent>> {
    events(&mut delivered(told), answer.to_string().as_bytes())
}

/// What a client has in the end, or `None` if there is no rest.
fn in_the_end(told: &[OwnedEvent], answer: &Value) -> Option<Value> {
    let left = rest(told, answer)?;
    Some(accumulate(&told.iter().cloned().chain(left).collect::<Vec<_>>()))
}

/// The events that tell `answer`, as far as the one before the first `until`.
fn told_until(answer: &Value, until: &str) -> Vec<OwnedEvent> {
    let line = answer.to_string();
    let whole = script::whole(&Answer::read(&line).unwrap());
    whole.into_iter().take_while(|event| event.name != until).collect()
}

fn cut(pieces: &[&str]) -> Vec<OwnedEvent> {
    let mut told = streamed("resp_a", "msg_a", pieces);
    told.truncate(4 + pieces.len());
    told
}

#[test]
fn only_the_rest_is_sent_under_the_same_item_and_with_the_next_numbers() {
    let answer = response("resp_b", &[message("msg_b", "Hello wide world")]);
    let left = rest(&cut(&["Hello ", "wide"]), &answer).unwrap();
    let place = r#""item_id":"msg_a","output_index":0,"content_index":0"#;
    let first = format!(
        r#"{{"type":"response.output_text.delta","sequence_number":6,{place},"delta":" world","logprobs":[]}}"#
    );
    let second = format!(
        r#"{{"type":"response.output_text.done","sequence_number":7,{place},"text":"Hello wide world","logprobs":[]}}"#
    );
    assert_eq!(left[0], OwnedEvent::new("response.output_text.delta", first));
    assert_eq!(left[1], OwnedEvent::new("response.output_text.done", second));
    let names: Vec<&str> = left[2..].iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["response.content_part.done", "response.output_item.done", "response.completed"]);
}

#[test]
fn the_client_has_the_answer_in_the_end_under_the_ids_it_was_told() {
    let answer = response("resp_b", &[message("msg_b", "Hello")]);
    let wanted = response("resp_b", &[message("msg_a", "Hello")]);
    assert_eq!(in_the_end(&cut(&["Hel"]), &answer).unwrap(), wanted);
    let whole = streamed("resp_a", "msg_a", &["Hel", "lo"]);
    for told in 1..whole.len() {
        assert_eq!(in_the_end(&whole[..told], &answer).unwrap(), wanted_after(told, &wanted, &answer), "{told}");
    }
}

/// Before the item is announced, nobody knows its first id.
fn wanted_after(told: usize, renamed: &Value, answer: &Value) -> Value {
    if told < 3 { answer.clone() } else { renamed.clone() }
}

#[test]
fn an_answer_that_says_something_else_has_no_rest() {
    let answer = response("resp_b", &[message("msg_b", "Hello there")]);
    assert_eq!(rest(&cut(&["Hello wide"]), &answer), None);
    assert_eq!(rest(&cut(&["Hello there!"]), &answer), None, "delivered more than the answer has");
    assert_eq!(rest(&cut(&["Hello"]), &response("resp_b", &[])), None, "an item that the answer lacks");
    assert_eq!(rest(&cut(&["Hello"]), &response("resp_b", &[reasoning("rs", &[])])), None, "another item");
    let done = streamed("resp_a", "msg_a", &["Hello"]);
    assert_eq!(rest(&done[..6], &answer), None, "the client was told that the text ends here");
    assert_eq!(rest(&done, &response("resp_b", &[message("msg_b", "Hello")])), None, "nothing follows the end");
    assert_eq!(events(&mut delivered(&cut(&["H"])), br#"{"error":{"message":"m"}}"#), None);
}

#[test]
fn what_follows_the_delivered_item_is_sent_whole_with_its_own_ids() {
    let answer = response("resp_b", &[message("msg_b", "Let me look."), function_call("fc_b", "call_b", "{\"a\":1}")]);
    let whole = in_the_end(&cut(&["Let"]), &answer).unwrap();
    assert_eq!(whole["output"][0]["id"], "msg_a");
    assert_eq!(whole["output"][1], answer["output"][1]);
}

#[test]
fn a_call_of_another_run_cannot_be_taken_up() {
    let told = response("resp_a", &[function_call("fc_a", "call_a", "{\"city\":\"Bonn\"}")]);
    let answer = response("resp_b", &[function_call("fc_b", "call_b", "{\"city\":\"Bonn\"}")]);
    for until in
        ["response.function_call_arguments.delta", "response.function_call_arguments.done", "response.completed"]
    {
        assert_eq!(rest(&told_until(&told, until), &answer), None, "{until}");
    }
    let same = response("resp_b", &[function_call("fc_b", "call_a", "{\"city\":\"Bonn\"}")]);
    let whole = in_the_end(&told_until(&told, "response.function_call_arguments.done"), &same).unwrap();
    assert_eq!(whole["output"], told["output"]);
}

#[test]
fn reasoning_is_taken_up_only_where_it_says_the_same() {
    let answer = response("resp_b", &[reasoning("rs_b", &["So it is"]), message("msg_b", "Yes")]);
    let same = response("resp_a", &[reasoning("rs_a", &["So it is"])]);
    let other = response("resp_a", &[reasoning("rs_a", &["So it was"])]);
    for until in ["response.reasoning_summary_text.delta", "response.output_item.done", "response.completed"] {
        let whole = in_the_end(&told_until(&same, until), &answer).unwrap();
        assert_eq!((&whole["output"][0]["id"], &whole["output"][1]["id"]), (&json!("rs_a"), &json!("msg_b")));
    }
    assert!(rest(&told_until(&other, "response.reasoning_summary_text.delta"), &answer).is_some(), "nothing said yet");
    assert_eq!(rest(&told_until(&other, "response.reasoning_summary_text.done"), &answer), None);
    assert_eq!(rest(&told_until(&other, "response.completed"), &answer), None);
    let mut secret = same.clone();
    secret["output"][0]["encrypted_content"] = json!("gAAAA");
    assert_eq!(rest(&told_until(&secret, "response.completed"), &answer), None, "thoughts that cannot be compared");
}

#[test]
fn other_tools_are_taken_up_once_they_are_done_and_the_same() {
    let search = |id: &str, query: &str| json!({"id": id, "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": query}});
    let answer = response("resp_b", &[search("ws_b", "q"), message("msg_b", "Yes")]);
    let mut told = told_until(&response("resp_a", &[]), "response.completed");
    told.push(event(&json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0,
        "item": {"id": "ws_a", "type": "web_search_call", "status": "in_progress"}})));
    assert_eq!(rest(&told, &answer), None, "it may be searching for something else");
    told.push(event(&json!({"type": "response.web_search_call.searching", "sequence_number": 3, "output_index": 0, "item_id": "ws_a"})));
    assert_eq!(rest(&told, &answer), None);
    let done = |query: &str| {
        event(
            &json!({"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": search("ws_a", query)}),
        )
    };
    let whole = |query: &str| rest(&[told.clone(), vec![done(query)]].concat(), &answer);
    assert_eq!(whole("other"), None);
    let left = whole("q").unwrap();
    let last: Value = serde_json::from_str(&left.last().unwrap().data).unwrap();
    assert_eq!((&last["sequence_number"], &last["response"]["output"][0]["id"]), (&json!(11), &json!("ws_a")));
}

#[test]
fn a_text_told_with_probabilities_cannot_be_cut() {
    let mut answer = response("resp_b", &[message("msg_b", "Hello")]);
    answer["output"][0]["content"][0]["logprobs"] = json!([{"token": "Hello", "logprob": -1.0}]);
    assert_eq!(rest(&cut(&["Hel"]), &answer), None);
    assert!(rest(&cut(&[]), &answer).is_some());
}

#[test]
fn citations_are_compared_and_the_others_sent() {
    let mut answer = response("resp_b", &[message("msg_b", "Hello")]);
    let cites = |n: u8| json!({"type": "url_citation", "url": format!("https://example.org/{n}"), "start_index": 0, "end_index": 2, "title": "t"});
    answer["output"][0]["content"][0]["annotations"] = json!([cites(0), cites(1)]);
    let cited = |n: u8| {
        event(&json!({"type": "response.output_text.annotation.added", "sequence_number": 5, "item_id": "msg_a",
        "output_index": 0, "content_index": 0, "annotation_index": 0, "annotation": cites(n)}))
    };
    let whole = in_the_end(&[cut(&["Hel"]), vec![cited(0)]].concat(), &answer).unwrap();
    assert_eq!(whole["output"][0]["content"], answer["output"][0]["content"]);
    assert_eq!(rest(&[cut(&["Hel"]), vec![cited(1)]].concat(), &answer), None);
}

#[test]
fn what_is_not_understood_cannot_be_continued() {
    let answer = response("resp_b", &[message("msg_b", "ab")]);
    for data in [
        "[DONE]",
        "ping",
        "[]",
        "{}",
        r#"{"type":"error","error":{"message":"m"}}"#,
        r#"{"type":"response.new_thing","output_index":0}"#,
        r#"{"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"a"}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":1,"delta":"a"}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":0}"#,
        r#"{"type":"response.refusal.delta","output_index":0,"content_index":0,"delta":"a"}"#,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}"#,
    ] {
        let told = cut(&["a"]);
        let mut all = delivered(&told).chain([raw(data)]);
        assert_eq!(events(&mut all, answer.to_string().as_bytes()), None, "{data}");
    }
    let told = cut(&["a"]);
    let mut quiet = delivered(&told).chain([raw(""), raw(r#"{"type":"keepalive","sequence_number":9}"#)]);
    let left = events(&mut quiet, answer.to_string().as_bytes()).unwrap();
    assert_eq!(number_of(&Delivered::from(&left[0])), Some(10));
}

#[test]
fn without_a_beginning_everything_is_sent() {
    let answer = rich();
    assert_eq!(in_the_end(&[], &answer).unwrap(), answer);
}

#[test]
fn where_the_server_does_not_number_its_events_they_are_counted() {
    let mut told = cut(&["He"]);
    for event in &mut told {
        let mut data: Value = serde_json::from_str(&event.data).unwrap();
        data.as_object_mut().unwrap().remove("sequence_number");
        event.data = data.to_string();
    }
    let left = rest(&told, &response("resp_b", &[message("msg_b", "Hello")])).unwrap();
    assert_eq!(number_of(&Delivered::from(&left[0])), Some(5));
}

proptest! {
    #[test]
    fn a_text_cut_anywhere_becomes_whole(pieces in prop::collection::vec("[aé\\n\"😀]{0,3}", 0..6), more in any::<String>()) {
        let text = pieces.concat() + &more;
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let whole = in_the_end(&cut(&pieces), &response("resp_b", &[message("msg_b", &text)])).unwrap();
        prop_assert_eq!(whole, response("resp_b", &[message("msg_a", &text)]));
    }

    #[test]
    fn an_answer_told_by_us_and_cut_anywhere_becomes_whole(at in 0..40_usize) {
        let answer = rich();
        let line = answer.to_string();
        let mut told = script::whole(&Answer::read(&line).unwrap());
        told.truncate(at.min(told.len() - 1));
        let whole = in_the_end(&told, &answer);
        prop_assert_eq!(whole, Some(answer));
    }

    #[test]
    fn no_events_make_it_panic(data in prop::collection::vec(any::<String>(), 0..4), kind in "response\\.(output_text\\.delta|output_item\\.(added|done)|content_part\\.done)", at in 0..3_u64) {
        let answer = rich().to_string();
        let known = json!({"type": kind, "output_index": at, "content_index": at, "delta": "x", "item": {}, "part": {}}).to_string();
        let mut all = data.iter().map(|data| raw(data)).chain([raw(&known)]);
        prop_assert_eq!(events(&mut all, answer.as_bytes()), None);
    }
}
