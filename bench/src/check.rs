//! What a client checks of its stream: every event once, in order, of the right stream; the end once, last; ids
//! dense where the proxy gives ids. A faster run that lost an event is no result.

use memchr::memchr;
use thiserror::Error;

use crate::event::{Shape, Stamp};

/// What a stream must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The shape that was asked for.
    pub(crate) shape: Shape,
    /// Index of the stream.
    pub(crate) stream: u32,
    /// Events before the end.
    pub(crate) events: u32,
    /// Whether every event must carry an id of its own.
    pub(crate) ids: bool,
}

/// What a stream was, where that is not what it had to be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Mismatch {
    #[error("expected event {expected}, got event {got} of stream {stream}")]
    Order { expected: u32, got: u32, stream: u32 },
    #[error("the end came after {got} of {expected} events")]
    Short { expected: u32, got: u32 },
    #[error("something came after the end: {0}")]
    AfterEnd(String),
    #[error("an event that was never sent: {0}")]
    Foreign(String),
    #[error("an event without an id, or out of its sequence: {0}")]
    Id(String),
    #[error("the body ended before the stream did, after {0} events")]
    NoEnd(u32),
}

/// What came, beside the events' own bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events, without the end.
    pub(crate) events: u64,
    /// `id` fields.
    pub(crate) ids: u64,
    /// `retry` fields.
    pub(crate) retries: u64,
    /// Comments.
    pub(crate) comments: u64,
}

impl Tally {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            ids: self.ids + other.ids,
            retries: self.retries + other.retries,
            comments: self.comments + other.comments,
        }
    }
}

/// Reads one stream.
#[derive(Debug)]
pub(crate) struct Checker {
    expected: Expected,
    carry: Vec<u8>,
    block: Block,
    next: u32,
    last_id: Option<(Vec<u8>, u64)>,
    ended: bool,
    tally: Tally,
}

/// One event as far as it was read.
#[derive(Debug, Default)]
struct Block {
    data: Vec<u8>,
    name: Vec<u8>,
    id: Vec<u8>,
}

impl Checker {
    /// Before the first byte.
    pub(crate) fn new(expected: Expected) -> Self {
        let (carry, block) = (Vec::new(), Block::default());
        Self { expected, carry, block, next: 0, last_id: None, ended: false, tally: Tally::default() }
    }

    /// For the rest of a stream, after the event that has this id and is the first of all.
    ///
    /// # Errors
    ///
    /// [`Mismatch::Id`] for an id of no known shape.
    pub(crate) fn after_first(expected: Expected, id: &str) -> Result<Self, Mismatch> {
        let (run, seq) = split_id(id.as_bytes())?;
        Ok(Self { next: 1, last_id: Some((run.to_vec(), seq)), ..Self::new(expected) })
    }

    /// Whether all events were read; the end may be missing.
    pub(crate) fn has_all_events(&self) -> bool {
        self.next == self.expected.events
    }

    /// The id of the first event, once [all events](Self::has_all_events) and nothing else were read; `None` without ids.
    pub(crate) fn first_id(&self) -> Option<String> {
        let (run, last) = self.last_id.as_ref()?;
        let first = last.checked_sub(u64::from(self.expected.events.checked_sub(1)?))?;
        Some(format!("{}.{first}", String::from_utf8_lossy(run)))
    }

    /// Reads a piece of the body, gives the stamp of each event that is complete.
    ///
    /// # Errors
    ///
    /// The first [`Mismatch`].
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(Stamp)) -> Result<(), Mismatch> {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            let stamp = if self.carry.is_empty() {
                self.line(line)?
            } else {
                self.carry.extend_from_slice(line);
                let whole = std::mem::take(&mut self.carry);
                let stamp = self.line(&whole)?;
                self.carry = whole;
                self.carry.clear();
                stamp
            };
            if let Some(stamp) = stamp {
                event(stamp);
            }
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// What was read so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// The body is over.
    ///
    /// # Errors
    ///
    /// [`Mismatch::NoEnd`] if the stream is not.
    pub(crate) fn finish(&self) -> Result<Tally, Mismatch> {
        if self.ended { Ok(self.tally) } else { Err(Mismatch::NoEnd(self.next)) }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Stamp>, Mismatch> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            let stamp = self.dispatch(&block);
            // The buffers go on.
            self.block = block;
            self.block.data.clear();
            self.block.name.clear();
            self.block.id.clear();
            return stamp;
        }
        let field = memchr(b':', line).map_or((line, &[][..]), |colon| {
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            (name, value.strip_prefix(b" ").unwrap_or(value))
        });
        match field {
            (b"data", value) => self.block.data.extend_from_slice(value),
            (b"event", value) => self.block.name.extend_from_slice(value),
            (b"id", value) => {
                self.tally.ids += 1;
                self.block.id.extend_from_slice(value);
            }
            (b"retry", _) => self.tally.retries += 1,
            (b"", _) => self.tally.comments += 1,
            _ => return Err(Mismatch::Foreign(excerpt(line))),
        }
        Ok(None)
    }

    fn dispatch(&mut self, block: &Block) -> Result<Option<Stamp>, Mismatch> {
        if block.data.is_empty() {
            return Ok(None);
        }
        if self.ended {
            return Err(Mismatch::AfterEnd(excerpt(&block.data)));
        }
        if self.expected.ids {
            self.check_id(&block.id)?;
        }
        if let Some(stamp) = Stamp::find(&block.data) {
            let Stamp { stream, number, .. } = stamp;
            if stream != self.expected.stream || number != self.next {
                return Err(Mismatch::Order { expected: self.next, got: number, stream });
            }
            self.next += 1;
            self.tally.events += 1;
            return Ok(Some(stamp));
        }
        match self.expected.shape {
            Shape::Generic | Shape::Sized(_) if block.name == b"done" => self.end(),
            Shape::OpenAi if block.data == b"[DONE]" => self.end(),
            Shape::OpenAi if memchr::memmem::find(&block.data, b"\"finish_reason\":\"stop\"").is_some() => Ok(None),
            _ => Err(Mismatch::Foreign(excerpt(&block.data))),
        }
    }

    fn end(&mut self) -> Result<Option<Stamp>, Mismatch> {
        self.ended = true;
        let expected = self.expected.events;
        if self.next == expected { Ok(None) } else { Err(Mismatch::Short { expected, got: self.next }) }
    }

    /// `<session>.<epoch>.<seq>`: one session and epoch, seq without a hole.
    fn check_id(&mut self, id: &[u8]) -> Result<(), Mismatch> {
        let (run, seq) = split_id(id)?;
        match &mut self.last_id {
            Some((known, last)) if known == run && *last + 1 == seq => *last = seq,
            None => self.last_id = Some((run.to_vec(), seq)),
            Some(_) => return Err(Mismatch::Id(excerpt(id))),
        }
        Ok(())
    }
}

/// Session and epoch, and the seq behind them.
fn split_id(id: &[u8]) -> Result<(&[u8], u64), Mismatch> {
    let wrong = || Mismatch::Id(excerpt(id));
    let dot = memchr::memrchr(b'.', id).ok_or_else(wrong)?;
    let (run, seq) = id.split_at(dot);
    let seq = seq.get(1..).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|text| text.parse().ok());
    Ok((run, seq.ok_or_else(wrong)?))
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..160).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests;
