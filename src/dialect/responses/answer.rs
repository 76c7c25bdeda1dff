//! A JSON answer taken apart: its items, their parts, and the texts in them, borrowed from it.
//!
//! Everything is passed on as it was written; of an item only what its events need is looked into, and items of
//! kinds that have no events of their own here stay whole. Not here: the events (`script`), and which of them were
//! sent already (`rest`). Source: OpenAI's API reference, "The response object".

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{ERROR, vendor};
use crate::dialect::NoAnswer;
use crate::dialect::json::{ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};

/// The most events an answer may become. A hostile one could say "part" in a few bytes and have each of them told
/// in hundreds; the longest honest ones (research with a thousand citations) stay far below.
const EVENTS_CAP: usize = 16 * 1024;
/// The longest id of an item: it stands in each of its events.
const ID_CAP: usize = 512;

/// A whole response.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// As compact JSON.
    pub(super) line: &'a str,
    top: RawObject<'a>,
    /// In order; an item's `output_index` is its place.
    pub(super) items: Vec<Item<'a>>,
    incomplete: bool,
}

impl<'a> Answer<'a> {
    /// Reads an answer from compact JSON.
    pub(super) fn read(line: &'a str) -> Result<Self, NoAnswer> {
        let fault = || NoAnswer::Fault(vendor::fault(line.as_bytes()));
        let top = RawObject::read(line.as_bytes()).ok_or(NoAnswer::NotAnAnswer)?;
        let reported = top.get(ERROR).is_some_and(|error| error.get() == "{}" || !is_hollow(error));
        let flat = top.get("object").is_some_and(|object| object.get() == "\"error\"");
        if reported || flat {
            return Err(fault());
        }
        let incomplete = match top.get("status").map(RawValue::get) {
            None | Some("null" | "\"completed\"") => false,
            Some("\"incomplete\"") => true,
            Some("\"failed\"" | "\"cancelled\"") => return Err(fault()),
            // `queued`, `in_progress`: a receipt.
            Some(_) => return Err(NoAnswer::NotAnAnswer),
        };
        let listed = top.get("output").and_then(raw_list).ok_or(NoAnswer::NotAnAnswer)?;
        let items: Option<Vec<Item<'a>>> = listed.into_iter().map(Item::read).collect();
        let items = items.ok_or(NoAnswer::NotAnAnswer)?;
        if items.iter().map(Item::events).sum::<usize>() > EVENTS_CAP {
            return Err(NoAnswer::NotAnAnswer);
        }
        Ok(Self { line, top, items, incomplete })
    }

    /// The type of the event that ends it.
    pub(super) fn terminal(&self) -> &'static str {
        if self.incomplete { "response.incomplete" } else { "response.completed" }
    }

    /// The response before anything was said.
    pub(super) fn begun(&self) -> String {
        let mut out = ObjectWriter::new();
        for (name, value) in self.top.fields() {
            match name {
                "status" | "output_text" => {}
                "output" => {
                    out.raw("status", "\"in_progress\"");
                    out.raw("output", "[]");
                }
                "usage" | "completed_at" | "incomplete_details" => out.raw(name, "null"),
                _ => out.raw(name, value.get()),
            }
        }
        out.finish()
    }

    /// The whole response, with `items` (JSON each) in place of its own.
    pub(super) fn with_items(&self, items: &[String]) -> String {
        let mut out = ObjectWriter::new();
        for (name, value) in self.top.fields() {
            match name {
                "output" => out.raw(name, &format!("[{}]", items.join(","))),
                _ => out.raw(name, value.get()),
            }
        }
        out.finish()
    }
}

/// How an item is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Parts under `content`.
    Message,
    /// Parts under `summary`, then under `content`.
    Reasoning,
    /// One text, `arguments`.
    FunctionCall,
    /// As one.
    Whole,
}

/// One item of the output.
#[derive(Debug)]
pub(super) struct Item<'a> {
    raw: &'a RawValue,
    fields: RawObject<'a>,
    /// Empty where it has none.
    pub(super) id: Cow<'a, str>,
    pub(super) shape: Shape,
    /// In the order in which they are told.
    pub(super) parts: Vec<Part<'a>>,
}

impl<'a> Item<'a> {
    fn read(raw: &'a RawValue) -> Option<Self> {
        let fields = RawObject::of(raw)?;
        let id = fields.get("id").and_then(raw_text).unwrap_or_default();
        let (shape, parts) = Self::parts_of(&fields, !id.is_empty());
        (id.len() <= ID_CAP).then_some(Self { raw, fields, id, shape, parts })
    }

    /// A function call without an id cannot be pointed at by events (Node's SDK raises), so it stays whole.
    fn parts_of(fields: &RawObject<'a>, named: bool) -> (Shape, Vec<Part<'a>>) {
        let list = |key: &str| match fields.get(key) {
            None => Some(Vec::new()),
            Some(value) if is_hollow(value) => Some(Vec::new()),
            Some(value) => raw_list(value),
        };
        let parts = |frame: &'static Frame, list: Vec<&'a RawValue>| -> Option<Vec<Part<'a>>> {
            list.into_iter().enumerate().map(|(at, raw)| Part::read(frame, at, raw)).collect()
        };
        let told = match fields.get("type").map(RawValue::get) {
            Some("\"message\"") => {
                list("content").and_then(|content| parts(&CONTENT, content)).map(|parts| (Shape::Message, parts))
            }
            Some("\"reasoning\"") => {
                let summary = list("summary").and_then(|summary| parts(&SUMMARY, summary));
                let content = list("content").and_then(|content| parts(&CONTENT, content));
                summary.zip(content).map(|(summary, content)| {
                    (Shape::Reasoning, summary.into_iter().chain(content).collect::<Vec<_>>())
                })
            }
            Some("\"function_call\"") if named => {
                Part::arguments(fields).map(|arguments| (Shape::FunctionCall, vec![arguments]))
            }
            _ => None,
        };
        told.unwrap_or((Shape::Whole, Vec::new()))
    }

    /// At most how many events tell it.
    fn events(&self) -> usize {
        2 + self.parts.iter().map(|part| 4 + part.annotations.len()).sum::<usize>()
    }

    /// The value of one of its fields.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.fields.get(key)
    }

    /// As it was written.
    pub(super) fn raw(&self) -> &'a RawValue {
        self.raw
    }

    /// Whole, under this id.
    pub(super) fn under(&self, id: &str) -> String {
        if id == self.id { self.raw.get().to_owned() } else { self.written(id, |_, value| value.get()) }
    }

    /// Before anything of it was said. What has no events of its own comes with all it holds.
    pub(super) fn emptied(&self) -> String {
        let told = self.shape != Shape::Whole;
        self.written(&self.id, |name, value| match name {
            "status" if !is_hollow(value) => "\"in_progress\"",
            "content" | "summary" if told && value.get().starts_with('[') => "[]",
            "arguments" if told => "\"\"",
            _ => value.get(),
        })
    }

    fn written(&self, id: &str, value_of: impl Fn(&str, &'a RawValue) -> &'a str) -> String {
        let mut out = ObjectWriter::new();
        if self.fields.get("id").is_none() && !id.is_empty() {
            out.raw("id", &quoted(id));
        }
        for (name, value) in self.fields.fields() {
            match name {
                "id" if id != self.id => out.raw(name, &quoted(id)),
                _ => out.raw(name, value_of(name, value)),
            }
        }
        out.finish()
    }
}

/// Where parts stand: the names of their events and of their index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) added: &'static str,
    pub(super) done: &'static str,
    pub(super) index: &'static str,
}

/// Parts under `content`.
pub(super) static CONTENT: Frame =
    Frame { added: "response.content_part.added", done: "response.content_part.done", index: "content_index" };
/// Parts under `summary`.
pub(super) static SUMMARY: Frame = Frame {
    added: "response.reasoning_summary_part.added",
    done: "response.reasoning_summary_part.done",
    index: "summary_index",
};

/// How a text is told: the names of its events and of its field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// `type` of the part; of `arguments` there is none.
    kind: &'static str,
    /// Where the text stands, in the part and in the event that finishes it.
    pub(super) field: &'static str,
    pub(super) delta: &'static str,
    pub(super) done: &'static str,
}

/// Text of a message: the only one with annotations and logprobs.
pub(super) static OUTPUT_TEXT: Form = Form {
    kind: "\"output_text\"",
    field: "text",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
};
/// Texts of parts.
static FORMS: [&Form; 4] = [
    &OUTPUT_TEXT,
    &Form { kind: "\"refusal\"", field: "refusal", delta: "response.refusal.delta", done: "response.refusal.done" },
    &Form {
        kind: "\"summary_text\"",
        field: "text",
        delta: "response.reasoning_summary_text.delta",
        done: "response.reasoning_summary_text.done",
    },
    &Form {
        kind: "\"reasoning_text\"",
        field: "text",
        delta: "response.reasoning_text.delta",
        done: "response.reasoning_text.done",
    },
];
/// The text of a function call.
static ARGUMENTS: Form = Form {
    kind: "",
    field: "arguments",
    delta: "response.function_call_arguments.delta",
    done: "response.function_call_arguments.done",
};

/// One part of an item.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Where it stands; `None`: it is the item itself.
    pub(super) frame: Option<&'static Frame>,
    /// Its place there.
    pub(super) index: usize,
    fields: RawObject<'a>,
    /// As it was written.
    pub(super) raw: &'a str,
    /// Its text; `None`: a part of another kind, told whole.
    pub(super) text: Option<(&'static Form, Cow<'a, str>)>,
    /// Of its text.
    pub(super) annotations: Vec<&'a RawValue>,
}

impl<'a> Part<'a> {
    fn read(frame: &'static Frame, index: usize, raw: &'a RawValue) -> Option<Self> {
        let fields = RawObject::of(raw)?;
        let kind = fields.get("type").map(RawValue::get);
        let form = FORMS.iter().find(|form| Some(form.kind) == kind);
        let text = match form {
            Some(form) => Some((*form, raw_text(fields.get(form.field)?)?)),
            None => None,
        };
        let annotations = fields.get("annotations").filter(|_| form == Some(&&OUTPUT_TEXT)).and_then(raw_list);
        let annotations = annotations.unwrap_or_default();
        Some(Self { frame: Some(frame), index, fields, raw: raw.get(), text, annotations })
    }

    fn arguments(item: &RawObject<'a>) -> Option<Self> {
        let text = raw_text(item.get("arguments")?)?;
        let text = Some((&ARGUMENTS, text));
        Some(Self { frame: None, index: 0, fields: RawObject::default(), raw: "", text, annotations: Vec::new() })
    }

    /// The value of one of its fields.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.fields.get(key)
    }

    /// The log probabilities of its tokens, if it has any.
    pub(super) fn logprobs(&self) -> Option<&'a str> {
        self.fields.solid("logprobs").map(RawValue::get)
    }

    /// Before anything of it was said.
    pub(super) fn emptied(&self) -> String {
        let Some((form, _)) = &self.text else {
            return self.raw.to_owned();
        };
        let mut out = ObjectWriter::new();
        for (name, value) in self.fields.fields() {
            match name {
                "annotations" | "logprobs" if value.get().starts_with('[') => out.raw(name, "[]"),
                _ if name == form.field => out.raw(name, "\"\""),
                _ => out.raw(name, value.get()),
            }
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests;
