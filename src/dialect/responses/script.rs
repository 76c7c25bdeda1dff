//! An answer as events, or what is left of it after some were told.
//!
//! The same lines in both cases: each is said unless it is known to have been said. Numbers run without a gap. Parts
//! are announced and closed, because without that the helpers of both SDKs raise. Not here: what was told (`rest`).
//!
//! Source: OpenAI's API reference, "Streaming events"; helpers of the Python and Node SDKs.

use std::borrow::Cow;

use streamkeeper_sse::OwnedEvent;

use super::answer::{Answer, Item, OUTPUT_TEXT, Part};
use crate::dialect::json::{ObjectWriter, quoted};

/// The events of a whole answer.
pub(super) fn whole(answer: &Answer<'_>) -> Vec<OwnedEvent> {
    let mut script = Script::starting(0);
    script.begin(answer);
    script.go_on(answer, &[])
}

/// What a client was told of an item.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// The id under which it was announced, if it had one.
    pub(super) id: Option<String>,
    /// Of each of its parts.
    pub(super) parts: Vec<ToldPart>,
    /// That it is done.
    pub(super) done: bool,
}

/// What a client was told of a part.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ToldPart {
    pub(super) added: bool,
    /// Bytes of its text.
    pub(super) at: usize,
    /// How many of its annotations.
    pub(super) annotations: usize,
    pub(super) text_done: bool,
    pub(super) done: bool,
}

/// Events in the making.
pub(super) struct Script {
    next: u64,
    events: Vec<OwnedEvent>,
}

impl Script {
    /// `next`: the number of its first event.
    pub(super) fn starting(next: u64) -> Self {
        Self { next, events: Vec::new() }
    }

    /// The events that promise an answer.
    pub(super) fn begin(&mut self, answer: &Answer<'_>) {
        let begun = answer.begun();
        for name in ["response.created", "response.in_progress"] {
            self.say(name, |out| out.raw("response", &begun));
        }
    }

    /// All that is left of the answer after `told`, which is about its first items.
    pub(super) fn go_on(mut self, answer: &Answer<'_>, told: &[Told]) -> Vec<OwnedEvent> {
        let mut items = Vec::new();
        for (at, item) in answer.items.iter().enumerate() {
            let speech = Speech::new(item, at, told.get(at));
            speech.tell(&mut self);
            items.push(speech.whole());
        }
        let renamed = answer.items.iter().zip(&items).any(|(item, told)| item.raw().get() != told);
        let response = if renamed { Cow::Owned(answer.with_items(&items)) } else { Cow::Borrowed(answer.line) };
        self.say(answer.terminal(), |out| out.raw("response", &response));
        self.events
    }

    fn say(&mut self, name: &'static str, rest: impl FnOnce(&mut ObjectWriter)) {
        let mut out = ObjectWriter::new();
        out.raw("type", &quoted(name));
        out.raw("sequence_number", &self.next.to_string());
        rest(&mut out);
        self.events.push(OwnedEvent::new(name, out.finish()));
        self.next = self.next.saturating_add(1);
    }
}

/// One item and what was told of it.
struct Speech<'s, 'a> {
    item: &'s Item<'a>,
    /// The id under which it is told.
    id: &'s str,
    /// Its `output_index`.
    at: String,
    /// `None`: nothing.
    told: Option<&'s Told>,
}

impl<'s, 'a> Speech<'s, 'a> {
    fn new(item: &'s Item<'a>, at: usize, told: Option<&'s Told>) -> Self {
        let id = told.and_then(|told| told.id.as_deref()).unwrap_or(&item.id);
        Self { item, id, at: at.to_string(), told }
    }

    /// The item, whole.
    fn whole(&self) -> String {
        self.item.under(self.id)
    }

    fn tell(&self, script: &mut Script) {
        if self.told.is_none() {
            script.say("response.output_item.added", |out| {
                out.raw("output_index", &self.at);
                out.raw("item", &self.item.emptied());
            });
        }
        if self.told.is_some_and(|told| told.done) {
            return;
        }
        for (index, part) in self.item.parts.iter().enumerate() {
            let told = self.told.and_then(|told| told.parts.get(index));
            self.tell_part(script, part, told.copied().unwrap_or_default());
        }
        script.say("response.output_item.done", |out| {
            out.raw("output_index", &self.at);
            out.raw("item", &self.whole());
        });
    }

    fn tell_part(&self, script: &mut Script, part: &Part<'_>, told: ToldPart) {
        if let Some(frame) = part.frame.filter(|_| !told.added) {
            script.say(frame.added, |out| {
                self.place(part, out);
                out.raw("part", &part.emptied());
            });
        }
        if !told.text_done {
            self.tell_text(script, part, told);
        }
        if let Some(frame) = part.frame.filter(|_| !told.done) {
            script.say(frame.done, |out| {
                self.place(part, out);
                out.raw("part", part.raw);
            });
        }
    }

    fn tell_text(&self, script: &mut Script, part: &Part<'_>, told: ToldPart) {
        let Some((form, text)) = &part.text else {
            return;
        };
        let logprobs = |out: &mut ObjectWriter| {
            if *form == &OUTPUT_TEXT {
                out.raw("logprobs", part.logprobs().unwrap_or("[]"));
            }
        };
        let left = text.get(told.at..).unwrap_or_default();
        if !left.is_empty() {
            script.say(form.delta, |out| {
                self.place(part, out);
                out.raw("delta", &quoted(left));
                logprobs(out);
            });
        }
        for (at, annotation) in part.annotations.iter().enumerate().skip(told.annotations) {
            script.say("response.output_text.annotation.added", |out| {
                self.place(part, out);
                out.raw("annotation_index", &at.to_string());
                out.raw("annotation", annotation.get());
            });
        }
        script.say(form.done, |out| {
            self.place(part, out);
            if let Some(name) = self.item.get("name").filter(|_| part.frame.is_none()) {
                out.raw("name", name.get());
            }
            out.raw(form.field, &quoted(text));
            logprobs(out);
        });
    }

    /// Where a part stands.
    fn place(&self, part: &Part<'_>, out: &mut ObjectWriter) {
        out.raw("item_id", &quoted(self.id));
        out.raw("output_index", &self.at);
        if let Some(frame) = part.frame {
            out.raw(frame.index, &part.index.to_string());
        }
    }
}
