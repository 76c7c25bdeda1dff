//! One upstream block of this wire: content, preamble, or an error; and whether the answer is whole.
//!
//! No block says that it is the last. A `finishReason` comes in the last block of its candidate as a rule, mostly
//! together with the usage; but some models put one into every block, and usage or grounding may follow in a block of
//! its own. So a finish is content like any other, and what is known of the candidates decides when the body ends
//! cleanly: an answer is whole if each candidate that was seen finished and said nothing after it, or if the prompt was
//! blocked.
//!
//! Ordinary blocks are told apart by substring search alone. Not here: what an error means (`vendor`).

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::value::RawValue;
use streamkeeper_session::Fault;
use streamkeeper_sse::{Event, OwnedEvent};

use super::{vendor, wrapped};
use crate::dialect::json::{RawObject, is_hollow, raw_list};
use crate::dialect::{CleanEnd, Meaning, Reader};

static CANDIDATES_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"candidates\""));
static FINISH_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finishReason\""));
static BLOCK_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"blockReason\""));
static INDEX_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"index\""));
static ERROR_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// Reads the blocks of one answer.
#[derive(Debug, Default)]
pub(super) struct BlockReader {
    /// Content was seen, so nothing is a preamble any more.
    started: bool,
    candidates: Candidates,
    /// The prompt was refused; there is nothing more to come.
    blocked: bool,
    bare: BareJson,
}

impl Reader for BlockReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        if event.name == b"error" {
            return Meaning::Error(vendor::fault(data));
        }
        // Gateways that imitate OpenAI end with a word that is no JSON, on which Google's SDKs raise.
        if data.is_empty() || data == b"[DONE]" {
            return Meaning::Skip;
        }
        if self.started && self.candidates.only_the_first_speaks() && is_ordinary(data) {
            return Meaning::Content;
        }
        self.examine(event, data)
    }

    /// Google reports some errors as bare JSON between the blocks, without `data:`, line by line.
    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<Box<Fault>> {
        let text = self.bare.add(name, value)?;
        vendor::reports_error(&text).then(|| vendor::fault(&text))
    }

    fn clean_end(&self) -> CleanEnd {
        if self.blocked || self.candidates.all_finished() { CleanEnd::Complete } else { CleanEnd::Truncated }
    }

    fn is_whole(&self) -> bool {
        self.clean_end() == CleanEnd::Complete
    }
}

impl BlockReader {
    /// Everything about a block that is not plainly content.
    fn examine(&mut self, event: &Event<'_>, data: &[u8]) -> Meaning {
        if vendor::reports_error(data) {
            return Meaning::Error(vendor::fault(data));
        }
        let Some(block) = RawObject::read(data) else {
            // Nothing that we know: whether it is worth anything is the client's business.
            self.started = true;
            return Meaning::Content;
        };
        let promises_nothing = !self.absorb(wrapped(&block).as_ref().unwrap_or(&block));
        if block.get("error").is_some() {
            // Empty, but the Node SDK looks only whether the key is there.
            self.started = true;
            return Meaning::Replace(OwnedEvent { data: block.without(&["error"]), ..OwnedEvent::from(*event) });
        }
        if promises_nothing && !self.started {
            return Meaning::Preamble;
        }
        self.started = true;
        Meaning::Content
    }

    /// Notes what a block says about the candidates; whether it says anything.
    fn absorb(&mut self, block: &RawObject<'_>) -> bool {
        let feedback = block.get("promptFeedback").and_then(RawObject::of);
        let blocked = feedback.is_some_and(|feedback| names_a_reason(&feedback, "blockReason"));
        self.blocked |= blocked;
        let mut says = blocked;
        for raw in block.get("candidates").and_then(raw_list).unwrap_or_default() {
            let Some(candidate) = RawObject::of(raw) else { continue };
            let (speaks, finishes) = (speaks(&candidate), names_a_reason(&candidate, "finishReason"));
            // Absent is 0, as in all of Google's JSON.
            let index = candidate.get("index").map_or(Some(0), |index| index.get().parse().ok());
            self.candidates.note(index, speaks, finishes);
            says |= speaks || finishes;
        }
        says
    }
}

/// Whether `key` holds a reason, and not the value that stands for none.
fn names_a_reason(object: &RawObject<'_>, key: &str) -> bool {
    object.solid(key).is_some_and(|reason| !reason.get().ends_with("_UNSPECIFIED\""))
}

/// Whether a candidate holds a part that says something.
fn speaks(candidate: &RawObject<'_>) -> bool {
    let content = candidate.get("content").and_then(RawObject::of);
    let parts = content.and_then(|content| content.get("parts")).and_then(raw_list).unwrap_or_default();
    parts.into_iter().any(|part| match RawObject::of(part) {
        Some(part) => part.fields().any(|(name, value): (_, &RawValue)| name != "thought" && !is_hollow(value)),
        None => true,
    })
}

/// Whether a block is about the first candidate, does not finish it and reports nothing, as far as a search for words
/// can tell. Says no when in doubt; inside a JSON string the words would have their quotes escaped, so a yes is right.
fn is_ordinary(data: &[u8]) -> bool {
    let lacks = |finder: &Finder<'_>| finder.find(data).is_none();
    CANDIDATES_KEY.find(data).is_some()
        && lacks(&FINISH_KEY)
        && lacks(&BLOCK_KEY)
        && lacks(&ERROR_KEY)
        && INDEX_KEY.find_iter(data).all(|at| {
            let rest = data.get(at + INDEX_KEY.needle().len()..).unwrap_or_default().trim_ascii_start();
            let value = rest.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
            matches!(value, [b'0', b',' | b'}' | b' ', ..])
        })
}

/// Which candidates were seen and which finished, by index: bit sets, because eight is the most the API allows.
#[derive(Debug, Default)]
struct Candidates {
    seen: u128,
    finished: u128,
    /// One has an index that no bit stands for, so nobody can tell when all are finished.
    beyond: bool,
}

impl Candidates {
    fn note(&mut self, index: Option<u32>, speaks: bool, finishes: bool) {
        let Some(bit) = index.and_then(|index| 1_u128.checked_shl(index)) else {
            self.beyond = true;
            return;
        };
        self.seen |= bit;
        if finishes {
            self.finished |= bit;
        } else if speaks {
            self.finished &= !bit;
        }
    }

    fn only_the_first_speaks(&self) -> bool {
        self.seen & 1 != 0 && self.finished & 1 == 0
    }

    fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished && !self.beyond
    }
}

/// The most bytes of bare JSON that are looked at.
const BARE_CAP: usize = 16 * 1024;

/// Puts JSON together again that came as lines of its own, which an event stream takes for fields.
#[derive(Debug, Default)]
struct BareJson {
    text: Vec<u8>,
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl BareJson {
    /// Adds a line, split at its first `:`. The whole text, once its brackets are closed.
    fn add(&mut self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let begins = matches!(name.trim_ascii_start().first(), Some(b'{' | b'['));
        if self.text.is_empty() && !begins {
            return None;
        }
        if self.text.len() + name.len() + value.len() > BARE_CAP {
            *self = Self::default();
            return None;
        }
        self.text(name);
        if !value.is_empty() {
            self.text(b":");
            self.text(value);
        }
        self.text(b"\n");
        (self.depth == 0).then(|| std::mem::take(self).text)
    }

    fn text(&mut self, more: &[u8]) {
        for byte in more {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.quoted,
                b'"' => self.quoted = !self.quoted,
                b'{' | b'[' if !self.quoted => self.depth += 1,
                b'}' | b']' if !self.quoted => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.text.extend_from_slice(more);
    }
}

#[cfg(test)]
mod tests;
