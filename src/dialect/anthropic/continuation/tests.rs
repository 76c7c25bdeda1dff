//! Broken answers that a model goes on with, and what the client has in the end.

use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::accumulate::accumulate;
use super::super::answer;
use super::*;

fn continued(body: &str, delivered: &[OwnedEvent]) -> Option<Continuation> {
    let (method, uri, headers) = (Method::POST, Uri::from_static("/v1/messages?beta=true"), HeaderMap::new());
    let ask = Ask { method: &method, uri: &uri, headers: &headers, body: body.as_bytes() };
    let made = request(&ask, &mut delivered.iter().map(Delivered::from))?;
    assert_eq!(made.uri, uri);
    Some(made)
}

const ASK: &str = r#"{"model":"m","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"Say \u00e9"}],"seed":12345678901234567890123}"#;

fn message(content: &Value, input: u64, output: u64) -> Value {
    json!({"id": format!("msg_{input}"), "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": "end_turn",
        "stop_sequence": null, "usage": {"input_tokens": input, "output_tokens": output}})
}

/// The events of a message of texts, each text in the given pieces.
fn stream(texts: &[&[&str]], input: u64, output: u64) -> Vec<OwnedEvent> {
    let content: Vec<Value> = texts.iter().map(|_| json!({"type": "text", "text": ""})).collect();
    let whole = answer::events(message(&json!(content), input, output).to_string().as_bytes()).unwrap();
    let mut events = Vec::new();
    for event in whole {
        let begins = event.name == "content_block_start";
        let index =
            RawObject::read(event.data.as_bytes()).unwrap().get("index").map_or(0, |at| at.get().parse().unwrap());
        events.push(event);
        let pieces = if begins { texts[index] } else { &[] };
        events.extend(pieces.iter().map(|piece| says(index, piece)));
    }
    events
}

fn says(index: usize, piece: &str) -> OwnedEvent {
    block_delta(index, &json!({"type": "text_delta", "text": piece}).to_string())
}

/// A stream of one text that broke inside it. Its `message_start` says that three tokens came out.
fn broken(pieces: &[&str]) -> Vec<OwnedEvent> {
    let mut events = stream(&[pieces], 9, 0);
    events.truncate(2 + pieces.len());
    events[0].data = events[0].data.replace(r#""output_tokens":0"#, r#""output_tokens":3"#);
    events
}

fn body(made: &Continuation) -> Value {
    serde_json::from_slice(&made.body).unwrap()
}

/// What the client gets of a second stream, or the fault that ends it.
fn joined(made: &mut Continuation, second: &[OwnedEvent]) -> Result<Vec<OwnedEvent>, Box<Fault>> {
    let mut got = Vec::new();
    for event in second {
        match made.reader.read(&Event { name: event.name.as_bytes(), data: event.data.as_bytes(), id: None }) {
            Meaning::Content | Meaning::Done => got.push(event.clone()),
            Meaning::Replace(event) => got.push(event),
            Meaning::Skip | Meaning::Filler => {}
            Meaning::Error(fault) => return Err(fault),
            Meaning::Preamble => panic!("nothing is held back in the middle of an answer"),
        }
    }
    Ok(got)
}

/// The text in the end of what was delivered in `first` pieces and is continued in `second` ones.
fn text_in_the_end(first: &[&str], second: &[&str]) -> Result<String, Box<Fault>> {
    let delivered = broken(first);
    let mut made = continued(ASK, &delivered).unwrap();
    let whole = accumulate(&[delivered, joined(&mut made, &stream(&[second], 12, 5))?].concat());
    assert_eq!(whole["content"].as_array().unwrap().len(), 1);
    Ok(whole["content"][0]["text"].as_str().unwrap().to_owned())
}

#[test]
fn the_model_is_asked_to_go_on_with_its_own_words() {
    let made = continued(ASK, &broken(&["Hello ", "wide \"é\"\n\n "])).unwrap();
    let wanted = r#"{"model":"m","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"Say \u00e9"},{"role":"assistant","content":"Hello wide \"é\""}],"seed":12345678901234567890123}"#;
    assert_eq!(made.body, wanted);
}

#[test]
fn the_second_stream_is_the_rest_of_the_first() {
    let delivered = broken(&["Hello ", "wide"]);
    let mut made = continued(ASK, &delivered).unwrap();
    let mut second = stream(&[&[" wor", "ld"]], 12, 5);
    second.insert(2, OwnedEvent::new("ping", r#"{"type": "ping"}"#));
    let got = joined(&mut made, &second).unwrap();
    let names: Vec<&str> = got.iter().map(|event| event.name.as_str()).collect();
    let delta = "content_block_delta";
    assert_eq!(names, [delta, delta, "content_block_stop", "message_delta", "message_stop"]);
    let whole = accumulate(&[delivered, got].concat());
    let mut wanted = message(&json!([{"type": "text", "text": "Hello wide world"}]), 9, 8);
    wanted["usage"]["input_tokens"] = json!(12);
    assert_eq!(whole, wanted, "the first id, and what both put out");
    assert_eq!(made.reader.clean_end(), CleanEnd::Unmarked);
}

#[test]
fn white_space_that_the_model_did_not_see_is_not_said_twice() {
    let text = |first: &[&str], second: &[&str]| text_in_the_end(first, second).unwrap();
    assert_eq!(text(&["Hello "], &[" world"]), "Hello world");
    assert_eq!(text(&["Hello\n\n"], &["\n", "\n", "- a"]), "Hello\n\n- a");
    assert_eq!(text(&["Hello\n\n"], &["\n- a"]), "Hello\n\n- a", "a part of it");
    assert_eq!(text(&["Hello\n"], &["world"]), "Hello\nworld");
    assert_eq!(text(&["Hello\n"], &["  x"]), "Hello\n  x", "other white space is the model's");
    assert_eq!(text(&["Hello "], &[" "]), "Hello ", "nothing came but what was there");
    assert_eq!(text(&["Hello "], &[]), "Hello ");
    assert_eq!(text(&["Hello"], &[" ", "world"]), "Hello world");
}

#[test]
fn an_echo_of_what_was_delivered_is_dropped() {
    let first = ["The quick brown fox ", "jumps\n"];
    let text = |second: &[&str]| text_in_the_end(&first, second).unwrap();
    assert_eq!(text(&["The quick brown fox jumps over"]), "The quick brown fox jumps\n over");
    assert_eq!(text(&["The quick", " brown fox", " jumps\nover"]), "The quick brown fox jumps\nover");
    assert_eq!(text(&["The quick brown fox jumps"]), "The quick brown fox jumps\n");
    assert_eq!(text(&["The ", "dog"]), "The quick brown fox jumps\nThe dog", "not an echo after all");
    assert_eq!(text_in_the_end(&["ha"], &["ha", "ha"]).unwrap(), "hahaha", "too short to be told from a repetition");
}

#[test]
fn what_may_be_an_echo_or_not_is_an_error_and_never_a_silent_loss() {
    let fault = text_in_the_end(&["The quick brown fox jumps"], &["The quick"]).unwrap_err();
    assert_eq!(fault.code, Code::UpstreamTruncated);
}

#[test]
fn later_blocks_keep_their_order() {
    let first = stream(&[&["One.", " "], &["Two", " and "]], 9, 0);
    let delivered = &first[..8];
    let mut made = continued(ASK, delivered).unwrap();
    let parts = json!([{"type": "text", "text": "One. "}, {"type": "text", "text": "Two and"}]);
    assert_eq!(body(&made)["messages"][1], json!({"role": "assistant", "content": parts}));
    let got = joined(&mut made, &stream(&[&[" more", "!"], &["Three"]], 12, 5)).unwrap();
    let whole = accumulate(&[delivered, &got].concat());
    let texts: Vec<&str> =
        whole["content"].as_array().unwrap().iter().map(|block| block["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["One. ", "Two and more!", "Three"]);
}

#[test]
fn a_continued_answer_that_breaks_can_be_continued_again() {
    let mut delivered = broken(&["Hello "]);
    let mut made = continued(ASK, &delivered).unwrap();
    let second = stream(&[&[" wide", " "]], 12, 5);
    delivered.extend(joined(&mut made, &second[..4]).unwrap());
    assert_eq!(made.reader.clean_end(), CleanEnd::Truncated);
    let again = continued(ASK, &delivered).unwrap();
    assert_eq!(body(&again)["messages"][1]["content"], "Hello wide");
}

#[test]
fn words_that_the_caller_began_stay_one_message() {
    let ask = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"I say: \u00e9"}]}"#;
    let made = continued(ask, &broken(&[" yes and"])).unwrap();
    let wanted = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "I say: é yes and"}]);
    assert_eq!(body(&made)["messages"], wanted);
    let listed = r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"I"}]}]}"#;
    assert!(continued(listed, &broken(&["a"])).is_none());
}

#[test]
fn requests_for_more_than_text_are_not_continued() {
    let ask = |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"q"}}],{more}}}"#);
    let delivered = broken(&["a"]);
    for more in [
        r#""tools":[{"name":"f"}]"#,
        r#""thinking":{"type":"enabled","budget_tokens":1024}"#,
        r#""thinking":{"type":"adaptive"}"#,
        r#""mcp_servers":[{"name":"s"}]"#,
        r#""output_config":{"format":{"type":"json_schema"}}"#,
    ] {
        assert!(continued(&ask(more), &delivered).is_none(), "{more}");
    }
    for more in [r#""tools":[]"#, r#""thinking":{"type":"disabled"}"#, r#""output_config":{"effort":"low"}"#] {
        assert!(continued(&ask(more), &delivered).is_some(), "{more}");
    }
    for body in ["", "[]", "{}", r#"{"messages":[]}"#, r#"{"messages":"x"}"#] {
        assert!(continued(body, &delivered).is_none(), "{body}");
    }
}

#[test]
fn only_an_open_block_of_plain_words_is_continued() {
    assert!(continued(ASK, &[]).is_none());
    assert!(continued(ASK, &broken(&[])).is_none(), "no words");
    assert!(continued(ASK, &broken(&[" \n"])).is_none(), "no words");
    let whole = stream(&[&["a"]], 9, 3);
    for cut in 4..=whole.len() {
        assert!(continued(ASK, &whole[..cut]).is_none(), "the block has stopped");
    }
    let begin = |block: &str| {
        OwnedEvent::new("", format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#))
    };
    for block in [
        r#"{"type":"thinking","thinking":""}"#,
        r#"{"type":"tool_use","id":"t","name":"f","input":{}}"#,
        r#"{"type":"text","text":"","new":1}"#,
    ] {
        assert!(continued(ASK, &[whole[0].clone(), begin(block), says(0, "a")]).is_none(), "{block}");
    }
    for odd in [
        block_delta(0, r#"{"type":"citations_delta","citation":{}}"#),
        says(1, "b"),
        OwnedEvent::new("error", r#"{"type":"error"}"#),
        OwnedEvent::new("", "[DONE]"),
    ] {
        assert!(continued(ASK, &[broken(&["a"]), vec![odd.clone()]].concat()).is_none(), "{}", odd.data);
    }
}

#[test]
fn a_second_stream_that_is_no_rest_ends_with_an_error() {
    let answer = message(&json!([{"type": "thinking", "thinking": "x", "signature": "s"}]), 9, 3);
    let thoughts = answer::events(answer.to_string().as_bytes()).unwrap();
    let fault = joined(&mut continued(ASK, &broken(&["a"])).unwrap(), &thoughts).unwrap_err();
    assert_eq!(fault.code, Code::UpstreamTruncated);
    let overloaded = OwnedEvent::new("error", r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#);
    let fault = joined(&mut continued(ASK, &broken(&["a"])).unwrap(), &[overloaded]).unwrap_err();
    assert_eq!((fault.code, fault.message.as_ref()), (Code::UpstreamError, "m"));
}

proptest! {
    #[test]
    fn wherever_it_breaks_and_however_it_goes_on_the_words_are_all_there(words in "[a-c]{1,4}( [a-c]{1,4}){0,6}", cut in 1..30_usize, size in 1..4_usize, echo in any::<bool>()) {
        let chars: Vec<char> = words.chars().collect();
        let (before, after) = chars.split_at(cut.min(chars.len()));
        let texts = |chars: &[char]| chars.chunks(size).map(|piece| piece.iter().collect()).collect::<Vec<String>>();
        let seen: String = before.iter().collect::<String>().trim_end().to_owned();
        // The model goes on after what it saw, so it says the cut white space again.
        let unseen: Vec<char> = chars.iter().skip(seen.chars().count()).copied().collect();
        let echoed = echo && seen.len() >= ECHO_MIN;
        let second = if echoed { chars.clone() } else { unseen };
        let (first, second) = (texts(before), texts(&second));
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        let second: Vec<&str> = second.iter().map(String::as_str).collect();
        match text_in_the_end(&first, &second) {
            Ok(text) => prop_assert_eq!(text, words),
            Err(fault) => prop_assert!(!echoed && seen.starts_with(&second.concat()) && !after.is_empty(), "{fault}"),
        }
    }

    #[test]
    fn no_bytes_make_a_continuation_panic(body in any::<String>(), data in any::<String>(), name in prop::sample::select(vec!["", "content_block_delta", "content_block_start", "content_block_stop", "message_delta", "x"])) {
        let odd = OwnedEvent::new(name, data);
        let _ = continued(&body, &broken(&["a"]));
        let _ = continued(ASK, std::slice::from_ref(&odd));
        let mut made = continued(ASK, &broken(&["a "])).unwrap();
        let _ = joined(&mut made, &[odd]);
    }
}
