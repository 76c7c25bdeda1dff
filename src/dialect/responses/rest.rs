//! What of a JSON answer is left after some events were delivered, if the answer begins with exactly those.
//!
//! Delivered events cannot be taken back, so the answer fits if each of them stands in it at the same place: texts
//! piece by piece, items and parts that were closed as values. Ids of items, which differ from run to run, stay those
//! delivered; the response that ends the stream is the new one, whose id is the one the vendor knows as whole. What
//! is not understood, and tool calls of another run (another `call_id`), have no rest.
//!
//! Not here: whether to try (the route's ladder), and gaps: `delivered` must be everything from the first event on.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::answer::{Answer, Item, Part, Shape};
use super::script::{self, Script, Told, ToldPart};
use crate::dialect::Delivered;
use crate::dialect::json::{self, RawObject, is_hollow, raw_text};

/// The events that are left, terminator included.
pub(super) fn events(delivered: &mut dyn Iterator<Item = Delivered<'_>>, answer: &[u8]) -> Option<Vec<OwnedEvent>> {
    let line = json::compact(answer)?;
    let answer = Answer::read(&line).ok()?;
    let mut progress = Progress { answer: &answer, told: Vec::new(), next: 0, begun: false };
    for event in delivered {
        progress.follow(&event)?;
    }
    if !progress.begun {
        return Some(script::whole(&answer));
    }
    let fits = progress.told.iter().zip(&answer.items).all(|(told, item)| told.can_go_on(item));
    let told: Vec<Told> = progress.told.into_iter().map(|listener| listener.told).collect();
    fits.then(|| Script::starting(progress.next).go_on(&answer, &told))
}

/// The `sequence_number` of a delivered event.
pub(super) fn number_of(event: &Delivered<'_>) -> Option<u64> {
    RawObject::read(event.data.trim().as_bytes()).as_ref().and_then(number_in)
}

fn number_in(fields: &RawObject<'_>) -> Option<u64> {
    fields.get("sequence_number")?.get().parse().ok()
}

/// Where in the answer the delivered events have come to. Its functions give `None` where they leave it.
struct Progress<'s, 'a> {
    answer: &'s Answer<'a>,
    told: Vec<Listener>,
    /// The number of the next event.
    next: u64,
    /// Something was delivered, so the stream has its beginning.
    begun: bool,
}

impl Progress<'_, '_> {
    fn follow(&mut self, event: &Delivered<'_>) -> Option<()> {
        let data = event.data.trim();
        if data.is_empty() {
            return Some(());
        }
        let fields = RawObject::read(data.as_bytes())?;
        self.begun = true;
        self.next = number_in(&fields).unwrap_or(self.next).saturating_add(1);
        let kind = fields.get("type").and_then(raw_text).unwrap_or(event.name.as_ref().into());
        if matches!(kind.as_ref(), "response.created" | "response.in_progress" | "response.queued" | "keepalive") {
            return Some(());
        }
        let at: usize = place(&fields, "output_index")?;
        let item = self.answer.items.get(at)?;
        if kind == "response.output_item.added" {
            let listener = (at == self.told.len()).then(|| Listener::new(item, &fields))??;
            self.told.push(listener);
            return Some(());
        }
        self.told.get_mut(at)?.follow(item, &kind, &fields)
    }
}

/// What was heard of one item.
struct Listener {
    told: Told,
    /// Something was told of an item that has no events of its own here, so only its end can be trusted.
    vague: bool,
}

impl Listener {
    /// Hears an item announced.
    fn new(item: &Item<'_>, fields: &RawObject<'_>) -> Option<Self> {
        let raw = fields.get("item")?;
        let added = RawObject::of(raw)?;
        // What is told later is empty or not there yet; these are told at once.
        if !["type", "role", "name", "call_id"].iter().all(|key| same_field(added.get(key), item.get(key))) {
            return None;
        }
        let id = added.get("id").and_then(raw_text).filter(|id| !id.is_empty()).map(Cow::into_owned);
        let parts = vec![ToldPart::default(); item.parts.len()];
        let vague = item.shape == Shape::Whole && !same(raw, item.raw(), &["id", "status"]);
        Some(Self { told: Told { id, parts, done: false }, vague })
    }

    fn follow(&mut self, item: &Item<'_>, kind: &str, fields: &RawObject<'_>) -> Option<()> {
        if self.told.done {
            return None;
        }
        if kind == "response.output_item.done" {
            self.told.done = true;
            return same(fields.get("item")?, item.raw(), &["id"]).then_some(());
        }
        if item.shape == Shape::Whole {
            self.vague = true;
            return Some(());
        }
        let here = |part: &Part<'_>| part.frame.is_none_or(|frame| place(fields, frame.index) == Some(part.index));
        let mut parts = item.parts.iter().zip(&mut self.told.parts);
        let (part, told) = parts.find(|(part, _)| here(part) && has(part, kind))?;
        told.follow(part, kind, fields)
    }

    /// Whether what is left can be told so that it fits what was told. Of half a text nobody knows which of its
    /// tokens were told with their probabilities.
    fn can_go_on(&self, item: &Item<'_>) -> bool {
        let torn = |(part, told): (&Part<'_>, &ToldPart)| {
            let whole = part.text.as_ref().is_none_or(|(_, text)| told.at == text.len());
            told.at > 0 && !whole && part.logprobs().is_some()
        };
        self.told.done || !self.vague && !item.parts.iter().zip(&self.told.parts).any(torn)
    }
}

/// Whether a part has events of this kind.
fn has(part: &Part<'_>, kind: &str) -> bool {
    let framed = part.frame.is_some_and(|frame| kind == frame.added || kind == frame.done);
    let spoken = part.text.as_ref().is_some_and(|(form, _)| kind == form.delta || kind == form.done);
    framed || spoken || kind == ANNOTATED
}

const ANNOTATED: &str = "response.output_text.annotation.added";

impl ToldPart {
    fn follow(&mut self, part: &Part<'_>, kind: &str, fields: &RawObject<'_>) -> Option<()> {
        if let Some(frame) = part.frame.filter(|frame| kind == frame.added || kind == frame.done) {
            let delivered = fields.get("part")?;
            self.added = true;
            if kind == frame.done {
                *self = Self { done: true, text_done: true, ..*self };
                self.at = part.text.as_ref().map_or(0, |(_, text)| text.len());
                return same_text(delivered.get(), part.raw, &[]).then_some(());
            }
            return same_field(RawObject::of(delivered)?.get("type"), part.get("type")).then_some(());
        }
        if kind == ANNOTATED {
            let annotation = part.annotations.get(self.annotations)?;
            let fits = place(fields, "annotation_index") == Some(self.annotations);
            self.annotations += 1;
            return (fits && same(fields.get("annotation")?, annotation, &[])).then_some(());
        }
        let (form, text) = part.text.as_ref()?;
        if kind == form.done {
            (self.text_done, self.at) = (true, text.len());
            return (raw_text(fields.get(form.field)?)? == *text).then_some(());
        }
        let piece = raw_text(fields.get("delta")?)?;
        let fits = text.get(self.at..).is_some_and(|left| left.starts_with(piece.as_ref()));
        self.at += piece.len();
        fits.then_some(())
    }
}

fn place(fields: &RawObject<'_>, key: &str) -> Option<usize> {
    fields.get(key)?.get().parse().ok()
}

/// Whether two fields say the same.
fn same_field(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b, &[]),
        (one, other) => one.or(other).is_none_or(is_hollow),
    }
}

/// Whether two values say the same, but for the fields named.
fn same(a: &RawValue, b: &RawValue, but: &[&str]) -> bool {
    same_text(a.get(), b.get(), but)
}

fn same_text(a: &str, b: &str, but: &[&str]) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    a == b || read(a).zip(read(b)).is_some_and(|(a, b)| alike(&a, &b, but))
}

static NOTHING: Value = Value::Null;

/// Streams and answers differ in which fields they leave out where they have nothing to say.
fn alike(a: &Value, b: &Value, but: &[&str]) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).filter(|key| !but.contains(&key.as_str())).collect();
            keys.into_iter().all(|key| alike(a.get(key).unwrap_or(&NOTHING), b.get(key).unwrap_or(&NOTHING), &[]))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, &[])),
        _ => a == b || is_empty(a) && is_empty(b),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
