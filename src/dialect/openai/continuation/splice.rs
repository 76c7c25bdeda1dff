//! The second stream of a continued answer, read as the rest of the first.
//!
//! Wraps the ordinary reader and changes what it lets through: the first stream's id, created and model; no second
//! role and no second reasoning; the text without what was delivered already; usage that counts both streams. Chunks
//! are written anew, which costs; a continuation is rare.
//!
//! # What was delivered already
//!
//! ```text
//!   text of the second stream ──▶ begins with all that was sent? ── yes: an echo, dropped ──┐
//!                                          └ no: all of it is new ─────────────────────────┤
//!                                                                                          ▼
//!                                  white space that was delivered but not sent, dropped, then the rest
//! ```
//!
//! While the text agrees with what was sent, it is held back. A rest that happens to begin with everything that was
//! sent is taken for an echo; nothing in the stream tells the two apart.

use serde_json::Value;
use serde_json::value::RawValue;
use streamkeeper_session::{Code, Fault};
use streamkeeper_sse::{Event, OwnedEvent};

use super::super::reader::ChunkReader;
use super::{Said, is_reasoning};
use crate::dialect::json::{ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};
use crate::dialect::{CleanEnd, Meaning, Reader};

/// Reads the rest of one answer.
#[derive(Debug)]
pub(super) struct Splice {
    inner: ChunkReader,
    chat: bool,
    head: Vec<(&'static str, String)>,
    usage: Option<Value>,
    overlap: Overlap,
}

impl Splice {
    /// After `said`.
    pub(super) fn new(said: Said, chat: bool) -> Self {
        Self {
            inner: ChunkReader::new(true),
            chat,
            head: said.head,
            usage: said.usage.and_then(|usage| serde_json::from_str(&usage).ok()),
            overlap: Overlap::new(said.text),
        }
    }

    fn splice(&mut self, event: OwnedEvent) -> Meaning {
        let Some(chunk) = RawObject::read(event.data.as_bytes()) else {
            return Meaning::Replace(event);
        };
        let choices = chunk.get("choices").and_then(raw_list).unwrap_or_default();
        let choice = match choices.as_slice() {
            [raw] => match self.rest(raw) {
                Rest::Nothing => return Meaning::Skip,
                Rest::Foreign => return cut(),
                Rest::Choice(choice) => Some(format!("[{choice}]")),
            },
            _ => None,
        };
        let mut out = ObjectWriter::new();
        for (name, value) in chunk.fields() {
            let of_the_first = self.head.iter().find(|(head, _)| *head == name);
            match (name, &choice) {
                ("choices", Some(choice)) => out.raw(name, choice),
                ("usage", _) if !is_hollow(value) => out.raw(name, &self.usage_with(value)),
                _ => out.raw(name, of_the_first.map_or(value.get(), |(_, value)| value)),
            }
        }
        Meaning::Replace(OwnedEvent { data: out.finish(), ..event })
    }

    /// What a choice has to say that was not said before.
    fn rest(&mut self, raw: &RawValue) -> Rest {
        let Some(choice) = RawObject::of(raw) else { return Rest::Foreign };
        let finished = choice.get("finish_reason").is_some_and(|reason| reason.get() != "null");
        let more = choice.solid("logprobs").is_some();
        let (place, said, over) = if self.chat {
            let delta = choice.solid("delta").and_then(RawObject::of).unwrap_or_default();
            let Some((said, over)) = self.delta(&delta, finished || more) else { return Rest::Foreign };
            ("delta", said, over)
        } else {
            let Some(text) = self.text(choice.solid("text"), finished || more) else { return Rest::Foreign };
            ("text", quoted(&text), !text.is_empty())
        };
        if !over && !finished && !more {
            return Rest::Nothing;
        }
        let mut out = ObjectWriter::new();
        for (name, value) in choice.fields() {
            out.raw(name, if name == place { &said } else { value.get() });
        }
        if choice.get(place).is_none() {
            out.raw(place, &said);
        }
        Rest::Choice(out.finish())
    }

    /// The delta without what must not come twice, and whether anything is left of it.
    fn delta(&mut self, delta: &RawObject<'_>, last: bool) -> Option<(String, bool)> {
        let others: Vec<_> = delta
            .fields()
            .filter(|(name, value)| !matches!(*name, "role" | "content") && !is_reasoning(name) && !is_hollow(value))
            .collect();
        let text = self.text(delta.solid("content"), last || !others.is_empty())?;
        let mut out = ObjectWriter::new();
        if !text.is_empty() {
            out.raw("content", &quoted(&text));
        }
        for (name, value) in others {
            out.raw(name, value.get());
        }
        let says = !out.is_empty();
        Some((out.finish(), says))
    }

    /// New text. `last`: what is held back must come out with it. `None`: the text is not one string, so nobody
    /// knows what of it was delivered.
    fn text(&mut self, raw: Option<&RawValue>, last: bool) -> Option<String> {
        let mut text = match raw {
            Some(raw) => self.overlap.take(&raw_text(raw)?),
            None => String::new(),
        };
        if last {
            text.push_str(&self.overlap.release());
        }
        Some(text)
    }

    /// What both streams cost, if the first told its share.
    fn usage_with(&self, second: &RawValue) -> String {
        let sum = self.usage.as_ref().and_then(|first| {
            let mut sum = serde_json::from_str(second.get()).ok()?;
            add(first, &mut sum);
            Some(sum.to_string())
        });
        sum.unwrap_or_else(|| second.get().to_owned())
    }
}

impl Reader for Splice {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        match self.inner.read(event) {
            Meaning::Content => self.splice(OwnedEvent::from(*event)),
            Meaning::Replace(event) => self.splice(event),
            Meaning::Preamble | Meaning::Filler | Meaning::Skip => Meaning::Skip,
            // It ends without a finish in the middle of what may be an echo: what is held back is lost.
            Meaning::Done if self.overlap.holds() => cut(),
            other @ (Meaning::Done | Meaning::Error(_)) => other,
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Option<Box<Fault>> {
        self.inner.field(name, value)
    }

    fn clean_end(&self) -> CleanEnd {
        if self.overlap.holds() { CleanEnd::Truncated } else { self.inner.clean_end() }
    }
}

fn cut() -> Meaning {
    let cause = "the continuation cannot be joined to what was delivered";
    Meaning::Error(Box::new(Fault::new(Code::UpstreamTruncated).cause(cause)))
}

/// What is left of a choice.
enum Rest {
    Nothing,
    Choice(String),
    /// It cannot be told.
    Foreign,
}

/// Adds up whole numbers of the same name; what else there is stays the second's.
fn add(first: &Value, second: &mut Value) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            for (name, value) in first {
                match second.get_mut(name) {
                    Some(known) => add(value, known),
                    None => drop(second.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Number(first), second @ Value::Number(_)) => {
            if let (Some(a), Some(b)) = (first.as_u64(), second.as_u64()) {
                *second = a.saturating_add(b).into();
            }
        }
        (first, second @ Value::Null) => *second = first.clone(),
        _ => {}
    }
}

/// Where the second stream repeats the first.
#[derive(Debug)]
struct Overlap {
    /// All that was delivered. Up to `sent` it was sent along; the white space after that was not.
    text: String,
    sent: usize,
    /// How much of `text` the second stream has repeated.
    at: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may be an echo.
    Echo,
    /// White space that was delivered already may come.
    Blank,
    /// Everything is new.
    New,
}

impl Overlap {
    fn new(text: String) -> Self {
        let sent = text.trim_end().len();
        Self { text, sent, at: 0, stage: Stage::Echo }
    }

    /// Whether text is held back.
    fn holds(&self) -> bool {
        self.stage == Stage::Echo && self.at > 0
    }

    /// What of `piece`, and of what is held back, is new for sure.
    fn take(&mut self, piece: &str) -> String {
        if self.stage != Stage::Echo {
            return self.after_blank(piece).to_owned();
        }
        let left = self.text.get(self.at..self.sent).unwrap_or_default();
        if let Some(rest) = piece.strip_prefix(left) {
            (self.at, self.stage) = (self.sent, Stage::Blank);
            return self.after_blank(rest).to_owned();
        }
        if left.starts_with(piece) {
            self.at += piece.len();
            return String::new();
        }
        let mut new = self.release();
        new.push_str(self.after_blank(piece));
        new
    }

    /// What is held back: it was no echo.
    fn release(&mut self) -> String {
        if self.stage != Stage::Echo {
            return String::new();
        }
        let held = self.text.get(..self.at).unwrap_or_default().to_owned();
        (self.at, self.stage) = (self.sent, Stage::Blank);
        self.after_blank(&held).to_owned()
    }

    /// `piece` without the white space that was delivered before.
    fn after_blank<'p>(&mut self, piece: &'p str) -> &'p str {
        if self.stage == Stage::New || piece.is_empty() {
            return piece;
        }
        let owed = self.text.get(self.at..).unwrap_or_default();
        let same: usize = owed.chars().zip(piece.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        self.at += same;
        let rest = piece.get(same..).unwrap_or_default();
        if self.at == self.text.len() || !rest.is_empty() {
            self.stage = Stage::New;
        }
        rest
    }
}
