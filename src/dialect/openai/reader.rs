//! One upstream event of this wire: content, preamble, the end, or an error.
//!
//! Ordinary chunks are told apart by substring search alone; only what may be more (the first chunks, a finish, an
//! error, several choices) is parsed, and then without allocating. Not here: what a vendor's error means (`vendor`).
//!
//! A finish on every choice counts as a whole answer even where `[DONE]` is missing; `[DONE]` after an error, which
//! vLLM, TGI and llama.cpp send, never arrives here because the error ended the stream.

use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use streamkeeper_session::Fault;
use streamkeeper_sse::{Event, OwnedEvent};

use super::{DONE, vendor};
use crate::dialect::json::{RawObject, is_hollow};
use crate::dialect::{CleanEnd, Meaning, Reader};

const ERROR: &[u8] = b"error";

static ERROR_WORD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static CHOICES_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
static EMPTY_TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"content\":\"\""));
static FINISH_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));

/// Reads the chunks of one answer.
#[derive(Debug)]
pub(super) struct ChunkReader {
    /// The request can have one choice only, so an ordinary chunk need not be asked which choice it is for.
    one_choice: bool,
    /// Content was seen, so nothing is a preamble any more.
    started: bool,
    choices: Choices,
}

impl ChunkReader {
    /// `one_choice`: the request cannot have more than one.
    pub(super) fn new(one_choice: bool) -> Self {
        Self { one_choice, started: false, choices: Choices::default() }
    }

    /// Everything about a chunk that is not plainly content.
    fn examine(&mut self, event: &Event<'_>, data: &[u8]) -> Meaning {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            // Not a chunk as far as we know: whether it is worth anything is the client's business, except that
            // Google's compatible endpoint reports errors as a list.
            let wrapped =
                serde_json::from_slice::<Vec<Chunk<'_>>>(data).is_ok_and(|list| list.iter().any(Chunk::is_error));
            return if wrapped { Meaning::Error(vendor::fault(data)) } else { self.content() };
        };
        if chunk.is_error() {
            return Meaning::Error(vendor::fault(data));
        }
        let silent = chunk.promises_nothing();
        if let Some(choices) = chunk.choices {
            self.choices.absorb(choices);
        }
        if chunk.error.is_some() {
            self.started = true;
            return without_error(event, data);
        }
        match (silent, self.started) {
            (true, false) => Meaning::Preamble,
            (true, true) => Meaning::Filler,
            (false, _) => self.content(),
        }
    }

    fn content(&mut self) -> Meaning {
        self.started = true;
        Meaning::Content
    }
}

impl Reader for ChunkReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        if event.name == ERROR {
            return Meaning::Error(vendor::fault(data));
        }
        if data.is_empty() {
            return Meaning::Skip;
        }
        if data == DONE.as_bytes() {
            return Meaning::Done;
        }
        if self.one_choice && self.started && self.choices.seen != 0 && is_ordinary(data) {
            return Meaning::Content;
        }
        self.examine(event, data)
    }

    /// Old llama.cpp says `error: {…}`, a field of its own that SDKs ignore.
    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<Box<Fault>> {
        (name == ERROR).then(|| vendor::fault(value.trim_ascii()))
    }

    fn clean_end(&self) -> CleanEnd {
        if self.choices.all_finished() { CleanEnd::Unmarked } else { CleanEnd::Truncated }
    }

    fn is_whole(&self) -> bool {
        self.choices.all_finished()
    }
}

/// Whether a chunk has choices with words in them, none of which finishes, and no error, as far as a search for words can tell. Says no
/// when in doubt; inside a JSON string the words would have their quotes escaped, so a yes is right.
fn is_ordinary(data: &[u8]) -> bool {
    let maybe_empty = EMPTY_TEXT.find(data).is_some();
    if maybe_empty || CHOICES_KEY.find(data).is_none() || ERROR_WORD.find(data).is_some() {
        return false;
    }
    FINISH_KEY.find_iter(data).all(|at| {
        let rest = data.get(at + FINISH_KEY.needle().len()..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"null"))
    })
}

/// The chunk without its empty `error`: SDKs raise on the key's mere presence.
fn without_error(event: &Event<'_>, data: &[u8]) -> Meaning {
    match RawObject::read(data) {
        Some(chunk) => Meaning::Replace(OwnedEvent { data: chunk.without(&["error"]), ..OwnedEvent::from(*event) }),
        None => Meaning::Content,
    }
}

/// What must be known of a chunk.
#[derive(Debug, Default)]
struct Chunk<'a> {
    error: Option<&'a RawValue>,
    /// `"object": "error"`, vLLM's flat form.
    flat_error: bool,
    usage: bool,
    choices: Option<Choices>,
}

impl Chunk<'_> {
    fn is_error(&self) -> bool {
        // An empty object is an error to some SDKs, so it is one here.
        self.flat_error || self.error.is_some_and(|error| error.get() == "{}" || !is_hollow(error))
    }

    /// A role without words, or Azure's report on the prompt.
    fn promises_nothing(&self) -> bool {
        self.choices
            .as_ref()
            .is_some_and(|choices| !choices.speak && choices.finished == 0 && (choices.any || !self.usage))
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Error,
    Object,
    Usage,
    Choices,
    Index,
    Delta,
    Text,
    FinishReason,
    Role,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Chunk<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChunkVisitor)
    }
}

struct ChunkVisitor;

impl<'de> Visitor<'de> for ChunkVisitor {
    type Value = Chunk<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chunk")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut chunk = Chunk::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Error => chunk.error = Some(map.next_value()?),
                Key::Object => chunk.flat_error = map.next_value::<&RawValue>()?.get() == "\"error\"",
                Key::Usage => chunk.usage = map.next_value::<Option<IgnoredAny>>()?.is_some(),
                Key::Choices => chunk.choices = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(chunk)
    }
}

/// Which choices were seen and which finished, by index: bit sets, because the API allows 128 at most.
#[derive(Debug, Default)]
struct Choices {
    seen: u128,
    finished: u128,
    /// One has an index that no bit stands for, so nobody can tell when all are finished.
    beyond: bool,
    /// There is one at all.
    any: bool,
    /// One says something beside its role.
    speak: bool,
}

impl Choices {
    fn absorb(&mut self, more: Self) {
        self.seen |= more.seen;
        self.finished |= more.finished;
        self.beyond |= more.beyond;
    }

    fn all_finished(&self) -> bool {
        self.seen != 0 && self.seen == self.finished && !self.beyond
    }

    fn add(&mut self, choice: &Choice) {
        self.any = true;
        self.speak |= choice.speaks;
        match choice.index.and_then(|index| 1_u128.checked_shl(index)) {
            Some(bit) => {
                self.seen |= bit;
                self.finished |= if choice.finished { bit } else { 0 };
            }
            None => self.beyond = true,
        }
    }
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChoicesVisitor)
    }
}

struct ChoicesVisitor;

impl<'de> Visitor<'de> for ChoicesVisitor {
    type Value = Choices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("choices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut choices = Choices::default();
        while let Some(choice) = seq.next_element::<Choice>()? {
            choices.add(&choice);
        }
        Ok(choices)
    }
}

#[derive(Debug)]
struct Choice {
    /// `None`: not a small number.
    index: Option<u32>,
    speaks: bool,
    finished: bool,
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChoiceVisitor)
    }
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = Choice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a choice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut choice = Choice { index: Some(0), speaks: false, finished: false };
        while let Some(key) = map.next_key()? {
            match key {
                Key::Index => choice.index = map.next_value::<&RawValue>()?.get().parse().ok(),
                Key::Delta => choice.speaks |= map.next_value::<Option<Delta>>()?.is_some_and(|delta| delta.0),
                Key::Text => choice.speaks |= !is_hollow(map.next_value()?),
                Key::FinishReason => choice.finished = map.next_value::<Option<IgnoredAny>>()?.is_some(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(choice)
    }
}

/// Whether a delta holds more than its role.
struct Delta(bool);

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DeltaVisitor)
    }
}

struct DeltaVisitor;

impl<'de> Visitor<'de> for DeltaVisitor {
    type Value = Delta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delta")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut speaks = false;
        while let Some(key) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            speaks |= !matches!(key, Key::Role) && !is_hollow(value);
        }
        Ok(Delta(speaks))
    }
}

#[cfg(test)]
mod tests;
