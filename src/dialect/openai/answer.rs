//! A JSON answer as the chunks of a stream: what the SDKs' own accumulators turn into the same answer again.
//!
//! One chunk holds a choice's whole message, a second one its finish; then the usage if it was asked for, then
//! `[DONE]`. Completions need one chunk per choice. Values are passed on as they were written and unknown fields
//! are kept. Not here: answers of which a part was delivered already (`rest`).
//!
//! Source: OpenAI's API reference, "The chat completion chunk object"; helpers of the Python and Node SDKs.

use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::{DONE, vendor};
use crate::dialect::NoAnswer;
use crate::dialect::json::{self, ObjectWriter, RawObject, raw_list};

/// The events of a whole answer. `usage`: the request asked for the usage chunk.
pub(super) fn events(text: &[u8], usage: bool) -> Result<Vec<OwnedEvent>, NoAnswer> {
    let line = json::compact(text).ok_or(NoAnswer::NotAnAnswer)?;
    let answer = Answer::read(&line)?;
    let head = answer.head();
    let mut events: Vec<OwnedEvent> = answer.choices.iter().flat_map(|choice| choice.events(&head)).collect();
    if let (Some(first), extras) = (events.first_mut(), answer.extras()) {
        *first = with_extras(first, &extras);
    }
    answer.tell_usage(&head, usage, &mut events);
    events.push(done());
    Ok(events)
}

/// The terminator.
pub(super) fn done() -> OwnedEvent {
    OwnedEvent::new("", DONE)
}

/// Top-level fields that stand in every chunk, in this order, `object` after the first.
const HEAD: [&str; 5] = ["id", "created", "model", "system_fingerprint", "service_tier"];
/// Top-level fields that mean something else in a chunk or have a chunk of their own.
const NOT_PASSED_ON: [&str; 4] = ["object", "choices", "usage", "error"];

/// The most choices an answer may have: as many as the API allows. Each becomes chunks of its own, so without this
/// and [`HEAD_CAP`] a hostile answer could grow a thousandfold.
const CHOICES_CAP: usize = 128;
/// The most bytes of a field that stands in every chunk; longer ones are left out.
const HEAD_CAP: usize = 1024;

/// A non-streaming answer, taken apart as far as is needed.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    top: RawObject<'a>,
    /// In the order of their indices.
    pub(super) choices: Vec<Choice<'a>>,
    chat: bool,
}

impl<'a> Answer<'a> {
    /// Reads an answer from compact JSON.
    pub(super) fn read(line: &'a str) -> Result<Self, NoAnswer> {
        let fault = || NoAnswer::Fault(vendor::fault(line.as_bytes()));
        let Some(top) = RawObject::read(line.as_bytes()) else {
            // Google's compatible endpoint wraps its errors into a list.
            let list: Vec<RawObject<'_>> = serde_json::from_str(line).unwrap_or_default();
            let wrapped = list.iter().any(|item| item.solid("error").is_some());
            return Err(if wrapped { fault() } else { NoAnswer::NotAnAnswer });
        };
        let flat = top.get("object").is_some_and(|object| object.get() == "\"error\"");
        let reported = top.get("error").is_some_and(|error| error.get() == "{}" || !json::is_hollow(error));
        if flat || reported {
            return Err(fault());
        }
        let listed = top.get("choices").and_then(raw_list).unwrap_or_default();
        if listed.len() > CHOICES_CAP {
            return Err(NoAnswer::NotAnAnswer);
        }
        let read = listed.into_iter().enumerate().map(|(at, raw)| Choice::read(raw, at));
        let mut choices: Vec<Choice<'a>> = read.collect::<Option<_>>().ok_or(NoAnswer::NotAnAnswer)?;
        choices.sort_by_key(|choice| choice.index);
        let chat = choices.first().ok_or(NoAnswer::NotAnAnswer)?.is_chat();
        Ok(Self { top, choices, chat })
    }

    /// What its chunks have in common.
    pub(super) fn head(&self) -> Head {
        Head::of(&self.top, self.chat)
    }

    /// Adds the usage, if there is one: as a chunk of its own where that was asked for, else on the last chunk, as
    /// Mistral and others say it unasked.
    pub(super) fn tell_usage(&self, head: &Head, asked: bool, events: &mut Vec<OwnedEvent>) {
        let Some(usage) = self.top.solid("usage") else { return };
        if asked {
            let mut out = head.open();
            out.raw("choices", "[]");
            out.raw("usage", usage.get());
            events.push(OwnedEvent::new("", out.finish()));
        } else if let Some(last) = events.last_mut() {
            *last = with_extras(last, &[("usage", usage)]);
        }
    }

    /// Fields of the answer that are neither part of the head nor of the choices (Azure's `prompt_filter_results`).
    fn extras(&self) -> Vec<(&str, &'a RawValue)> {
        self.top.fields().filter(|(name, _)| !HEAD.contains(name) && !NOT_PASSED_ON.contains(name)).collect()
    }
}

/// The accumulators keep what the first chunk brings, so what belongs to the whole answer goes there.
fn with_extras(first: &OwnedEvent, extras: &[(&str, &RawValue)]) -> OwnedEvent {
    let Some(chunk) = RawObject::read(first.data.as_bytes()) else {
        return first.clone();
    };
    let mut out = ObjectWriter::new();
    for (name, value) in chunk.fields().chain(extras.iter().copied()) {
        out.raw(name, value.get());
    }
    OwnedEvent::new("", out.finish())
}

/// What all chunks of one answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Head {
    fields: Vec<(&'static str, String)>,
    chat: bool,
}

impl Head {
    /// From a whole answer or from a chunk.
    pub(super) fn of(top: &RawObject<'_>, chat: bool) -> Self {
        let held = HEAD.iter().filter_map(|name| Some((*name, top.get(name)?.get())));
        let short = held.filter(|(_, value)| value.len() <= HEAD_CAP);
        Self { fields: short.map(|(name, value)| (name, value.to_owned())).collect(), chat }
    }

    fn open(&self) -> ObjectWriter {
        let mut out = ObjectWriter::new();
        let object = if self.chat { "\"chat.completion.chunk\"" } else { "\"text_completion\"" };
        let (first, others) = self.fields.split_at(self.fields.iter().take_while(|(name, _)| *name == "id").count());
        for (name, value) in first {
            out.raw(name, value);
        }
        out.raw("object", object);
        for (name, value) in others {
            out.raw(name, value);
        }
        out
    }

    /// A chunk with one choice, which is one JSON object.
    pub(super) fn chunk(&self, choice: &str) -> OwnedEvent {
        let mut out = self.open();
        out.raw("choices", &format!("[{choice}]"));
        OwnedEvent::new("", out.finish())
    }
}

/// One choice of an answer.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) index: u64,
    fields: RawObject<'a>,
    /// What was said: of chat the message, else the choice itself, whose `text` it is.
    message: Option<RawObject<'a>>,
}

impl<'a> Choice<'a> {
    fn read(raw: &'a RawValue, at: usize) -> Option<Self> {
        let fields = RawObject::of(raw)?;
        let index = match fields.get("index") {
            Some(index) => index.get().parse().ok()?,
            None => at as u64,
        };
        let message = match fields.get("message") {
            Some(message) => Some(RawObject::of(message)?),
            None => None,
        };
        (message.is_some() || fields.get("text").is_some()).then_some(Self { index, fields, message })
    }

    pub(super) fn is_chat(&self) -> bool {
        self.message.is_some()
    }

    /// The fields of what was said.
    pub(super) fn said(&self) -> Vec<(&str, &'a RawValue)> {
        match &self.message {
            Some(message) => message.fields().collect(),
            None => self.fields.fields().filter(|(name, _)| *name == "text").collect(),
        }
    }

    /// The whole choice in chunks.
    pub(super) fn events(&self, head: &Head) -> Vec<OwnedEvent> {
        if !self.is_chat() {
            let text = self.fields.get("text").map_or("\"\"", RawValue::get);
            return vec![head.chunk(&self.text_choice(text, true))];
        }
        let mut delta = ObjectWriter::new();
        for (name, value) in self.said() {
            delta.raw(name, &delta_value(name, value));
        }
        vec![head.chunk(&self.delta_choice(&delta.finish(), true)), self.finish_event(head)]
    }

    /// A choice of chat that says `delta` and does not finish. `whole`: it is all there was, so what the answer says
    /// about the choice (logprobs, content filters) holds for it.
    pub(super) fn delta_choice(&self, delta: &str, whole: bool) -> String {
        let mut out = ObjectWriter::new();
        out.raw("index", &self.index.to_string());
        out.raw("delta", delta);
        if whole {
            for (name, value) in
                self.fields.fields().filter(|(name, _)| !["index", "message", "delta", "finish_reason"].contains(name))
            {
                out.raw(name, value.get());
            }
        }
        out.raw("finish_reason", "null");
        out.finish()
    }

    /// A choice of completions: text and finish at once. `whole` as for [`Self::delta_choice`].
    pub(super) fn text_choice(&self, text: &str, whole: bool) -> String {
        let mut out = ObjectWriter::new();
        out.raw("index", &self.index.to_string());
        out.raw("text", text);
        let logprobs = self.fields.get("logprobs").filter(|_| whole);
        out.raw("logprobs", logprobs.map_or("null", RawValue::get));
        if whole {
            for (name, value) in
                self.fields.fields().filter(|(name, _)| !["index", "text", "logprobs", "finish_reason"].contains(name))
            {
                out.raw(name, value.get());
            }
        }
        out.raw("finish_reason", self.finish_reason());
        out.finish()
    }

    /// The chunk that finishes a choice of chat.
    pub(super) fn finish_event(&self, head: &Head) -> OwnedEvent {
        let mut out = ObjectWriter::new();
        out.raw("index", &self.index.to_string());
        out.raw("delta", "{}");
        out.raw("finish_reason", self.finish_reason());
        head.chunk(&out.finish())
    }

    fn finish_reason(&self) -> &'a str {
        self.fields.get("finish_reason").map_or("null", RawValue::get)
    }
}

/// A field of a message as a delta has it: tool calls, and only they, are numbered there.
pub(super) fn delta_value(name: &str, value: &RawValue) -> String {
    let calls = if name == "tool_calls" { raw_list(value) } else { None };
    let Some(calls) = calls else {
        return value.get().to_owned();
    };
    let numbered = calls.into_iter().enumerate().map(|(at, raw)| match RawObject::of(raw) {
        Some(call) if call.get("index").is_none() => {
            let mut out = ObjectWriter::new();
            out.raw("index", &at.to_string());
            for (name, value) in call.fields() {
                out.raw(name, value.get());
            }
            out.finish()
        }
        _ => raw.get().to_owned(),
    });
    format!("[{}]", numbered.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
