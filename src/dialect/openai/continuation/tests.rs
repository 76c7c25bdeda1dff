//! Answers that break, and servers that go on with them.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};
use streamkeeper_session::Code;
use streamkeeper_sse::{Event, OwnedEvent};

use super::super::OpenAi;
use super::super::accumulate::accumulate;
use crate::dialect::{Ask, CleanEnd, Continuation, Delivered, Dialect, Meaning, Prefill, Reader};

const STYLES: [Prefill; 3] = [Prefill::Prefix, Prefill::ContinueFinalMessage, Prefill::Trailing];

/// Fifty tokens, with spaces before, after and between words, line ends, and letters of several bytes.
fn tokens() -> Vec<String> {
    let some = ["Naïve", " text", " ", "is", "\n", "\n", "  -", " 水の", "流れ", ",", " \"x\"", "\t", " né"];
    (0..50).map(|at| if at % 7 == 6 { format!(" {at}") } else { some[at % some.len()].to_owned() }).collect()
}

fn ask_body(chat: bool) -> Value {
    let mut body = json!({"model": "m", "stream": true, "max_tokens": 99, "stream_options": {"include_usage": true}});
    if chat {
        body["messages"] = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]);
    } else {
        body["prompt"] = json!("Once upon");
    }
    body
}

fn chunk(id: &str, chat: bool, text: Option<&str>, finish: Option<&str>) -> Value {
    let choice = match (chat, text) {
        (true, Some(text)) => json!({"index": 0, "delta": {"content": text}, "finish_reason": finish}),
        (true, None) => json!({"index": 0, "delta": {}, "finish_reason": finish}),
        (false, text) => {
            json!({"index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish})
        }
    };
    let object = if chat { "chat.completion.chunk" } else { "text_completion" };
    json!({"id": id, "object": object, "created": id.len(), "model": format!("m-{id}"), "choices": [choice]})
}

fn role(id: &str) -> Value {
    let mut chunk = chunk(id, true, Some(""), None);
    chunk["choices"][0]["delta"]["role"] = json!("assistant");
    chunk
}

fn usage(id: &str, chat: bool, n: u64) -> Value {
    let mut chunk = chunk(id, chat, None, None);
    chunk["choices"] = json!([]);
    chunk["usage"] = json!({"prompt_tokens": n, "total_tokens": n, "details": {"cached": n, "ratio": 0.5}});
    chunk
}

/// A server's stream of `texts`.
fn stream(id: &str, chat: bool, texts: &[&str]) -> Vec<String> {
    let first = chat.then(|| role(id));
    let texts = texts.iter().map(|text| chunk(id, chat, Some(text), None));
    let last = [chunk(id, chat, None, Some("stop")), usage(id, chat, 7)];
    first.into_iter().chain(texts).chain(last).map(|chunk| chunk.to_string()).chain(["[DONE]".to_owned()]).collect()
}

fn continuation(body: &Value, style: Prefill, delivered: &[String]) -> Option<Continuation> {
    let (uri, headers) = (Uri::from_static("/v1/chat/completions?a=b"), HeaderMap::new());
    let body = body.to_string();
    let ask = Ask { method: &Method::POST, uri: &uri, headers: &headers, body: body.as_bytes() };
    let mut taken = delivered.iter().map(|data| Delivered { name: Cow::Borrowed(""), data: Cow::Borrowed(data) });
    let made = OpenAi.continuation(&ask, style, &mut taken);
    assert!(made.iter().all(|made| made.uri == uri));
    made
}

fn meaning(reader: &mut dyn Reader, data: &str) -> Meaning {
    reader.read(&Event { name: b"", data: data.as_bytes(), id: None })
}

/// What a client gets of the second stream.
fn spliced(reader: &mut dyn Reader, second: &[String]) -> Vec<OwnedEvent> {
    let mut events = Vec::new();
    for data in second {
        match meaning(reader, data) {
            Meaning::Content | Meaning::Done => events.push(OwnedEvent::new("", data.as_str())),
            Meaning::Replace(event) => events.push(event),
            Meaning::Skip | Meaning::Filler => {}
            other => panic!("{other:?} for {data}"),
        }
    }
    events
}

/// What the server is asked to go on with, after a check that it is asked in the right way.
fn asked(made: &Continuation, style: Prefill, chat: bool) -> String {
    let mut body: Value = serde_json::from_slice(&made.body).unwrap();
    let whole = body.as_object_mut().unwrap();
    if !chat {
        let prompt = whole.insert("prompt".into(), json!("Once upon")).unwrap();
        assert_eq!(body, ask_body(false));
        return prompt.as_str().unwrap().strip_prefix("Once upon").unwrap().to_owned();
    }
    let template = style == Prefill::ContinueFinalMessage;
    assert_eq!(whole.remove("continue_final_message"), template.then(|| json!(true)));
    assert_eq!(whole.remove("add_generation_prompt"), template.then(|| json!(false)));
    let mut message = whole["messages"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!(body, ask_body(true));
    let fields = message.as_object_mut().unwrap();
    assert_eq!(fields.remove("prefix"), (style == Prefill::Prefix).then(|| json!(true)));
    assert_eq!(fields.remove("role"), Some(json!("assistant")));
    let text = fields.remove("content").unwrap();
    assert!(fields.is_empty());
    text.as_str().unwrap().to_owned()
}

/// `text` in pieces of `size` characters.
fn pieces(text: &str, size: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(size.max(1)).map(|piece| piece.iter().collect()).collect()
}

/// Breaks the answer after `cut` of its tokens, goes on, and gives what the client has in the end.
fn in_the_end(tokens: &[String], cut: usize, style: Prefill, chat: bool, echo: bool, size: usize) -> Option<Value> {
    let whole = tokens.concat();
    let told: Vec<&str> = tokens[..cut].iter().map(String::as_str).collect();
    let mut delivered = stream("first", chat, &told);
    delivered.truncate(delivered.len() - 3);
    let mut made = continuation(&ask_body(chat), style, &delivered)?;
    let sent = asked(&made, style, chat);
    let rest = if echo { whole.as_str() } else { whole.strip_prefix(sent.as_str()).unwrap() };
    let second = pieces(rest, size);
    let second = stream("2nd", chat, &second.iter().map(String::as_str).collect::<Vec<_>>());
    let rest = spliced(&mut *made.reader, &second);
    let all: Vec<_> = delivered.iter().map(|data| OwnedEvent::new("", data.as_str())).chain(rest).collect();
    Some(accumulate(&all))
}

#[test]
fn an_answer_cut_after_any_token_ends_as_the_uncut_one() {
    let tokens = tokens();
    let events = |chat, texts: &[&str]| -> Vec<_> {
        stream("first", chat, texts).iter().map(|data| OwnedEvent::new("", data.as_str())).collect()
    };
    for chat in [true, false] {
        let uncut = accumulate(&events(chat, &tokens.iter().map(String::as_str).collect::<Vec<_>>()));
        for style in STYLES {
            for (echo, size) in [(false, 4), (true, 3), (true, 4000)] {
                for cut in 1..tokens.len() {
                    let got = in_the_end(&tokens, cut, style, chat, echo, size);
                    assert_eq!(got.as_ref(), Some(&uncut), "{style:?} chat {chat} echo {echo} size {size} cut {cut}");
                }
            }
        }
    }
}

#[test]
fn white_space_at_the_end_is_not_sent_and_not_said_twice() {
    let delivered = [chunk("a", true, Some("one \n\n"), None).to_string()];
    let mut made = continuation(&ask_body(true), Prefill::Trailing, &delivered).unwrap();
    assert_eq!(asked(&made, Prefill::Trailing, true), "one");
    let says = |text: &str| chunk("b", true, Some(text), None).to_string();
    let events = spliced(&mut *made.reader, &[says(" "), says("\n"), says("\n\ntwo")]);
    assert_eq!(events.len(), 1);
    assert!(events[0].data.contains(r#""delta":{"content":"\ntwo"}"#), "{}", events[0].data);
    let mut made = continuation(&ask_body(true), Prefill::Trailing, &delivered).unwrap();
    let events = spliced(&mut *made.reader, &[says("two\n")]);
    assert!(events[0].data.contains(r#""content":"two\n""#), "other white space than expected is nobody's loss");
}

#[test]
fn what_only_looks_like_an_echo_is_not_lost() {
    let delivered = [chunk("a", true, Some("ha ha ho"), None).to_string()];
    let says = |text: &str| chunk("b", true, Some(text), None).to_string();
    let made = || continuation(&ask_body(true), Prefill::Prefix, &delivered).unwrap();
    let events = spliced(&mut *made().reader, &[says("ha "), says("ha "), says("hi")]);
    assert_eq!(events.len(), 1);
    assert!(events[0].data.contains(r#""content":"ha ha hi""#));
    let finish = chunk("b", true, None, Some("stop")).to_string();
    let events = spliced(&mut *made().reader, &[says("ha "), finish, "[DONE]".into()]);
    assert!(events[0].data.contains(r#""delta":{"content":"ha "},"finish_reason":"stop""#), "{}", events[0].data);
    let mut made = made();
    assert_eq!(meaning(&mut *made.reader, &says("ha ")), Meaning::Skip);
    assert_eq!(made.reader.clean_end(), CleanEnd::Truncated);
    let Meaning::Error(fault) = meaning(&mut *made.reader, "[DONE]") else { panic!("held text is lost") };
    assert_eq!(fault.code, Code::UpstreamTruncated);
}

#[test]
fn usage_counts_both_streams_if_the_first_told_its_own() {
    let mut told = chunk("a", true, Some("one"), None);
    told["usage"] = json!({"prompt_tokens": 5, "total_tokens": 6, "details": {"cached": 1}, "extra": 4});
    let last = |delivered: Value| {
        let mut made = continuation(&ask_body(true), Prefill::Trailing, &[delivered.to_string()]).unwrap();
        let second = stream("b", true, &[" two"]);
        let events = spliced(&mut *made.reader, &second);
        let chunk: Value = serde_json::from_str(&events[events.len() - 2].data).unwrap();
        assert_eq!(chunk["id"], "a");
        chunk["usage"].clone()
    };
    assert_eq!(
        last(told),
        json!({"prompt_tokens": 12, "total_tokens": 13, "details": {"cached": 8, "ratio": 0.5}, "extra": 4})
    );
    assert_eq!(last(chunk("a", true, Some("one"), None)), usage("b", true, 7)["usage"]);
}

#[test]
fn a_second_role_and_second_thoughts_are_dropped_and_tool_calls_are_not() {
    let thought = json!({"role": "assistant", "reasoning_content": "hm"});
    let mut first = chunk("a", true, None, None);
    first["choices"][0]["delta"] = thought.clone();
    let delivered = [first.to_string(), chunk("a", true, Some("one"), None).to_string()];
    let mut made = continuation(&ask_body(true), Prefill::Prefix, &delivered).unwrap();
    assert_eq!(asked(&made, Prefill::Prefix, true), "one");
    let mut second = chunk("b", true, None, None);
    second["choices"][0]["delta"] = thought;
    assert_eq!(meaning(&mut *made.reader, &second.to_string()), Meaning::Skip);
    let call = json!([{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    second["choices"][0]["delta"] = json!({"role": "assistant", "content": null, "tool_calls": call});
    let Meaning::Replace(event) = meaning(&mut *made.reader, &second.to_string()) else { panic!("no call") };
    let got: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((&got["id"], &got["choices"][0]["delta"]), (&json!("a"), &json!({ "tool_calls": call })));
}

#[test]
fn errors_of_the_second_stream_stay_errors() {
    let delivered = [chunk("a", true, Some("one"), None).to_string()];
    let mut made = continuation(&ask_body(true), Prefill::Prefix, &delivered).unwrap();
    let error = r#"{"error":{"message":"m","type":"server_error"}}"#;
    assert!(matches!(meaning(&mut *made.reader, error), Meaning::Error(_)));
    assert!(made.reader.field(b"error", b"{}").is_some());
    assert_eq!(made.reader.clean_end(), CleanEnd::Truncated);
    let list = chunk("b", true, None, None).to_string().replace("{}", r#"{"content":[{"type":"text"}]}"#);
    assert!(matches!(meaning(&mut *made.reader, &list), Meaning::Error(_)), "text in parts cannot be joined");
}

#[test]
fn only_plain_text_of_one_choice_is_continued() {
    let text = chunk("a", true, Some("one"), None);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut more = chunk("a", true, Some("two"), None);
        change(&mut more);
        continuation(&ask_body(true), Prefill::Prefix, &[text.to_string(), more.to_string()])
    };
    assert!(with(&|_| {}).is_some());
    for delta in [
        json!({"tool_calls": [{"index": 0}]}),
        json!({"refusal": "no"}),
        json!({"audio": {"data": "x"}}),
        json!({"content": ["x"]}),
        json!({"reasoning_content": "again"}),
    ] {
        assert!(with(&|chunk| chunk["choices"][0]["delta"] = delta.clone()).is_none(), "{delta}");
    }
    assert!(with(&|chunk| chunk["choices"][0]["index"] = json!(1)).is_none());
    assert!(with(&|chunk| chunk["choices"][0]["logprobs"] = json!({"content": [1]})).is_none());
    assert!(with(&|chunk| chunk["choices"][0]["finish_reason"] = json!("stop")).is_none());
    assert!(with(&|chunk| chunk["error"] = json!({"message": "m"})).is_none());
    let said = |datas: &[&str]| {
        let datas: Vec<String> = datas.iter().map(|data| (*data).to_owned()).collect();
        continuation(&ask_body(true), Prefill::Prefix, &datas)
    };
    let thinking = r#"{"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}"#;
    let blank = r#"{"choices":[{"index":0,"delta":{"content":" \n"}}]}"#;
    let says = r#"{"choices":[{"index":0,"delta":{"content":"one"}}]}"#;
    assert!(said(&[thinking, says, says]).is_some());
    for datas in [&[][..], &[thinking], &[blank], &["[DONE]"], &["not json"], &["{}"], &[says, thinking, says]] {
        assert!(said(datas).is_none(), "{datas:?}");
    }
}

#[test]
fn requests_that_bind_the_whole_answer_are_not_continued() {
    let delivered = [chunk("a", true, Some("one"), None).to_string()];
    let with = |key: &str, value: Value| {
        let mut body = ask_body(true);
        body[key] = value;
        continuation(&body, Prefill::ContinueFinalMessage, &delivered).is_some()
    };
    assert!(with("response_format", json!({"type": "text"})) && with("n", json!(1)) && with("tools", json!([{}])));
    assert!(with("logprobs", json!(false)) && with("continue_final_message", json!(false)));
    assert!(with("add_generation_prompt", json!(true)));
    for (key, value) in [
        ("response_format", json!({"type": "json_object"})),
        ("n", json!(2)),
        ("stream", json!(false)),
        ("logprobs", json!(true)),
        ("guided_regex", json!("a+")),
        ("structured_outputs", json!({"json": {}})),
        ("grammar", json!("root ::= x")),
        ("echo", json!(true)),
        ("continue_final_message", json!(true)),
        ("add_generation_prompt", json!(false)),
        ("messages", json!([])),
        ("messages", json!([{"role": "assistant", "content": "I"}])),
    ] {
        assert!(!with(key, value.clone()), "{key}: {value}");
    }
}

#[test]
fn completions_with_several_prompts_or_a_suffix_are_not_continued() {
    let delivered = [chunk("a", false, Some("one"), None).to_string()];
    let with = |key: &str, value: Value| {
        let mut body = ask_body(false);
        body[key] = value;
        continuation(&body, Prefill::Trailing, &delivered).is_some()
    };
    assert!(with("suffix", json!(null)));
    assert!(!with("suffix", json!("x")) && !with("prompt", json!(["a"])) && !with("prompt", json!([1, 2])));
    assert!(!with("echo", json!(true)) && !with("logprobs", json!(3)));
}

proptest! {
    #[test]
    fn any_text_cut_anywhere_is_whole_again(
        tokens in prop::collection::vec("[ab \né\"]{0,4}", 1..12),
        cut in 0_usize..12,
        size in 1_usize..6,
        style in 0_usize..3,
        chat: bool,
        echo: bool,
    ) {
        let cut = cut.min(tokens.len());
        let (whole, said) = (tokens.concat(), tokens[..cut].concat());
        let sent = said.trim_end();
        let looks_like_an_echo = !echo && whole[sent.len()..].starts_with(sent);
        prop_assume!(!looks_like_an_echo);
        let end = in_the_end(&tokens, cut, STYLES[style], chat, echo, size);
        prop_assert_eq!(end.is_none(), sent.is_empty());
        if let Some(end) = end {
            let choice = &end["choices"][0];
            let text = if chat { &choice["message"]["content"] } else { &choice["text"] };
            prop_assert_eq!(text.as_str().unwrap(), whole);
            prop_assert_eq!(&end["id"], "first");
        }
    }

    #[test]
    fn no_second_stream_makes_the_reader_panic(
        data in prop_oneof![any::<String>(), r#"\{("(choices|usage|id|index|delta|content)":(\[|\{|\]|\}|1|"é",?)){0,6}\}"#],
        inner in r#"\{("(content|role|tool_calls|reasoning)":("a"|null|\[\]|1),?){0,3}\}"#,
    ) {
        let delivered = [chunk("a", true, Some("aé "), None).to_string()];
        let mut made = continuation(&ask_body(true), Prefill::Prefix, &delivered).unwrap();
        let wrapped = format!(r#"{{"choices":[{{"index":0,"delta":{inner}}}]}}"#);
        for data in [data.as_str(), &wrapped, "[DONE]"] {
            meaning(&mut *made.reader, data);
        }
        made.reader.clean_end();
        let datas = [data, wrapped];
        let _ = continuation(&ask_body(true), Prefill::Prefix, &datas);
    }
}
