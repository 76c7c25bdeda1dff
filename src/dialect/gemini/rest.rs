//! What of a JSON answer is left after some blocks were delivered, if the answer begins with exactly those.
//!
//! Plain text only: each delivered piece must stand in the text that the answer's candidate begins with, and what is
//! left goes out as one block. As soon as something else was delivered (thoughts, calls, data, citations, logprobs),
//! or anything that is not understood, there is no rest; parts that follow the delivered text are sent whole. Nothing
//! is accumulated: each piece is compared and forgotten.
//!
//! Not here: whether to try (the route's ladder), and gaps: `delivered` must be everything from the first block on.

use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::vendor;
use crate::dialect::Delivered;
use crate::dialect::json::{self, ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};

/// Fields of a delivered block that do not keep it from being continued.
const BLOCK: [&str; 6] = ["candidates", "usageMetadata", "modelVersion", "responseId", "createTime", "promptFeedback"];
/// Fields of a delivered candidate that do not keep it from being continued.
const CANDIDATE: [&str; 7] =
    ["content", "index", "finishReason", "finishMessage", "safetyRatings", "tokenCount", "avgLogprobs"];

/// Stands beside the last text of an answer, in a stream as in a whole one; so it goes with what is left.
const SIGNATURE: &str = "thoughtSignature";

/// The blocks that are left: one, or none where everything was delivered.
pub(super) fn events(delivered: &mut dyn Iterator<Item = Delivered<'_>>, answer: &[u8]) -> Option<Vec<OwnedEvent>> {
    let line = json::compact(answer)?;
    if vendor::reports_error(line.as_bytes()) {
        return None;
    }
    let answer = RawObject::read(line.as_bytes())?;
    let read = raw_list(answer.get("candidates")?)?.into_iter().map(Told::read);
    let mut told = read.collect::<Option<Vec<_>>>().filter(|told| !told.is_empty())?;
    let mut id = None;
    for event in delivered {
        follow(&event, &mut told, &mut id)?;
    }
    let mut left = Vec::new();
    for told in &told {
        left.extend(told.rest()?);
    }
    if left.is_empty() {
        return Some(Vec::new());
    }
    let mut out = ObjectWriter::new();
    for (name, value) in answer.fields() {
        match name {
            "candidates" => out.raw(name, &format!("[{}]", left.join(","))),
            "responseId" => out.raw(name, id.as_deref().unwrap_or(value.get())),
            _ => out.raw(name, value.get()),
        }
    }
    Some(vec![OwnedEvent::new("", out.finish())])
}

/// Follows the answer through one delivered block; `None` where it leaves it. `id` becomes the block's own.
fn follow(event: &Delivered<'_>, told: &mut [Told<'_>], id: &mut Option<String>) -> Option<()> {
    let data = event.data.trim();
    if data.is_empty() {
        return Some(());
    }
    let block = RawObject::read(data.as_bytes())?;
    only(&block, &BLOCK)?;
    if let Some(feedback) = block.solid("promptFeedback") {
        only(&RawObject::of(feedback)?, &["safetyRatings"])?;
    }
    if id.is_none() {
        *id = block.solid("responseId").map(|id| id.get().to_owned());
    }
    for raw in block.get("candidates").map_or(Some(Vec::new()), raw_list)? {
        let candidate = RawObject::of(raw)?;
        only(&candidate, &CANDIDATE)?;
        let index = index_of(&candidate)?;
        told.iter_mut().find(|told| told.index == index)?.follow(&candidate)?;
    }
    Some(())
}

/// `None` if a field says something that is not among the `known`.
fn only(object: &RawObject<'_>, known: &[&str]) -> Option<()> {
    object.fields().all(|(name, value)| known.contains(&name) || is_hollow(value)).then_some(())
}

/// Absent is 0, as in all of Google's JSON.
fn index_of(candidate: &RawObject<'_>) -> Option<u64> {
    candidate.get("index").map_or(Some(0), |index| index.get().parse().ok())
}

fn parts_of<'a>(candidate: &RawObject<'a>) -> Option<Vec<&'a RawValue>> {
    match candidate.solid("content") {
        Some(content) => RawObject::of(content)?.solid("parts").map_or(Some(Vec::new()), raw_list),
        None => Some(Vec::new()),
    }
}

/// One candidate of the answer and how much of it was delivered.
struct Told<'a> {
    index: u64,
    candidate: RawObject<'a>,
    parts: Vec<&'a RawValue>,
    /// The plain text that the parts begin with.
    text: String,
    at: usize,
    finished: bool,
}

impl<'a> Told<'a> {
    fn read(raw: &'a RawValue) -> Option<Self> {
        let candidate = RawObject::of(raw)?;
        let parts = parts_of(&candidate)?;
        let text = parts.iter().map_while(|part| text_of(part, &["text", SIGNATURE])).collect();
        Some(Self { index: index_of(&candidate)?, candidate, parts, text, at: 0, finished: false })
    }

    fn follow(&mut self, delivered: &RawObject<'_>) -> Option<()> {
        for part in parts_of(delivered)? {
            let piece = text_of(part, &["text"])?;
            if !self.text.get(self.at..)?.starts_with(&piece) {
                return None;
            }
            self.at += piece.len();
        }
        self.finished |= delivered.solid("finishReason").is_some();
        Some(())
    }

    /// The candidate with what is left of it; inside, `None` if that is nothing. Outside, `None` if the client was
    /// told too early that nothing follows.
    fn rest(&self) -> Option<Option<String>> {
        let left = self.parts_left();
        if self.finished {
            return left.is_empty().then_some(None);
        }
        let mut out = ObjectWriter::new();
        for (name, value) in self.candidate.fields() {
            match name {
                "content" => out.raw(name, &self.content(value, &left)?),
                // It speaks of tokens, and the first of them are gone.
                "logprobsResult" if self.at > 0 => {}
                _ => out.raw(name, value.get()),
            }
        }
        Some(Some(out.finish()))
    }

    fn content(&self, content: &RawValue, left: &[String]) -> Option<String> {
        // A last block always has a part, be it an empty one.
        let parts =
            if left.is_empty() && !self.parts.is_empty() { r#"{"text":""}"#.to_owned() } else { left.join(",") };
        let mut out = ObjectWriter::new();
        for (name, value) in RawObject::of(content)?.fields() {
            match name {
                "parts" => out.raw(name, &format!("[{parts}]")),
                _ => out.raw(name, value.get()),
            }
        }
        Some(out.finish())
    }

    /// The parts that were not delivered, the first of them perhaps cut.
    fn parts_left(&self) -> Vec<String> {
        let (mut skip, mut left) = (self.at, Vec::new());
        for part in &self.parts {
            let text = text_of(part, &["text", SIGNATURE]).filter(|_| skip > 0).unwrap_or_default();
            let taken = skip.min(text.len());
            skip -= taken;
            left.extend(if taken == 0 { Some(part.get().to_owned()) } else { without_start(part, &text, taken) });
        }
        left
    }
}

/// A part whose text lost its first `taken` bytes; `None` if nothing is left of it.
fn without_start(part: &RawValue, text: &str, taken: usize) -> Option<String> {
    let part = RawObject::of(part)?;
    if taken == text.len() && part.solid(SIGNATURE).is_none() {
        return None;
    }
    let mut out = ObjectWriter::new();
    for (name, value) in part.fields() {
        match name {
            "text" => out.raw(name, &quoted(text.get(taken..)?)),
            _ => out.raw(name, value.get()),
        }
    }
    Some(out.finish())
}

/// The text of a part that says nothing but the `known` fields.
fn text_of(part: &RawValue, known: &[&str]) -> Option<String> {
    let part = RawObject::of(part)?;
    only(&part, known)?;
    Some(raw_text(part.get("text")?)?.into_owned())
}

#[cfg(test)]
mod tests;
