//! What is asked of the demo's model, and the two forms of its answer: the events of a stream, and one JSON.
//!
//! Not a validator of the vendor's whole schema: it reads what it needs and ignores the rest.
//! Source: OpenAI's reference of `POST /v1/chat/completions`: `chat.completion`, `chat.completion.chunk`, and the
//! error object `{"error":{message,type,param,code}}`.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

use super::text;

/// The model's name, where the caller names none.
pub(super) const MODEL: &str = "streamkeeper-demo";
/// Longest model name that is echoed, in characters.
const MAX_MODEL: usize = 100;
/// A fixed date (2026-01-01), so that equal prompts give equal bytes.
const CREATED: u64 = 1_767_225_600;

/// A request, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    /// The text of the last message of the user.
    pub(super) prompt: String,
    /// Whether a stream is wanted.
    pub(super) stream: bool,
    include_usage: bool,
    model: String,
}

impl Ask {
    /// Reads a request body. `Err` says, for the caller's eyes, what is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
        let messages = body.get("messages").and_then(Value::as_array).ok_or("'messages' must be an array")?;
        let asked = messages
            .iter()
            .rev()
            .find(|message| message.get("role").and_then(Value::as_str) == Some("user"))
            .ok_or("'messages' has no message of the user")?;
        let prompt = content(asked).ok_or("'content' must be a string or an array of parts")?;
        let model = body.get("model").and_then(Value::as_str).unwrap_or(MODEL);
        let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        Ok(Self {
            prompt,
            stream: flag(body.get("stream")),
            include_usage: flag(body.pointer("/stream_options/include_usage")),
            model: model.chars().take(MAX_MODEL).collect(),
        })
    }

    /// The answer as the framed events of a stream: the role, the words, the finish, the usage if asked for, `[DONE]`.
    pub(super) fn events(&self) -> VecDeque<Bytes> {
        let text = text::answer(&self.prompt);
        let mut events = VecDeque::new();
        events.push_back(self.chunk(json!({"role": "assistant", "content": ""}), None));
        for piece in text::pieces(&text) {
            events.push_back(self.chunk(json!({"content": piece}), None));
        }
        events.push_back(self.chunk(json!({}), Some("stop")));
        if self.include_usage {
            let mut last = self.envelope("chat.completion.chunk", json!([]));
            set(&mut last, "usage", self.usage(&text));
            events.push_back(frame(&last));
        }
        events.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }

    /// The answer as one JSON object, with the same text as [`Self::events`].
    pub(super) fn whole(&self) -> Value {
        let text = text::answer(&self.prompt);
        let choice = json!({
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        });
        let mut whole = self.envelope("chat.completion", json!([choice]));
        set(&mut whole, "usage", self.usage(&text));
        whole
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Bytes {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        frame(&self.envelope("chat.completion.chunk", json!([choice])))
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": format!("chatcmpl-demo-{:016x}", text::fnv1a(self.prompt.as_bytes())),
            "object": object,
            "created": CREATED,
            "model": self.model,
            "system_fingerprint": "fp_demo",
            "choices": choices,
        })
    }

    fn usage(&self, answer: &str) -> Value {
        let (asked, told) = (text::words(&self.prompt), text::words(answer));
        json!({"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told})
    }
}

/// The vendor's error object.
pub(super) fn error(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// The error chunk that a stream carries when the vendor's model fails in the middle.
pub(super) fn error_event() -> Bytes {
    frame(&error("The demo upstream failed in the middle of its answer, as it was asked to.", "server_error", None))
}

/// `GET /v1/models`.
pub(super) fn models() -> Value {
    let model = json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "streamkeeper"});
    json!({"object": "list", "data": [model]})
}

fn frame(data: &Value) -> Bytes {
    // serde_json writes no line break outside strings and escapes those inside: one data line is enough.
    Bytes::from(format!("data: {data}\n\n"))
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// A message's text: a string, or the text parts of an array joined.
fn content(message: &Value) -> Option<String> {
    match message.get("content")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &Value) -> Ask {
        Ask::parse(body.to_string().as_bytes()).expect("a good request")
    }

    fn data(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).expect("UTF-8");
        let data = text.strip_prefix("data: ").and_then(|t| t.strip_suffix("\n\n")).expect("one data line");
        serde_json::from_str(data).unwrap_or(Value::String(data.to_owned()))
    }

    #[test]
    fn the_last_message_of_the_user_is_the_prompt_as_string_or_parts() {
        let body = json!({"messages": [
            {"role": "user", "content": "first"}, {"role": "assistant", "content": "x"},
            {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
            {"role": "assistant", "content": "y"}]});
        assert_eq!(ask(&body).prompt, "second");
        assert!(!ask(&body).stream);
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        for body in ["", "[]", "{}", r#"{"messages":{}}"#, r#"{"messages":[]}"#, r#"{"messages":[{"role":"user"}]}"#] {
            assert!(Ask::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_stream_begins_with_the_role_and_ends_with_finish_usage_and_done() {
        let ask = ask(&json!({"messages": [{"role": "user", "content": "hi"}], "model": "m",
            "stream": true, "stream_options": {"include_usage": true}}));
        let events: Vec<_> = ask.events().iter().map(data).collect();
        let [first, .., finish, usage, done] = events.as_slice() else { panic!("too few events") };
        assert_eq!(first.pointer("/choices/0/delta/role"), Some(&json!("assistant")));
        assert_eq!(finish.pointer("/choices/0/finish_reason"), Some(&json!("stop")));
        assert_eq!(usage.get("choices"), Some(&json!([])));
        assert_eq!(usage.get("usage"), ask.whole().get("usage"));
        assert_eq!(done, &json!("[DONE]"));
        assert!(events.iter().rev().skip(1).all(|event| event.get("id") == first.get("id")));
    }

    #[test]
    fn usage_is_sent_only_when_asked_for() {
        let events = ask(&json!({"messages": [{"role": "user", "content": "hi"}], "stream": true})).events();
        assert!(events.iter().all(|event| data(event).get("usage").is_none()));
    }

    #[test]
    fn stream_and_json_give_the_same_text() {
        for n in 0..50 {
            let ask = ask(&json!({"messages": [{"role": "user", "content": format!("prompt {n}\n\"ä\"")}]}));
            let streamed: String = ask
                .events()
                .iter()
                .filter_map(|event| {
                    data(event).pointer("/choices/0/delta/content").and_then(Value::as_str).map(str::to_owned)
                })
                .collect();
            assert_eq!(ask.whole().pointer("/choices/0/message/content"), Some(&json!(streamed)));
        }
    }
}
