//! What of a JSON answer is left after some events were delivered, if the answer begins with exactly those.
//!
//! Delivered events cannot be taken back, so each delivered piece must stand in the answer at the same place: the same
//! blocks in the same order, the same text, the same ids, signatures and citations. The input of a tool may be written
//! in another way only where it was delivered to its end. What is not understood has no rest.
//!
//! Not here: whether to try (the route's ladder), and gaps: `delivered` must be everything from the first event on.

use serde_json::value::RawValue;
use streamkeeper_sse::OwnedEvent;

use super::answer::{Answer, Block, Part, block_delta, block_stop, cite, stop};
use super::reader::What;
use crate::dialect::Delivered;
use crate::dialect::json::{self, RawObject, is_hollow, quoted, raw_list, raw_text};

/// The events that are left, terminator included.
pub(super) fn events(delivered: &mut dyn Iterator<Item = Delivered<'_>>, answer: &[u8]) -> Option<Vec<OwnedEvent>> {
    let line = json::compact(answer)?;
    let answer = Answer::read(&line).ok()?;
    let mut progress = Progress { answer: &answer, started: false, begun: 0, open: None, stopped: false };
    for event in delivered {
        progress.follow(&event)?;
    }
    progress.rest()
}

/// Where in the answer the delivered events have come to. Its functions give `None` where they leave it.
struct Progress<'a> {
    answer: &'a Answer<'a>,
    /// The message was begun.
    started: bool,
    /// How many blocks were begun.
    begun: usize,
    /// The last of them, until it stops.
    open: Option<Told<'a>>,
    /// The client was told why the answer ended.
    stopped: bool,
}

impl Progress<'_> {
    fn follow(&mut self, event: &Delivered<'_>) -> Option<()> {
        if event.data.trim().is_empty() {
            return Some(());
        }
        let data = RawObject::read(event.data.as_bytes())?;
        let kind = raw_text(data.get("type")?)?;
        match What::named(kind.as_bytes()) {
            What::Ping => Some(()),
            What::MessageStart if !self.started => self.start(&data),
            What::BlockStart if self.started && self.open.is_none() && !self.stopped => self.begin(&data),
            What::BlockDelta => self.open.as_mut().filter(|told| told.is_at(&data))?.take(&data),
            What::BlockStop => self.open.take().filter(|told| told.is_at(&data) && told.is_whole()).map(drop),
            What::MessageDelta if self.started => self.end(&data),
            _ => None,
        }
    }

    fn start(&mut self, event: &RawObject<'_>) -> Option<()> {
        let message = RawObject::of(event.get("message")?)?;
        self.started = true;
        message.get("content").is_none_or(is_hollow).then_some(())
    }

    fn begin(&mut self, event: &RawObject<'_>) -> Option<()> {
        let mut told = Told::new(self.answer.blocks.get(self.begun)?, self.begun)?;
        let begin = RawObject::of(event.get("content_block")?)?;
        if !told.is_at(event) {
            return None;
        }
        told.begin(&begin)?;
        self.begun += 1;
        self.open = Some(told);
        Some(())
    }

    fn end(&mut self, event: &RawObject<'_>) -> Option<()> {
        let delta = RawObject::of(event.get("delta")?)?;
        if delta.solid("stop_reason").is_none() {
            return Some(());
        }
        self.stopped = true;
        (self.open.is_none() && self.begun == self.answer.blocks.len()).then_some(())
    }

    fn rest(&self) -> Option<Vec<OwnedEvent>> {
        if !self.started {
            return Some(self.answer.events());
        }
        let mut events = Vec::new();
        if let Some(told) = &self.open {
            events.extend(told.rest()?);
        }
        let blocks = self.answer.blocks.iter().enumerate().skip(self.begun);
        events.extend(blocks.flat_map(|(index, block)| block.events(index)));
        if !self.stopped {
            events.push(self.answer.delta());
        }
        events.push(stop());
        Some(events)
    }
}

/// One block of the answer and how much of it was delivered.
struct Told<'a> {
    block: &'a Block<'a>,
    index: usize,
    parts: Vec<Said<'a>>,
    /// How many citations were delivered.
    cited: usize,
}

impl<'a> Told<'a> {
    fn new(block: &'a Block<'a>, index: usize) -> Option<Self> {
        let parts = block.parts.iter().map(|part| Some(Said { part, whole: part.whole()?, said: String::new() }));
        Some(Self { block, index, parts: parts.collect::<Option<_>>()?, cited: 0 })
    }

    fn is_at(&self, event: &RawObject<'_>) -> bool {
        event.get("index").is_some_and(|index| index.get().parse() == Ok(self.index))
    }

    /// The block as it began: what is not said in deltas must be there and the same.
    fn begin(&mut self, begin: &RawObject<'_>) -> Option<()> {
        for (name, value) in begin.fields() {
            if let Some(said) = self.parts.iter_mut().find(|said| said.part.form.field == name) {
                match raw_text(value) {
                    Some(piece) if !said.part.form.json => said.take(&piece)?,
                    _ if is_hollow(value) => {}
                    _ => return None,
                }
            } else if name == "citations" && self.block.says(name) {
                raw_list(value).unwrap_or_default().into_iter().try_for_each(|citation| self.cite(citation))?;
            } else if !is_hollow(value) && !same(value, self.block.fields.get(name)?) {
                return None;
            }
        }
        let there = |name: &str| self.block.says(name) || begin.solid(name).is_some();
        self.block.fields.fields().all(|(name, value)| is_hollow(value) || there(name)).then_some(())
    }

    fn take(&mut self, event: &RawObject<'_>) -> Option<()> {
        let delta = RawObject::of(event.get("delta")?)?;
        let kind = raw_text(delta.get("type")?)?;
        if kind == "citations_delta" {
            return self.cite(delta.get("citation")?);
        }
        let said = self.parts.iter_mut().find(|said| said.part.form.delta == kind)?;
        let piece = raw_text(delta.get(said.part.form.piece)?)?;
        said.take(&piece)
    }

    fn cite(&mut self, citation: &RawValue) -> Option<()> {
        let wanted = self.block.citations.get(self.cited)?;
        self.cited += 1;
        same(citation, wanted).then_some(())
    }

    fn is_whole(&self) -> bool {
        self.parts.iter().all(Said::is_whole) && self.cited == self.block.citations.len()
    }

    /// The events that are left of this block.
    fn rest(&self) -> Option<Vec<OwnedEvent>> {
        // What comes later in a block (a signature) holds for all that comes before it.
        let late = self.parts.iter().skip_while(|said| said.is_whole()).skip(1).any(|said| !said.said.is_empty());
        if late {
            return None;
        }
        let mut deltas = Vec::new();
        for said in self.parts.iter().filter(|said| !said.is_whole()) {
            deltas.push(said.part.form.delta(&quoted(said.left()?)));
        }
        deltas.extend(self.block.citations.iter().skip(self.cited).map(|citation| cite(citation)));
        let deltas = deltas.iter().map(|delta| block_delta(self.index, delta));
        Some(deltas.chain([block_stop(self.index)]).collect())
    }
}

/// A part of a block and how much of it was delivered.
struct Said<'a> {
    part: &'a Part<'a>,
    whole: String,
    said: String,
}

impl Said<'_> {
    fn take(&mut self, piece: &str) -> Option<()> {
        let fits = if self.part.form.json {
            true // judged where it ends: it may be the same with other white space
        } else if self.part.form.at_once {
            piece.is_empty() || (self.said.is_empty() && piece == self.whole)
        } else {
            self.whole.get(self.said.len()..)?.starts_with(piece)
        };
        self.said.push_str(piece);
        fits.then_some(())
    }

    /// Whether all of it was delivered. An empty input needs no delta.
    fn is_whole(&self) -> bool {
        let written = || json::compact(self.said.as_bytes()).is_some_and(|said| said == self.whole);
        let empty = || self.said.is_empty() && self.whole == "{}";
        self.said == self.whole || (self.part.form.json && (empty() || written()))
    }

    fn left(&self) -> Option<&str> {
        self.whole.strip_prefix(&self.said)
    }
}

/// Whether two values are written alike, white space aside. The second one is compact.
fn same(delivered: &RawValue, wanted: &RawValue) -> bool {
    json::compact(delivered.get().as_bytes()).is_some_and(|delivered| delivered == wanted.get())
}

#[cfg(test)]
mod tests;
