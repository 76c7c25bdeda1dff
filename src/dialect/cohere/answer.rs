//! A JSON answer as the events of a stream, in the order in which Cohere sends them: the start, each block of content
//! (thoughts and text), the tool plan, each tool call, each citation, the end with reason and usage.
//!
//! Values are passed on as they were written and unknown fields are kept. Not here: answers of which a part was
//! delivered already (`rest`). Source: Cohere's API reference, "Chat" and "Chat with Streaming".

use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::{END, is_failure, reader};
use crate::dialect::NoAnswer;
use crate::dialect::json::{self, ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};

/// The events of a whole answer.
pub(super) fn events(text: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
    let line = json::compact(text).ok_or(NoAnswer::NotAnAnswer)?;
    let answer = Answer::read(&line)?;
    let mut events = vec![answer.start()];
    for index in 0..answer.content.len() {
        events.extend(answer.content_events(index));
    }
    events.extend(answer.after_content());
    Ok(events)
}

/// Top-level fields that have a place of their own in a stream. What else there is goes into the first event.
const PLACED: [&str; 6] = ["id", "type", "message", "finish_reason", "usage", "logprobs"];
/// What the first event always shows empty.
const EMPTY: [(&str, &str); 4] = [("content", "[]"), ("tool_plan", "\"\""), ("tool_calls", "[]"), ("citations", "[]")];

/// A non-streaming answer, taken apart as far as is needed.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    top: RawObject<'a>,
    message: RawObject<'a>,
    /// The blocks of content, in order.
    pub(super) content: Vec<Content<'a>>,
    calls: Vec<RawObject<'a>>,
    citations: Vec<&'a RawValue>,
    logprobs: Vec<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads an answer from compact JSON.
    pub(super) fn read(line: &'a str) -> Result<Self, NoAnswer> {
        let top = RawObject::read(line.as_bytes()).ok_or(NoAnswer::NotAnAnswer)?;
        let told = top.get("message").and_then(raw_text).is_some();
        if told || is_failure(&top) || top.solid("error").is_some() {
            return Err(NoAnswer::Fault(reader::fault(line.as_bytes())));
        }
        Self::taken_apart(top, line.len()).ok_or(NoAnswer::NotAnAnswer)
    }

    fn taken_apart(top: RawObject<'a>, bytes: usize) -> Option<Self> {
        let message = RawObject::of(top.get("message")?)?;
        let list = |object: &RawObject<'a>, key: &str| object.solid(key).map_or(Some(Vec::new()), raw_list);
        let content = list(&message, "content")?.into_iter().map(Content::read).collect::<Option<Vec<_>>>()?;
        let calls = list(&message, "tool_calls")?.into_iter().map(RawObject::of).collect::<Option<Vec<_>>>()?;
        let (citations, logprobs) = (list(&message, "citations")?, list(&top, "logprobs")?);
        // Each of these becomes events of its own, so a hostile answer of very small ones could grow a hundredfold.
        let pieces = content.len() + calls.len() + citations.len() + logprobs.len();
        (pieces <= 1024 + bytes / 32).then_some(Self { top, message, content, calls, citations, logprobs })
    }

    /// The first event.
    pub(super) fn start(&self) -> OwnedEvent {
        let mut message = ObjectWriter::new();
        for (name, value) in self.message.fields().filter(|(name, _)| EMPTY.iter().all(|(empty, _)| empty != name)) {
            message.raw(name, value.get());
        }
        for (name, empty) in EMPTY {
            message.raw(name, empty);
        }
        let mut out = ObjectWriter::new();
        if let Some(id) = self.top.get("id") {
            out.raw("id", id.get());
        }
        out.raw("type", "\"message-start\"");
        for (name, value) in self.top.fields().filter(|(name, _)| !PLACED.contains(name)) {
            out.raw(name, value.get());
        }
        out.raw("delta", &nested("message", &message.finish()));
        OwnedEvent::new("message-start", out.finish())
    }

    /// A block of content from its start to its end.
    pub(super) fn content_events(&self, index: usize) -> Vec<OwnedEvent> {
        let Some(content) = self.content.get(index) else {
            return Vec::new();
        };
        let mut events = vec![piece("content-start", Some(index), "content", &content.emptied())];
        // Logprobs are those of the text, and come with it.
        let first_text = self.content.iter().position(|content| content.kind == Some(TEXT));
        let logprobs = if first_text == Some(index) { self.logprobs.as_slice() } else { &[] };
        let mut left = content.text.as_str();
        for item in logprobs {
            let said = RawObject::of(item).and_then(|item| raw_text(item.get("text")?)).unwrap_or_default();
            let (text, rest) = if left.starts_with(said.as_ref()) { left.split_at(said.len()) } else { ("", left) };
            events.push(content.delta(index, text, Some(item)));
            left = rest;
        }
        events.extend((!left.is_empty()).then(|| content.delta(index, left, None)));
        events.push(Content::end(index));
        events
    }

    /// All that comes after the content: tool plan, tool calls, citations, and the end.
    pub(super) fn after_content(&self) -> Vec<OwnedEvent> {
        let plan = self.message.solid("tool_plan");
        let mut events: Vec<_> =
            plan.iter().map(|plan| piece("tool-plan-delta", None, "tool_plan", plan.get())).collect();
        for (index, call) in self.calls.iter().enumerate() {
            events.extend(call_events(index, call));
        }
        for (index, citation) in self.citations.iter().enumerate() {
            events.push(piece("citation-start", Some(index), "citations", citation.get()));
            events.push(bare("citation-end", index));
        }
        let mut delta = ObjectWriter::new();
        for name in ["finish_reason", "usage"] {
            if let Some(value) = self.top.get(name) {
                delta.raw(name, value.get());
            }
        }
        let mut out = ObjectWriter::new();
        out.raw("type", &quoted(END));
        out.raw("delta", &delta.finish());
        events.push(OwnedEvent::new(END, out.finish()));
        events
    }
}

/// Plain text, as `type` says it and as the field is called.
pub(super) const TEXT: &str = "text";

/// One block of content.
#[derive(Debug)]
pub(super) struct Content<'a> {
    fields: RawObject<'a>,
    /// `text` or `thinking`: what comes in pieces. `None`: something else, which comes whole.
    pub(super) kind: Option<&'static str>,
    /// What it says.
    pub(super) text: String,
}

impl<'a> Content<'a> {
    fn read(raw: &'a RawValue) -> Option<Self> {
        let fields = RawObject::of(raw)?;
        let named = fields.get("type").and_then(raw_text);
        let known = [TEXT, "thinking"].into_iter().find(|kind| named.as_deref() == Some(*kind));
        let said = known.and_then(|kind| Some((kind, raw_text(fields.get(kind)?)?.into_owned())));
        let (kind, text) = said.map_or((None, String::new()), |(kind, text)| (Some(kind), text));
        Some(Self { fields, kind, text })
    }

    fn emptied(&self) -> String {
        let mut out = ObjectWriter::new();
        for (name, value) in self.fields.fields() {
            out.raw(name, if Some(name) == self.kind { "\"\"" } else { value.get() });
        }
        out.finish()
    }

    /// A piece of its text, with the logprobs of that piece.
    pub(super) fn delta(&self, index: usize, text: &str, logprobs: Option<&RawValue>) -> OwnedEvent {
        let said = nested(self.kind.unwrap_or(TEXT), &quoted(text));
        let mut out = ObjectWriter::new();
        out.raw("type", "\"content-delta\"");
        out.raw("index", &index.to_string());
        out.raw("delta", &nested("message", &nested("content", &said)));
        if let Some(logprobs) = logprobs {
            out.raw("logprobs", logprobs.get());
        }
        OwnedEvent::new("content-delta", out.finish())
    }

    /// The event that ends it.
    pub(super) fn end(index: usize) -> OwnedEvent {
        bare("content-end", index)
    }
}

/// A tool call: first without its arguments, then they alone.
fn call_events(index: usize, call: &RawObject<'_>) -> Vec<OwnedEvent> {
    let function = call.get("function").and_then(RawObject::of);
    let arguments = function.as_ref().and_then(|function| function.get("arguments")).filter(|said| !is_hollow(said));
    let mut start = ObjectWriter::new();
    for (name, value) in call.fields() {
        match (&function, name, arguments) {
            (Some(function), "function", Some(_)) => {
                let mut emptied = ObjectWriter::new();
                for (name, value) in function.fields() {
                    emptied.raw(name, if name == "arguments" { "\"\"" } else { value.get() });
                }
                start.raw(name, &emptied.finish());
            }
            _ => start.raw(name, value.get()),
        }
    }
    let mut events = vec![piece("tool-call-start", Some(index), "tool_calls", &start.finish())];
    if let Some(arguments) = arguments {
        let said = nested("function", &nested("arguments", arguments.get()));
        events.push(piece("tool-call-delta", Some(index), "tool_calls", &said));
    }
    events.push(bare("tool-call-end", index));
    events
}

/// `{"key":json}`
fn nested(key: &str, json: &str) -> String {
    let mut out = ObjectWriter::new();
    out.raw(key, json);
    out.finish()
}

/// An event that adds to one field of the message.
fn piece(kind: &str, index: Option<usize>, field: &str, json: &str) -> OwnedEvent {
    let mut out = ObjectWriter::new();
    out.raw("type", &quoted(kind));
    if let Some(index) = index {
        out.raw("index", &index.to_string());
    }
    out.raw("delta", &nested("message", &nested(field, json)));
    OwnedEvent::new(kind, out.finish())
}

/// An event that says no more than what it ends.
fn bare(kind: &str, index: usize) -> OwnedEvent {
    OwnedEvent::new(kind, format!(r#"{{"type":{},"index":{index}}}"#, quoted(kind)))
}

#[cfg(test)]
mod tests;
