//! What of a JSON answer is left after some events were delivered, if the answer begins with exactly those.
//!
//! Text only: each delivered piece must stand in the text of the answer's same block of content, and what is left
//! goes out as further pieces of it. As soon as something else was delivered (thoughts, a tool plan, calls, citations,
//! logprobs), or anything that is not understood, there is no rest. Nothing is accumulated: each piece is compared and
//! forgotten.
//!
//! Not here: whether to try (the route's ladder), and gaps: `delivered` must be everything from the first event on.

use streamkeeper_sse::OwnedEvent;

use super::answer::{Answer, Content, TEXT};
use crate::dialect::Delivered;
use crate::dialect::json::{self, RawObject, is_hollow, raw_text};

/// The events that are left, the last one included.
pub(super) fn events(delivered: &mut dyn Iterator<Item = Delivered<'_>>, answer: &[u8]) -> Option<Vec<OwnedEvent>> {
    let line = json::compact(answer)?;
    let answer = Answer::read(&line).ok()?;
    let mut progress = Progress { told: answer.content.iter().map(Told::new).collect(), begun: false };
    for event in delivered {
        progress.follow(&event)?;
    }
    let mut events = Vec::new();
    if !progress.begun {
        events.push(answer.start());
    }
    let begun = progress.told.iter().rposition(|told| told.begun);
    for (index, told) in progress.told.iter().enumerate() {
        if told.begun {
            events.extend(told.rest(index)?);
        } else if begun.is_some_and(|begun| index < begun) {
            return None; // thoughts, say, that would come after the words they led to
        } else {
            events.extend(answer.content_events(index));
        }
    }
    events.extend(answer.after_content());
    Some(events)
}

/// Where in the answer the delivered events have come to. Its functions give `None` where they leave it.
struct Progress<'a> {
    told: Vec<Told<'a>>,
    begun: bool,
}

impl<'a> Progress<'a> {
    fn follow(&mut self, event: &Delivered<'_>) -> Option<()> {
        let data = event.data.trim();
        if data.is_empty() {
            return Some(());
        }
        let object = RawObject::read(data.as_bytes())?;
        self.begun = true;
        match raw_text(object.get("type")?)?.as_ref() {
            "message-start" => {
                let message = RawObject::of(RawObject::of(object.get("delta")?)?.get("message")?)?;
                message.fields().all(|(name, value)| name == "role" || is_hollow(value)).then_some(())
            }
            "content-start" | "content-delta" => self.told_of(&object)?.follow(&object),
            "content-end" => {
                let told = self.told_of(&object)?;
                (told.begun, told.ended) = (true, true);
                Some(())
            }
            _ => None,
        }
    }

    /// The block of content an event is about.
    fn told_of(&mut self, event: &RawObject<'_>) -> Option<&mut Told<'a>> {
        let index: usize = event.get("index").map_or(Some(0), |index| index.get().parse().ok())?;
        self.told.get_mut(index)
    }
}

/// One block of the answer's content and how much of it was delivered.
struct Told<'a> {
    content: &'a Content<'a>,
    at: usize,
    begun: bool,
    ended: bool,
}

impl<'a> Told<'a> {
    fn new(content: &'a Content<'a>) -> Self {
        Self { content, at: 0, begun: false, ended: false }
    }

    fn left(&self) -> &'a str {
        self.content.text.get(self.at..).unwrap_or_default()
    }

    fn follow(&mut self, event: &RawObject<'_>) -> Option<()> {
        self.begun = true;
        if self.ended || self.content.kind != Some(TEXT) || event.solid("logprobs").is_some() {
            return None;
        }
        let message = RawObject::of(RawObject::of(event.get("delta")?)?.get("message")?)?;
        let content = RawObject::of(message.get("content")?)?;
        for (name, value) in content.fields() {
            match name {
                "type" if raw_text(value)? == TEXT => {}
                TEXT => self.take(&raw_text(value)?)?,
                _ if is_hollow(value) => {}
                _ => return None,
            }
        }
        Some(())
    }

    fn take(&mut self, piece: &str) -> Option<()> {
        if !self.left().starts_with(piece) {
            return None;
        }
        self.at += piece.len();
        Some(())
    }

    /// The events that are left of this block.
    fn rest(&self, index: usize) -> Option<Vec<OwnedEvent>> {
        let left = self.left();
        if self.ended {
            return left.is_empty().then(Vec::new);
        }
        let said = (!left.is_empty()).then(|| self.content.delta(index, left, None));
        Some(said.into_iter().chain([Content::end(index)]).collect())
    }
}

#[cfg(test)]
mod tests;
