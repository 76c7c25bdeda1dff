//! One upstream event of this wire: content, preamble, the end, or an error.
//!
//! The name of an event says what it is, so ordinary content is never looked into. Not here: what a vendor's error
//! means (`vendor`), and the second stream of a continued answer (`continuation`).
//!
//! A stop reason is the last thing that an answer says; where it came, the answer counts as whole even if
//! `message_stop` did not follow. Events that are not known are part of the answer: the vendor reserves the right to
//! add some.

use streamkeeper_sse::Event;

use super::vendor;
use crate::dialect::json::{RawObject, is_hollow, raw_text};
use crate::dialect::{CleanEnd, Meaning, Reader};

/// Reads the events of one message.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    /// Content was seen, so nothing is a preamble any more.
    started: bool,
    /// A ping was seen.
    pinged: bool,
    /// A stop reason was seen.
    stopped: bool,
}

/// What an event is, by its name or, where it has none, by the `type` in its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    MessageStart,
    BlockStart,
    BlockDelta,
    BlockStop,
    MessageDelta,
    MessageStop,
    Ping,
    Error,
    Unknown,
}

impl What {
    /// What `event` is. Some servers leave the names out and some clients live with it.
    pub(super) fn of(event: &Event<'_>) -> Self {
        if !matches!(event.name, b"" | b"message") {
            return Self::named(event.name);
        }
        let Some(object) = RawObject::read(event.data) else {
            return Self::Unknown;
        };
        match object.get("type").and_then(raw_text) {
            Some(name) => Self::named(name.as_bytes()),
            None if object.solid("error").is_some() => Self::Error,
            None => Self::Unknown,
        }
    }

    /// What an event of this name is.
    pub(super) fn named(name: &[u8]) -> Self {
        match name {
            b"content_block_delta" => Self::BlockDelta,
            b"content_block_start" => Self::BlockStart,
            b"content_block_stop" => Self::BlockStop,
            b"message_start" => Self::MessageStart,
            b"message_delta" => Self::MessageDelta,
            b"message_stop" => Self::MessageStop,
            b"ping" => Self::Ping,
            b"error" => Self::Error,
            _ => Self::Unknown,
        }
    }
}

impl MessageReader {
    fn content(&mut self) -> Meaning {
        self.started = true;
        Meaning::Content
    }

    fn preamble(&mut self) -> Meaning {
        if self.started { Meaning::Content } else { Meaning::Preamble }
    }

    /// The first ping belongs to how a stream begins. Later ones would only fill the ring: clients ignore them, and
    /// what keeps their connections alive is ours to send.
    fn ping(&mut self) -> Meaning {
        let first = !std::mem::replace(&mut self.pinged, true);
        if first && !self.started { Meaning::Preamble } else { Meaning::Skip }
    }
}

impl Reader for MessageReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        let what = What::of(event);
        // Clients would fail to read it as JSON; an error needs no words.
        if data.is_empty() && what != What::Error {
            return Meaning::Skip;
        }
        match what {
            What::BlockDelta | What::BlockStop | What::Unknown => self.content(),
            What::BlockStart if !self.started && opens_empty_text(data) => Meaning::Preamble,
            What::BlockStart => self.content(),
            What::MessageStart => self.preamble(),
            What::Ping => self.ping(),
            What::MessageDelta => {
                self.stopped |= has_stop_reason(data);
                self.content()
            }
            What::MessageStop => Meaning::Done,
            What::Error => Meaning::Error(vendor::fault(data)),
        }
    }

    fn clean_end(&self) -> CleanEnd {
        if self.stopped { CleanEnd::Unmarked } else { CleanEnd::Truncated }
    }
}

/// Whether a block of text begins that says nothing yet. The begin of any other block (thoughts, a tool's name) is
/// something that people see.
fn opens_empty_text(data: &[u8]) -> bool {
    let block = RawObject::read(data).and_then(|event| event.get("content_block")).and_then(RawObject::of);
    block.is_some_and(|block| {
        block.get("type").is_some_and(|kind| kind.get() == "\"text\"")
            && block.fields().all(|(name, value)| name == "type" || is_hollow(value))
    })
}

/// Whether a `message_delta` says why the answer ended.
pub(super) fn has_stop_reason(data: &[u8]) -> bool {
    let delta = RawObject::read(data).and_then(|event| event.get("delta")).and_then(RawObject::of);
    delta.is_some_and(|delta| delta.solid("stop_reason").is_some())
}

#[cfg(test)]
mod tests;
