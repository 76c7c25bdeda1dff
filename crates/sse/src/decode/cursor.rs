//! The cursor over one chunk: what a line does to the decoder's buffers, and what is lent out.
//! What survives the chunk, and how bytes travel, is described with [`Decoder`].

use std::mem;

use super::{Decoder, State};
use crate::item::{DecodeError, Event, Item, Limits};
use crate::line::{self, Field, Kind, prefix, suffix};

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The items of one chunk, lent one at a time. Made by [`Decoder::feed`].
///
/// It is no `Iterator`, because an item may borrow from the decoder's own buffers until the next
/// one is asked for: `while let Some(item) = items.next() { … }`.
#[derive(Debug)]
pub struct Items<'d> {
    decoder: &'d mut Decoder,
    rest: &'d [u8],
    /// The name, while it lies in this chunk; `decoder.name` is empty then.
    name: Option<&'d [u8]>,
    /// The only data line, while it lies in this chunk; `decoder.has_data` is false then.
    data: Option<&'d [u8]>,
    lent: Lent,
    /// All of the chunk is read, and nothing borrows from it.
    settled: bool,
}

/// What the last item borrows from the decoder, to be cleared when the next one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lent {
    Nothing,
    Line,
    Block,
}

/// A whole line: in the chunk, or put together in `decoder.line`.
#[derive(Clone, Copy)]
enum Line<'d> {
    Chunk(&'d [u8]),
    Kept,
}

impl<'d> Line<'d> {
    fn bytes<'a>(self, kept: &'a [u8]) -> &'a [u8]
    where
        'd: 'a,
    {
        match self {
            Line::Chunk(bytes) => bytes,
            Line::Kept => kept,
        }
    }
}

/// An item that borrows nothing from the decoder yet: deciding and lending are two steps, because
/// a loop that goes on mutating cannot also return a borrow.
enum Step<'d> {
    Event,
    Retry(u64),
    Comment(Line<'d>, Field),
    Unknown(Line<'d>, Field),
}

impl<'d> Items<'d> {
    pub(super) fn new(decoder: &'d mut Decoder, chunk: &'d [u8]) -> Self {
        Self { decoder, rest: chunk, name: None, data: None, lent: Lent::Nothing, settled: false }
    }

    /// The next item; `None` when the chunk has no more whole ones.
    ///
    /// # Errors
    ///
    /// Once, when a line or a block passes its limit. The decoder gives nothing after that.
    // Not `Iterator::next`: the item borrows from the cursor.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Item<'_>, DecodeError>> {
        if self.decoder.state != State::Open {
            return None;
        }
        loop {
            self.take_back();
            match self.take_line() {
                Ok(Some(line)) => {
                    if let Some(step) = self.apply(line) {
                        return Some(Ok(self.lend(step)));
                    }
                }
                Ok(None) => {
                    self.settle();
                    return None;
                }
                Err(error) => {
                    self.decoder.close(State::Failed);
                    return Some(Err(error));
                }
            }
        }
    }

    /// Leaves the chunk here and returns how many bytes at its end were not read, to be fed again later. For the decoder
    /// it is as if the chunk had ended with the last item. None after an error.
    #[must_use = "what is not fed again is lost"]
    pub fn stop(mut self) -> usize {
        let rest = mem::take(&mut self.rest);
        if self.decoder.state == State::Open { rest.len() } else { 0 }
    }

    /// Clears what the previous item had borrowed.
    fn take_back(&mut self) {
        match mem::replace(&mut self.lent, Lent::Nothing) {
            Lent::Nothing => {}
            Lent::Line => self.decoder.line.clear(),
            Lent::Block => {
                self.decoder.line.clear();
                self.decoder.id_is_new = false;
                self.reset_block();
            }
        }
    }

    fn reset_block(&mut self) {
        self.name = None;
        self.data = None;
        self.decoder.name.clear();
        self.decoder.data.clear();
        self.decoder.has_data = false;
        self.decoder.in_block = false;
    }

    /// The next whole line, or `None` when the chunk is used up (a rest without a line end is
    /// kept in the decoder).
    fn take_line(&mut self) -> Result<Option<Line<'d>>, DecodeError> {
        self.skip_marks();
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some(end) = line::find_end(self.rest) else {
            self.check(self.rest.len())?;
            self.decoder.line.extend_from_slice(self.rest);
            self.rest = &[];
            return Ok(None);
        };
        let head = prefix(self.rest, end.at);
        self.check(head.len())?;
        self.rest = suffix(self.rest, end.next);
        self.decoder.after_cr = end.open_cr;
        if self.decoder.line.is_empty() {
            Ok(Some(Line::Chunk(head)))
        } else {
            self.decoder.line.extend_from_slice(head);
            Ok(Some(Line::Kept))
        }
    }

    /// Drops the second half of a CRLF that was cut in two, and the byte order mark.
    fn skip_marks(&mut self) {
        let decoder = &mut *self.decoder;
        while let Some(expected) = BOM.get(usize::from(decoder.bom)) {
            match self.rest.split_first() {
                None => return,
                Some((first, rest)) if first == expected => {
                    decoder.bom += 1;
                    self.rest = rest;
                }
                Some(_) => {
                    // Not a mark after all: what looked like one opens the first line.
                    decoder.line.extend_from_slice(prefix(&BOM, usize::from(decoder.bom)));
                    decoder.bom = 3;
                }
            }
        }
        if decoder.after_cr
            && let Some((first, rest)) = self.rest.split_first()
        {
            decoder.after_cr = false;
            if *first == b'\n' {
                self.rest = rest;
            }
        }
    }

    /// Whether `more` bytes of the current line may be taken. What is counted does not depend on
    /// the chunks: the whole line so far, and the block as it stood before that line. Of two limits
    /// that were passed at once, the one the line met first is reported.
    fn check(&self, more: usize) -> Result<(), DecodeError> {
        let Limits { line, event } = self.decoder.limits;
        let length = self.decoder.line.len().saturating_add(more);
        let room = event.saturating_sub(self.block_len());
        if length <= line.min(room) {
            Ok(())
        } else if line <= room {
            Err(DecodeError::LineTooLong { limit: line })
        } else {
            Err(DecodeError::EventTooLarge { limit: event })
        }
    }

    fn block_len(&self) -> usize {
        let name = self.name.unwrap_or(&self.decoder.name).len();
        let data = self.data.unwrap_or(&self.decoder.data).len();
        name.saturating_add(data)
    }

    /// Does to the buffers what the line asks for.
    fn apply(&mut self, line: Line<'d>) -> Option<Step<'d>> {
        // A line put together in the buffer is used up by this call or lent by the one after it.
        if matches!(line, Line::Kept) {
            self.lent = Lent::Line;
        }
        let Some(field) = line::parse(line.bytes(&self.decoder.line)) else {
            return self.end_block();
        };
        let decoder = &mut *self.decoder;
        match field.kind {
            Kind::Comment => return Some(Step::Comment(line, field)),
            Kind::Unknown => return Some(Step::Unknown(line, field)),
            Kind::Retry => {
                let value = suffix(line.bytes(&decoder.line), field.value);
                return line::retry(value).map(Step::Retry);
            }
            Kind::Id => {
                let value = suffix(line.bytes(&decoder.line), field.value);
                decoder.in_block = true;
                if memchr::memchr(0, value).is_none() {
                    decoder.id.clear();
                    decoder.id.extend_from_slice(value);
                    decoder.id_is_new = true;
                }
            }
            Kind::Event => {
                decoder.in_block = true;
                (self.name, decoder.name) = match line {
                    Line::Chunk(bytes) => (Some(suffix(bytes, field.value)), Vec::new()),
                    Line::Kept => (None, suffix(&decoder.line, field.value).to_vec()),
                };
            }
            Kind::Data => {
                decoder.in_block = true;
                self.add_data(line, field);
            }
        }
        None
    }

    fn add_data(&mut self, line: Line<'d>, field: Field) {
        self.settle_data();
        let decoder = &mut *self.decoder;
        match line {
            Line::Chunk(bytes) if !decoder.has_data => {
                self.data = Some(suffix(bytes, field.value));
                return;
            }
            Line::Kept if !decoder.has_data => {
                // The buffer of the line becomes the buffer of the data: no second megabyte for a
                // megabyte that came in pieces.
                mem::swap(&mut decoder.line, &mut decoder.data);
                let prefix = field.value.min(decoder.data.len());
                decoder.data.drain(..prefix);
            }
            _ => {
                let value = suffix(line.bytes(&decoder.line), field.value);
                decoder.data.push(b'\n');
                decoder.data.extend_from_slice(value);
            }
        }
        decoder.has_data = true;
    }

    /// A blank line: dispatches the block if it has data, else forgets its name. An id it set
    /// stays and is told by the next event.
    fn end_block(&mut self) -> Option<Step<'d>> {
        if self.data.is_some() || self.decoder.has_data {
            self.lent = Lent::Block;
            return Some(Step::Event);
        }
        self.reset_block();
        None
    }

    fn lend(&self, step: Step<'d>) -> Item<'_> {
        let decoder = &*self.decoder;
        match step {
            Step::Event => Item::Event(Event {
                name: self.name.unwrap_or(&decoder.name),
                data: self.data.unwrap_or(&decoder.data),
                id: decoder.id_is_new.then_some(decoder.id.as_slice()),
            }),
            Step::Retry(milliseconds) => Item::Retry(milliseconds),
            Step::Comment(line, field) => Item::Comment(suffix(line.bytes(&decoder.line), field.value)),
            Step::Unknown(line, field) => {
                let bytes = line.bytes(&decoder.line);
                Item::Field { name: prefix(bytes, field.name_end), value: suffix(bytes, field.value) }
            }
        }
    }

    fn settle_data(&mut self) {
        if let Some(data) = self.data.take() {
            self.decoder.data.extend_from_slice(data);
            self.decoder.has_data = true;
        }
    }

    /// The chunk is used up: copies what still borrows from it, frees what holds nothing.
    fn settle(&mut self) {
        self.settle_data();
        if let Some(name) = self.name.take() {
            self.decoder.name = name.to_vec();
        }
        self.decoder.trim();
        self.settled = true;
    }
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        if !self.settled {
            while self.next().is_some() {}
        }
    }
}
