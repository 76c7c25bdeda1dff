//! What a decoder gives and what it refuses. Plain data; nothing here reads or writes bytes.
//!
//! Everything is borrowed, from the chunk where the wire allows it, else from the decoder's own
//! buffer, and is raw: no UTF-8 check has been made.

use thiserror::Error;

/// How much a [`Decoder`](crate::Decoder) takes in before it gives up. Both are in bytes.
///
/// Neither depends on how the body was cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line, without its line end. Default 1 MiB.
    pub line: usize,
    /// The most a block under construction may hold: its name, its joined data, and the line
    /// being read (as sent, so with `data: `). Default 1 MiB.
    pub event: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 1 << 20, event: 1 << 20 }
    }
}

/// One thing read from the stream, in wire order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A block with data, given when its blank line has arrived.
    Event(Event<'a>),
    /// The text after the `:` exactly as sent (a leading space is part of it), given as soon as
    /// its line is complete, so before the event whose block it may sit in.
    Comment(&'a [u8]),
    /// A reconnection delay in milliseconds, given when its line is complete. A `retry` field that
    /// is not all digits, or does not fit, is ignored as the specification demands.
    Retry(u64),
    /// A field the specification does not know, given when its line is complete. Clients must
    /// ignore it; old llama.cpp reports its errors this way, so a dialect may want to look.
    Field {
        /// The bytes before the first `:`, never empty.
        name: &'a [u8],
        /// The bytes after it, less one leading space; empty if the line had no `:`.
        value: &'a [u8],
    },
}

/// A dispatched event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field; empty stands for `message`.
    pub name: &'a [u8],
    /// The data lines joined by one `\n`, without a final one. May be empty.
    pub data: &'a [u8],
    /// The id set by this block, or by blocks without data since the last dispatched event.
    /// `Some(b"")` is a reset; `None` means that nothing was set, not that there is no id: see
    /// [`Decoder::last_event_id`](crate::Decoder::last_event_id).
    pub id: Option<&'a [u8]>,
}

/// Why a decoder gave up. It yields nothing after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// One line grew past [`Limits::line`].
    #[error("a line of the event stream is longer than {limit} bytes")]
    LineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// One block grew past [`Limits::event`].
    #[error("an event of the stream is larger than {limit} bytes")]
    EventTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

/// How the body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// At the end of a block (comments, `retry` and unknown fields may follow it: they were given).
    Clean,
    /// Inside a line or a block, which is dropped, or after a [`DecodeError`].
    Partial,
}
