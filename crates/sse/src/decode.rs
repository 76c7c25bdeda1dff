//! Chunks of a body in, items out. It owns no socket and never waits: the caller decides when the
//! next chunk comes and when the body is over.
//!
//! # How bytes travel
//!
//! ```text
//!   chunk ──▶ line end found? ── yes, nothing kept ──▶ line borrowed from the chunk ─┐
//!                │                 └ something kept ──▶ appended to `line`, read there ─┤
//!                no: appended to `line`, checked against the limits                     ▼
//!                                         comment, retry, unknown ◀── handed out ── field?
//!                                         event, data: borrowed while the chunk lives,
//!                                         copied when it ends or a second data line comes
//! ```
//!
//! So the usual event (one data line inside one chunk) is never copied, and the bytes of a line
//! that comes in many chunks are looked at once. At the end of a chunk every buffer that holds
//! nothing is freed: a silent stream costs the size of [`Decoder`] and its last event id.
//!
//! A CR ends its line at once, for a stream that pauses after it must not hold an event back; an
//! LF that turns up first in the next chunk is then part of it.
//!
//! Source: WHATWG HTML 9.2.5 and 9.2.6.

use crate::item::{Finish, Limits};

mod cursor;
#[cfg(test)]
mod tests;

pub use cursor::Items;

/// A buffer of this many bytes is never cut back while it holds something.
const SMALL: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// A limit was passed: what follows could be the middle of anything.
    Failed,
    /// The body is over.
    Ended,
}

/// Reads one event stream, whatever the chunks. One decoder reads one body.
///
/// Total: any bytes in any chunks give items or one [`DecodeError`](crate::DecodeError), never a panic.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
    /// Bytes of the byte order mark seen at the very start; 3 once that question is settled.
    bom: u8,
    /// The last chunk ended in CR, so an LF that comes next belongs to that line end.
    after_cr: bool,
    /// A block field (`event`, `data`, `id`) came since the last blank line.
    in_block: bool,
    /// `data` holds at least one line, which may be empty.
    has_data: bool,
    /// `id` was set since the last dispatched event.
    id_is_new: bool,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    name: Vec<u8>,
    /// The data lines joined by LF.
    data: Vec<u8>,
    /// The last event ID buffer; outlives the blocks.
    id: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a body.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Open,
            bom: 0,
            after_cr: false,
            in_block: false,
            has_data: false,
            id_is_new: false,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            id: Vec::new(),
        }
    }

    /// Takes the next chunk of the body (of any length, also none). Its items are pulled out of
    /// the cursor; dropping the cursor keeps what is unfinished for the next chunk.
    ///
    /// Items that are not pulled before the drop are read and thrown away; [`Items::stop`] leaves them for later.
    /// After an error, or after [`finish`](Self::finish), the cursor is empty.
    #[must_use = "items that are not pulled are lost"]
    pub fn feed<'d>(&'d mut self, chunk: &'d [u8]) -> Items<'d> {
        Items::new(self, chunk)
    }

    /// The body ended. Half an event is never dispatched; the answer tells whether there was one.
    /// The decoder gives nothing more: the next body wants a new one.
    pub fn finish(&mut self) -> Finish {
        let unfinished = match self.state {
            State::Open => self.in_block || !self.line.is_empty() || matches!(self.bom, 1 | 2),
            State::Failed => true,
            State::Ended => false,
        };
        self.close(State::Ended);
        if unfinished { Finish::Partial } else { Finish::Clean }
    }

    /// The last event ID buffer: set by every valid `id` field as soon as its line is complete,
    /// kept across events, empty at the start and after a reset.
    pub fn last_event_id(&self) -> &[u8] {
        &self.id
    }

    /// Bytes of buffer held for unfinished lines and blocks (the id is not counted): between two
    /// chunks at most twice [`Limits::event`] and a little, and 0 while nothing is unfinished.
    pub fn buffered(&self) -> usize {
        self.line.capacity() + self.name.capacity() + self.data.capacity()
    }

    fn close(&mut self, state: State) {
        self.state = state;
        self.in_block = false;
        self.has_data = false;
        self.line = Vec::new();
        self.name = Vec::new();
        self.data = Vec::new();
    }

    /// Gives back what the buffers no longer need.
    fn trim(&mut self) {
        if self.buffered() == 0 && self.id.capacity() <= SMALL {
            return;
        }
        for buffer in [&mut self.line, &mut self.name, &mut self.data] {
            if buffer.is_empty() {
                *buffer = Vec::new();
            } else {
                // What a growing buffer reaches by doubling stays; the shell of a huge event that
                // came before goes.
                buffer.shrink_to(buffer.len().saturating_mul(2).max(SMALL));
            }
        }
        self.id.shrink_to(self.id.len().max(SMALL));
    }
}
