//! A second decoder that is plainly right instead of fast, to hold the real one against. Built
//! only for tests and fuzzing.
//!
//! It takes the whole body at once, copies everything, and follows WHATWG HTML 9.2.6 sentence by
//! sentence. It shares no code with the decoder.

use crate::item::{DecodeError, Event, Finish, Item, Limits};
use crate::{Decoder, OwnedEvent};

/// An [`Item`] with its own bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedItem {
    /// Name, data, id.
    Event(Vec<u8>, Vec<u8>, Option<Vec<u8>>),
    /// Text after the colon.
    Comment(Vec<u8>),
    /// Milliseconds.
    Retry(u64),
    /// Name, value.
    Field(Vec<u8>, Vec<u8>),
}

impl From<Item<'_>> for OwnedItem {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Event(Event { name, data, id }) => Self::Event(name.into(), data.into(), id.map(Into::into)),
            Item::Comment(text) => Self::Comment(text.into()),
            Item::Retry(ms) => Self::Retry(ms),
            Item::Field { name, value } => Self::Field(name.into(), value.into()),
        }
    }
}

/// Everything a body gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// In wire order.
    pub items: Vec<OwnedItem>,
    /// The error that came after them.
    pub error: Option<DecodeError>,
    /// How the body ended.
    pub finish: Finish,
    /// The last event ID buffer at the end.
    pub last_event_id: Vec<u8>,
}

/// Reads a body with the real decoder.
pub fn decode<'c>(limits: Limits, chunks: impl IntoIterator<Item = &'c [u8]>) -> Reading {
    let mut decoder = Decoder::new(limits);
    let mut items = Vec::new();
    let mut error = None;
    for chunk in chunks {
        let mut cursor = decoder.feed(chunk);
        while let Some(item) = cursor.next() {
            match item {
                Ok(item) => items.push(item.into()),
                Err(found) => {
                    assert_eq!(error, None, "a decoder fails once");
                    error = Some(found);
                }
            }
        }
    }
    let finish = decoder.finish();
    Reading { items, error, finish, last_event_id: decoder.last_event_id().to_vec() }
}

/// Cuts a body into chunks of 0 to 12 bytes, by a small generator started from `seed`.
pub fn cut(mut body: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed | 1;
    let mut chunks = Vec::new();
    while !body.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let size = usize::try_from(state % 13).unwrap_or(1);
        let (chunk, rest) = body.split_at_checked(size).unwrap_or((body, &[]));
        chunks.push(chunk);
        body = rest;
    }
    chunks
}

/// The events of a reading, as text.
pub fn events(reading: &Reading) -> Vec<OwnedEvent> {
    let event = |item: &OwnedItem| match item {
        OwnedItem::Event(name, data, id) => Some(OwnedEvent::from(Event { name, data, id: id.as_deref() })),
        _ => None,
    };
    reading.items.iter().filter_map(event).collect()
}

#[derive(Default)]
struct Buffers {
    items: Vec<OwnedItem>,
    event_type: Vec<u8>,
    /// With an LF after every line, as the specification has it.
    data: Vec<u8>,
    last_event_id: Vec<u8>,
    id_is_new: bool,
    block_begun: bool,
}

/// Reads a body the naive way.
pub fn read(limits: Limits, body: &[u8]) -> Reading {
    // Half a mark, alone in the body, is not known to be text, so no limit counts it.
    let half_a_mark = matches!(body, b"\xEF" | b"\xEF\xBB");
    let (lines, rest) = lines(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body));
    let mut buffers = Buffers::default();
    for line in &lines {
        if let Err(error) = buffers.fits(limits, line) {
            return buffers.failed(error);
        }
        buffers.line(line);
    }
    if let (false, Err(error)) = (half_a_mark, buffers.fits(limits, &rest)) {
        return buffers.failed(error);
    }
    let finish = if rest.is_empty() && !buffers.block_begun { Finish::Clean } else { Finish::Partial };
    Reading { items: buffers.items, error: None, finish, last_event_id: buffers.last_event_id }
}

/// The whole lines, and what follows the last line end.
fn lines(body: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\n' => lines.push(std::mem::take(&mut line)),
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(std::mem::take(&mut line));
            }
            _ => line.push(byte),
        }
    }
    (lines, line)
}

impl Buffers {
    /// Counts the bytes of the line one by one, so that the limit it meets first is the one told.
    fn fits(&self, limits: Limits, line: &[u8]) -> Result<(), DecodeError> {
        let data = self.data.len().saturating_sub(1);
        let held = self.event_type.len() + data;
        for length in 1..=line.len() {
            if length > limits.line {
                return Err(DecodeError::LineTooLong { limit: limits.line });
            }
            if held + length > limits.event {
                let limit = limits.event;
                return Err(DecodeError::EventTooLarge { limit });
            }
        }
        Ok(())
    }

    fn failed(self, error: DecodeError) -> Reading {
        Reading { items: self.items, error: Some(error), finish: Finish::Partial, last_event_id: self.last_event_id }
    }

    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.dispatch();
        }
        match line.iter().position(|byte| *byte == b':') {
            Some(0) => self.items.push(OwnedItem::Comment(line.iter().skip(1).copied().collect())),
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                let value = value.strip_prefix(b":").unwrap_or(value);
                self.field(name, value.strip_prefix(b" ").unwrap_or(value));
            }
            None => self.field(line, b""),
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"event" => {
                self.block_begun = true;
                self.event_type = value.to_vec();
            }
            b"data" => {
                self.block_begun = true;
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"id" => {
                self.block_begun = true;
                if !value.contains(&0) {
                    self.last_event_id = value.to_vec();
                    self.id_is_new = true;
                }
            }
            b"retry" => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let text = String::from_utf8_lossy(value);
                if let (true, Ok(ms)) = (digits, text.parse()) {
                    self.items.push(OwnedItem::Retry(ms));
                }
            }
            _ => self.items.push(OwnedItem::Field(name.to_vec(), value.to_vec())),
        }
    }

    fn dispatch(&mut self) {
        self.block_begun = false;
        let name = std::mem::take(&mut self.event_type);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_none() {
            return;
        }
        let id = std::mem::take(&mut self.id_is_new).then(|| self.last_event_id.clone());
        self.items.push(OwnedItem::Event(name, data, id));
    }
}
