//! A request that makes a model go on with the text that was delivered, for servers that can: Mistral and DeepSeek
//! (`prefix`), vLLM (`continue_final_message`), llama.cpp (a trailing assistant message), and legacy completions
//! (a longer prompt, the same everywhere).
//!
//! Text of one choice only. There is no continuation where the delivered chunks hold anything else (tool calls, a
//! refusal, audio, logprobs, reasoning that has not come to its end), where the answer has to obey a grammar (which
//! would begin anew in its middle), or where the request drives the template itself. Limits of the request
//! (`max_tokens`, `stop`) stay as they are: how many tokens were spent is not known exactly.
//!
//! The text is sent without the white space at its end. Chat templates strip it on some servers, and tokens begin
//! with their space rather than end with it; so the model says it again, and `splice` drops it.
//!
//! Not here: what is read from the second stream (`splice`), and whether to try (the route's ladder, which names the
//! style). Source: the vendors' pages on prefix completion, vLLM's and llama.cpp's server references.

mod splice;

use serde_json::value::RawValue;

use super::{DONE, Wishes};
use crate::dialect::json::{ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};
use crate::dialect::{Ask, Continuation, Delivered, Prefill};

/// What an answer must obey from its first token on, or what changes what its text begins with.
const NOT_CONTINUED: [&str; 13] = [
    "echo",
    "suffix",
    "logprobs",
    "continue_final_message",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "grammar",
    "json_schema",
    "regex",
    "ebnf",
];

/// What [`Prefill::ContinueFinalMessage`] sets.
const TEMPLATE: [&str; 2] = ["continue_final_message", "add_generation_prompt"];

/// The request that goes on after `delivered`, and the reader of its answer.
pub(super) fn after(
    ask: &Ask<'_>,
    prefill: Prefill,
    delivered: &mut dyn Iterator<Item = Delivered<'_>>,
) -> Option<Continuation> {
    let body = RawObject::read(ask.body)?;
    if !can_be_continued(&body, Wishes::read(ask.body)) {
        return None;
    }
    let chat = body.get("messages").is_some();
    let said = Said::read(delivered, chat)?;
    let sent = said.text.trim_end();
    if sent.is_empty() {
        return None;
    }
    let body = asked_on(&body, prefill, sent)?;
    Some(Continuation { uri: ask.uri.clone(), body: body.into(), reader: Box::new(splice::Splice::new(said, chat)) })
}

fn can_be_continued(body: &RawObject<'_>, wishes: Wishes) -> bool {
    let free = body.solid("response_format").is_none_or(|format| {
        let kind = RawObject::of(format).and_then(|format| format.get("type"));
        kind.is_some_and(|kind| kind.get() == "\"text\"")
    });
    let ordinary = NOT_CONTINUED.iter().all(|key| body.solid(key).is_none());
    let prompted = body.get("add_generation_prompt").is_none_or(|value| value.get() != "false");
    wishes.stream && wishes.one_choice && free && ordinary && prompted
}

/// The request's body with `text` as what the assistant has said so far.
fn asked_on(body: &RawObject<'_>, prefill: Prefill, text: &str) -> Option<String> {
    let (place, value) = match body.get("messages") {
        Some(messages) => ("messages", with_message(messages, prefill, text)?),
        None => ("prompt", quoted(&format!("{}{text}", raw_text(body.get("prompt")?)?))),
    };
    let template = place == "messages" && prefill == Prefill::ContinueFinalMessage;
    let mut out = ObjectWriter::new();
    for (key, value) in body.fields().filter(|(key, _)| *key != place && !(template && TEMPLATE.contains(key))) {
        out.raw(key, value.get());
    }
    out.raw(place, &value);
    if template {
        out.raw("continue_final_message", "true");
        out.raw("add_generation_prompt", "false");
    }
    Some(out.finish())
}

/// The conversation and what the assistant has said so far. `None` if the caller itself began the answer: whether
/// that beginning was delivered, too, nobody can tell.
fn with_message(messages: &RawValue, prefill: Prefill, text: &str) -> Option<String> {
    let list = raw_list(messages)?;
    if RawObject::of(list.last()?)?.get("role").and_then(raw_text)? == "assistant" {
        return None;
    }
    let mut message = ObjectWriter::new();
    message.raw("role", "\"assistant\"");
    message.raw("content", &quoted(text));
    if prefill == Prefill::Prefix {
        message.raw("prefix", "true");
    }
    let mut out = String::from("[");
    for raw in list {
        out.push_str(raw.get());
        out.push(',');
    }
    out.push_str(&message.finish());
    out.push(']');
    Some(out)
}

/// What was delivered: text, and what all its chunks had in common.
#[derive(Debug, Default)]
struct Said {
    text: String,
    /// Fields that the second stream's chunks must share, as they were written.
    head: Vec<(&'static str, String)>,
    /// The last usage that was told.
    usage: Option<String>,
}

/// What a client takes for the identity of one answer.
const HEAD: [&str; 3] = ["id", "created", "model"];

impl Said {
    /// `None` if there is anything in it that cannot be continued.
    fn read(delivered: &mut dyn Iterator<Item = Delivered<'_>>, chat: bool) -> Option<Self> {
        let mut said = Self::default();
        for event in delivered {
            let data = event.data.trim();
            if !matches!(event.name.as_ref(), "" | "message") || data == DONE {
                return None;
            }
            if !data.is_empty() {
                said.follow(&RawObject::read(data.as_bytes())?, chat)?;
            }
        }
        Some(said)
    }

    fn follow(&mut self, chunk: &RawObject<'_>, chat: bool) -> Option<()> {
        if chunk.solid("error").is_some() {
            return None;
        }
        if self.head.is_empty() {
            let known = HEAD.iter().filter_map(|name| Some((*name, chunk.solid(name)?.get().to_owned())));
            self.head = known.collect();
        }
        if let Some(usage) = chunk.solid("usage") {
            self.usage = Some(usage.get().to_owned());
        }
        for raw in raw_list(chunk.get("choices")?)? {
            let choice = RawObject::of(raw)?;
            let only = choice.get("index").is_none_or(|index| index.get() == "0");
            let finished = choice.get("finish_reason").is_some_and(|reason| reason.get() != "null");
            if !only || finished || choice.solid("logprobs").is_some() {
                return None;
            }
            if chat {
                let Some(delta) = choice.solid("delta") else { continue };
                self.hear(&RawObject::of(delta)?)?;
            } else if let Some(text) = choice.solid("text") {
                self.text.push_str(&raw_text(text)?);
            }
        }
        Some(())
    }

    fn hear(&mut self, delta: &RawObject<'_>) -> Option<()> {
        for (name, value) in delta.fields().filter(|(_, value)| !is_hollow(value)) {
            match name {
                "role" => {}
                "content" => self.text.push_str(&raw_text(value)?),
                // Reasoning comes before the words it leads to; the first of them tells that it is finished. If it
                // comes back, this is no plain answer.
                _ if is_reasoning(name) && self.text.is_empty() => {}
                _ => return None,
            }
        }
        Some(())
    }
}

/// `reasoning_content` (DeepSeek, vLLM, llama.cpp), `reasoning` (vLLM, OpenRouter) and `reasoning_details`.
fn is_reasoning(name: &str) -> bool {
    name.starts_with("reasoning")
}

#[cfg(test)]
mod tests;
