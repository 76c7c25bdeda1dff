//! A JSON answer as the events of a stream: what the SDKs' own accumulators turn into the same answer again.
//!
//! Each block begins without what a stream says piece by piece, says that in one delta, and stops. Blocks of other
//! types, known or not, are given whole where they begin, as the vendor does with redacted thoughts and the results of
//! its own tools. Values are passed on as they were written and unknown fields are kept. Not here: answers of which a
//! part was delivered already (`rest`).
//!
//! Source: Anthropic's API reference, "Streaming messages"; helpers of the Python and TypeScript SDKs.

use std::borrow::Cow;

use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::{ERROR, vendor};
use crate::dialect::NoAnswer;
use crate::dialect::json::{self, ObjectWriter, RawObject, quoted, raw_list, raw_text};

/// The most blocks an answer may have. Each becomes events of its own, so without this a hostile answer could grow
/// manyfold.
const BLOCKS_CAP: usize = 4096;

/// The events of a whole answer.
pub(super) fn events(text: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
    let line = json::compact(text).ok_or(NoAnswer::NotAnAnswer)?;
    Ok(Answer::read(&line)?.events())
}

/// An event of this wire: its data's `type` is its name.
pub(super) fn event(name: &str, write: impl FnOnce(&mut ObjectWriter)) -> OwnedEvent {
    let mut out = ObjectWriter::new();
    out.raw("type", &quoted(name));
    write(&mut out);
    OwnedEvent::new(name, out.finish())
}

/// A non-streaming answer, taken apart as far as is needed.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    top: RawObject<'a>,
    pub(super) blocks: Vec<Block<'a>>,
}

impl<'a> Answer<'a> {
    /// Reads an answer from compact JSON.
    pub(super) fn read(line: &'a str) -> Result<Self, NoAnswer> {
        let top = RawObject::read(line.as_bytes()).ok_or(NoAnswer::NotAnAnswer)?;
        let kind = top.get("type").map(RawValue::get);
        if kind == Some("\"error\"") || top.solid(ERROR).is_some() {
            return Err(NoAnswer::Fault(vendor::fault(line.as_bytes())));
        }
        if !matches!(kind, None | Some("\"message\"")) {
            return Err(NoAnswer::NotAnAnswer);
        }
        let listed = top.get("content").and_then(raw_list).filter(|listed| listed.len() <= BLOCKS_CAP);
        let blocks = listed.and_then(|listed| listed.into_iter().map(Block::read).collect());
        Ok(Self { top, blocks: blocks.ok_or(NoAnswer::NotAnAnswer)? })
    }

    /// All of it.
    pub(super) fn events(&self) -> Vec<OwnedEvent> {
        let mut events = vec![self.start()];
        events.extend(self.blocks.iter().enumerate().flat_map(|(index, block)| block.events(index)));
        events.extend([self.delta(), stop()]);
        events
    }

    /// `message_start`: the message without content and without an end.
    fn start(&self) -> OwnedEvent {
        let mut message = ObjectWriter::new();
        for (name, value) in self.top.fields() {
            match name {
                "content" => message.raw(name, "[]"),
                "stop_reason" | "stop_sequence" | "stop_details" => message.raw(name, "null"),
                "usage" => {}
                _ => message.raw(name, value.get()),
            }
        }
        for name in ["stop_reason", "stop_sequence"] {
            if self.top.get(name).is_none() {
                message.raw(name, "null");
            }
        }
        // Nothing was put out yet, and some clients add up what the first and the last event say.
        message.raw("usage", &self.usage(Some("0")));
        event("message_start", |out| out.raw("message", &message.finish()))
    }

    /// `message_delta`: why it ended and what it took. SDKs overwrite with what stands here, be it nothing, so it is
    /// all that can stand here.
    pub(super) fn delta(&self) -> OwnedEvent {
        let raw = |name: &str| self.top.get(name).map_or("null", RawValue::get);
        let mut delta = ObjectWriter::new();
        delta.raw("stop_reason", raw("stop_reason"));
        delta.raw("stop_sequence", raw("stop_sequence"));
        for name in ["stop_details", "container"] {
            if self.top.get(name).is_some() {
                delta.raw(name, raw(name));
            }
        }
        event("message_delta", |out| {
            out.raw("delta", &delta.finish());
            out.raw("usage", &self.usage(None));
            if self.top.solid("context_management").is_some() {
                out.raw("context_management", raw("context_management"));
            }
        })
    }

    /// The usage, with another count of output tokens if one is given. SDKs fail where there is none at all.
    fn usage(&self, output_tokens: Option<&str>) -> String {
        let known = self.top.get("usage").and_then(RawObject::of).unwrap_or_default();
        let mut out = ObjectWriter::new();
        for (name, value) in known.fields() {
            let counts = name == "output_tokens";
            out.raw(name, output_tokens.filter(|_| counts).unwrap_or(value.get()));
        }
        for name in ["input_tokens", "output_tokens"] {
            if known.get(name).is_none() {
                out.raw(name, "0");
            }
        }
        out.finish()
    }
}

/// The terminator.
pub(super) fn stop() -> OwnedEvent {
    event("message_stop", |_| {})
}

/// The events `content_block_delta` and `content_block_stop`, for the block at `index`.
pub(super) fn block_delta(index: usize, delta: &str) -> OwnedEvent {
    event("content_block_delta", |out| {
        out.raw("index", &index.to_string());
        out.raw("delta", delta);
    })
}

pub(super) fn block_stop(index: usize) -> OwnedEvent {
    event("content_block_stop", |out| out.raw("index", &index.to_string()))
}

/// One block of an answer.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) fields: RawObject<'a>,
    /// What a stream says of it in deltas. Empty for a block that is given whole.
    pub(super) parts: Vec<Part<'a>>,
    /// Has citations, each a delta of its own.
    pub(super) citations: Vec<&'a RawValue>,
}

impl<'a> Block<'a> {
    /// `None` if it is no object or has no type.
    fn read(raw: &'a RawValue) -> Option<Self> {
        let fields = RawObject::of(raw)?;
        let kind = raw_text(fields.get("type")?)?;
        let parts: Option<Vec<_>> = Part::of(&kind).iter().filter_map(|form| form.read(&fields)).collect();
        let parts = parts.unwrap_or_default();
        let listed = fields.get("citations").filter(|_| kind == "text" && !parts.is_empty()).and_then(raw_list);
        Some(Self { fields, parts, citations: listed.unwrap_or_default() })
    }

    /// Whether the field `name` is said in deltas.
    pub(super) fn says(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.form.field == name) || (name == "citations" && !self.citations.is_empty())
    }

    pub(super) fn events(&self, index: usize) -> Vec<OwnedEvent> {
        let mut block = ObjectWriter::new();
        for (name, value) in self.fields.fields() {
            let part = self.parts.iter().find(|part| part.form.field == name);
            let empty = part.map(|part| if part.form.json { "{}" } else { "\"\"" });
            block.raw(name, empty.unwrap_or(if self.says(name) { "[]" } else { value.get() }));
        }
        let start = event("content_block_start", |out| {
            out.raw("index", &index.to_string());
            out.raw("content_block", &block.finish());
        });
        let said = self.parts.iter().filter(|part| !part.is_empty()).map(|part| part.form.delta(&part.said()));
        let cited = self.citations.iter().map(|citation| cite(citation));
        let deltas = said.chain(cited).map(|delta| block_delta(index, &delta));
        std::iter::once(start).chain(deltas).chain([block_stop(index)]).collect()
    }
}

/// The delta of one citation.
pub(super) fn cite(citation: &RawValue) -> String {
    let mut out = ObjectWriter::new();
    out.raw("type", "\"citations_delta\"");
    out.raw("citation", citation.get());
    out.finish()
}

/// How a field of a block is said piece by piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The field of the block.
    pub(super) field: &'static str,
    /// The type of its deltas.
    pub(super) delta: &'static str,
    /// The field of the delta that holds a piece.
    pub(super) piece: &'static str,
    /// The field is an object and its pieces are its JSON; else it is text itself.
    pub(super) json: bool,
    /// SDKs take the last delta for the whole.
    pub(super) at_once: bool,
}

impl Form {
    /// `None`: the block has no such field. `Some(None)`: it is not what a stream can say.
    fn read<'a>(self, fields: &RawObject<'a>) -> Option<Option<Part<'a>>> {
        let raw = fields.get(self.field)?;
        let opening = if self.json { '{' } else { '"' };
        Some(raw.get().starts_with(opening).then_some(Part { form: self, raw }))
    }

    /// A delta that says the JSON string `piece`.
    pub(super) fn delta(&self, piece: &str) -> String {
        let mut out = ObjectWriter::new();
        out.raw("type", &quoted(self.delta));
        out.raw(self.piece, piece);
        out.finish()
    }
}

/// A field of a block that a stream says in deltas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) form: Form,
    raw: &'a RawValue,
}

const fn text(field: &'static str, delta: &'static str) -> Form {
    Form { field, delta, piece: field, json: false, at_once: false }
}

const TEXT: [Form; 1] = [text("text", "text_delta")];
const THINKING: [Form; 2] =
    [text("thinking", "thinking_delta"), Form { at_once: true, ..text("signature", "signature_delta") }];
const TOOL_USE: [Form; 1] =
    [Form { field: "input", delta: "input_json_delta", piece: "partial_json", json: true, at_once: false }];

impl Part<'_> {
    /// What blocks of a type say in deltas, in order.
    fn of(kind: &str) -> &'static [Form] {
        match kind {
            "text" => &TEXT,
            "thinking" => &THINKING,
            "tool_use" | "server_tool_use" | "mcp_tool_use" => &TOOL_USE,
            _ => &[],
        }
    }

    /// An empty text needs no delta; an empty input does, for clients that read nothing but the deltas.
    fn is_empty(&self) -> bool {
        self.raw.get() == "\"\""
    }

    /// All of it as a JSON string.
    fn said(&self) -> Cow<'_, str> {
        if self.form.json { quoted(self.raw.get()).into() } else { self.raw.get().into() }
    }

    /// All of it as text; `None` if it is none (a lone surrogate).
    pub(super) fn whole(&self) -> Option<String> {
        if self.form.json { Some(self.raw.get().to_owned()) } else { Some(raw_text(self.raw)?.into_owned()) }
    }
}

#[cfg(test)]
mod tests;
