//! What of a JSON answer is left after some chunks were delivered, if the answer begins with exactly those.
//!
//! Text only: delivered text cannot be taken back, so the answer fits if each delivered piece stands in it at the
//! same place, and what is left goes out under the delivered head (same id, no second role). As soon as something
//! was delivered that is more than text (tool calls, refusal, audio, logprobs), or anything that is not understood,
//! there is no rest. Nothing is accumulated: each piece is compared and forgotten.
//!
//! Not here: whether to try (the route's ladder), and gaps: `delivered` must be everything from the first event on.

use streamkeeper_sse::OwnedEvent;

use super::DONE;
use super::answer::{Answer, Choice, Head, delta_value, done};
use crate::dialect::Delivered;
use crate::dialect::json::{self, ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};

/// The events that are left, terminator included. `usage`: the request asked for the usage chunk.
pub(super) fn events(
    delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    answer: &[u8],
    usage: bool,
) -> Option<Vec<OwnedEvent>> {
    let line = json::compact(answer)?;
    let answer = Answer::read(&line).ok()?;
    let mut progress = Progress {
        told: answer.choices.iter().map(Told::new).collect(),
        chat: answer.choices.first().is_some_and(Choice::is_chat),
        head: None,
        usage: false,
    };
    for event in delivered {
        progress.follow(&event)?;
    }
    let head = progress.head.unwrap_or_else(|| answer.head());
    let mut events = Vec::new();
    for told in &progress.told {
        events.extend(told.rest(&head)?);
    }
    if !progress.usage {
        answer.tell_usage(&head, usage, &mut events);
    }
    events.push(done());
    Some(events)
}

/// Where in the answer the delivered chunks have come to. Its functions give `None` where they leave it.
struct Progress<'a> {
    told: Vec<Told<'a>>,
    chat: bool,
    /// Of the first delivered chunk that has an id.
    head: Option<Head>,
    usage: bool,
}

impl Progress<'_> {
    fn follow(&mut self, event: &Delivered<'_>) -> Option<()> {
        let data = event.data.trim();
        if data.is_empty() {
            return Some(());
        }
        if data == DONE {
            return None;
        }
        let chunk = RawObject::read(data.as_bytes())?;
        if chunk.solid("error").is_some() {
            return None;
        }
        if self.head.is_none() && chunk.solid("id").is_some() {
            self.head = Some(Head::of(&chunk, self.chat));
        }
        let choices = raw_list(chunk.get("choices")?)?;
        self.usage |= choices.is_empty() && chunk.solid("usage").is_some();
        for raw in choices {
            let choice = RawObject::of(raw)?;
            let index: u64 = choice.get("index").map_or(Some(0), |index| index.get().parse().ok())?;
            self.told.iter_mut().find(|told| told.choice.index == index)?.follow(&choice)?;
        }
        Some(())
    }
}

/// One choice of the answer and how much of it was delivered.
struct Told<'a> {
    choice: &'a Choice<'a>,
    texts: Vec<Text>,
    seen: bool,
    role: bool,
    finished: bool,
}

impl<'a> Told<'a> {
    fn new(choice: &'a Choice<'a>) -> Self {
        Self { choice, texts: Text::all(choice), seen: false, role: false, finished: false }
    }

    fn follow(&mut self, delivered: &RawObject<'_>) -> Option<()> {
        self.seen = true;
        if delivered.solid("logprobs").is_some() {
            return None;
        }
        let delta = match delivered.solid("delta") {
            Some(delta) => RawObject::of(delta)?,
            None => RawObject::default(),
        };
        if self.choice.is_chat() {
            for (name, value) in delta.fields() {
                match name {
                    "role" => self.role = true,
                    _ if is_hollow(value) => {}
                    _ => self.take(name, &raw_text(value)?)?,
                }
            }
        } else if let Some(text) = delivered.solid("text") {
            self.take("text", &raw_text(text)?)?;
        }
        self.finished |= delivered.get("finish_reason").is_some_and(|reason| reason.get() != "null");
        Some(())
    }

    fn take(&mut self, name: &str, piece: &str) -> Option<()> {
        self.texts.iter_mut().find(|text| text.name == name)?.take(piece)
    }

    /// The events that are left of this choice.
    fn rest(&self, head: &Head) -> Option<Vec<OwnedEvent>> {
        if !self.seen {
            return Some(self.choice.events(head));
        }
        // Reasoning comes before the words it leads to; it cannot be put before them any more.
        let late = |text: &Text| text.name.starts_with("reasoning") && !text.left().is_empty();
        if self.texts.iter().any(|text| text.name == "content" && text.at > 0) && self.texts.iter().any(late) {
            return None;
        }
        if !self.choice.is_chat() {
            let left = self.texts.first().map_or("", Text::left);
            return match self.finished {
                true => left.is_empty().then(Vec::new),
                false => Some(vec![head.chunk(&self.choice.text_choice(&quoted(left), self.untouched()))]),
            };
        }
        let delta = self.delta();
        if self.finished {
            return delta.is_empty().then(Vec::new);
        }
        let said =
            (!delta.is_empty()).then(|| head.chunk(&self.choice.delta_choice(&delta.finish(), self.untouched())));
        Some(said.into_iter().chain([self.choice.finish_event(head)]).collect())
    }

    /// Whether no text was delivered yet.
    fn untouched(&self) -> bool {
        self.texts.iter().all(|text| text.at == 0)
    }

    /// What the message still has to say.
    fn delta(&self) -> ObjectWriter {
        let mut delta = ObjectWriter::new();
        for (name, value) in self.choice.said() {
            match self.texts.iter().find(|text| text.name == name) {
                Some(text) if text.left().is_empty() => {}
                Some(text) => delta.raw(name, &quoted(text.left())),
                None if name == "role" && (self.role || self.finished) => {}
                None if is_hollow(value) => {}
                None => delta.raw(name, &delta_value(name, value)),
            }
        }
        delta
    }
}

/// A text of the answer and how far it was delivered.
struct Text {
    name: &'static str,
    whole: String,
    at: usize,
}

impl Text {
    /// The texts that a choice can have: those of it that are strings.
    fn all(choice: &Choice<'_>) -> Vec<Self> {
        let names: &[&'static str] =
            if choice.is_chat() { &["content", "reasoning_content", "reasoning"] } else { &["text"] };
        let said = choice.said();
        let of = |name: &'static str| {
            let (_, value) = said.iter().rev().find(|(said, _)| *said == name)?;
            Some(Self { name, whole: raw_text(value)?.into_owned(), at: 0 })
        };
        names.iter().filter_map(|name| of(name)).collect()
    }

    fn left(&self) -> &str {
        self.whole.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, piece: &str) -> Option<()> {
        if !self.left().starts_with(piece) {
            return None;
        }
        self.at += piece.len();
        Some(())
    }
}

#[cfg(test)]
mod tests;
