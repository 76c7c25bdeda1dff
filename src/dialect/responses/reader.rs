//! One upstream event of this wire: content, preamble, the end, or an error.
//!
//! The name tells what an event is, or, for servers that send none, the `type` that stands first in its data; only
//! what may be an error is parsed, and then without allocating. Not here: what a vendor's error means (`vendor`).

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;
use streamkeeper_sse::Event;

use super::{ERROR, vendor};
use crate::dialect::json::is_hollow;
use crate::dialect::{CleanEnd, Meaning, Reader};

/// What an event without a name is called.
const MESSAGE: &[u8] = b"message";
/// How data that tells its type at once begins.
const TYPE_FIRST: &[u8] = b"{\"type\":";

static ERROR_WORD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// Reads the events of one response.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// Content was seen, so nothing is a preamble any more.
    started: bool,
}

impl EventReader {
    fn of_type(&mut self, kind: &[u8], data: &[u8]) -> Meaning {
        match kind {
            b"response.completed" | b"response.incomplete" => Meaning::Done,
            b"error" | b"response.failed" => Meaning::Error(vendor::fault(data)),
            b"response.created" | b"response.in_progress" | b"response.queued" | b"keepalive" if !self.started => {
                Meaning::Preamble
            }
            _ => {
                self.started = true;
                Meaning::Content
            }
        }
    }
}

impl Reader for EventReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        if event.name == ERROR.as_bytes() {
            return Meaning::Error(vendor::fault(data));
        }
        // The wire has no `[DONE]`: a server that sends it has said `response.completed` before, or stopped short.
        if data.is_empty() || data == b"[DONE]" {
            return Meaning::Skip;
        }
        if ERROR_WORD.find(data).is_some() && Top::read(data).is_error() {
            return Meaning::Error(vendor::fault(data));
        }
        if !event.name.is_empty() && event.name != MESSAGE {
            return self.of_type(event.name, data);
        }
        match first_type(data) {
            Some(kind) => self.of_type(kind, data),
            None => self.of_type(Top::read(data).kind().as_bytes(), data),
        }
    }

    /// This wire always says how it ended.
    fn clean_end(&self) -> CleanEnd {
        CleanEnd::Truncated
    }
}

/// The type of data that begins with it, as all known servers write it. Types have no escapes.
fn first_type(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(TYPE_FIRST)?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    rest.get(..end)
}

/// What must be known of an event that is not plainly content.
#[derive(Debug, Default, Deserialize)]
struct Top<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Top<'a> {
    /// Nothing is known of what is no object, or repeats a key.
    fn read(data: &'a [u8]) -> Self {
        serde_json::from_slice(data).unwrap_or_default()
    }

    /// The type; empty where there is none.
    fn kind(&self) -> &'a str {
        self.kind.map_or("", |kind| kind.get().trim_matches('"'))
    }

    /// `type: error`, an `error` that says something (SDKs raise on it, whatever the type), or the flat form.
    fn is_error(&self) -> bool {
        self.kind() == ERROR
            || self.object.is_some_and(|object| object.get() == "\"error\"")
            || self.error.is_some_and(|error| error.get() == "{}" || !is_hollow(error))
    }
}

#[cfg(test)]
mod tests;
