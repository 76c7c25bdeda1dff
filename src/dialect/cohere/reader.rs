//! One upstream event of this wire: content, preamble, the end, or an error; and what an error means.
//!
//! Cohere's stream errors are a sentence in `delta.error` of the last event, without a type or a code, so they count
//! as passing failures of the system. What another proxy of our kind reported (`proxy_error`) is believed.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use memchr::memmem::Finder;
use serde_json::Value;
use streamkeeper_session::{Fault, Kind, Report};
use streamkeeper_sse::Event;

use super::is_failure;
use crate::dialect::json::{LABEL_CAP, MESSAGE_CAP, RawObject, WAIT_CAP, capped, is_hollow, raw_text, text_of};
use crate::dialect::{CleanEnd, Meaning, Reader};

static DELTA_TYPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"content-delta\""));

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// Content was seen, so nothing is a preamble any more.
    started: bool,
}

impl Reader for EventReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        // Some servers put OpenAI's terminator behind the end, or instead of it, when they failed.
        if data.is_empty() || data == b"[DONE]" {
            return Meaning::Skip;
        }
        match kind(event.name, data).as_ref() {
            b"content-delta" => self.content(),
            b"message-end" => end(data),
            b"error" => Meaning::Error(fault(data)),
            b"message-start" | b"debug" if !self.started => Meaning::Preamble,
            b"content-start" if !self.started && starts_empty(data) => Meaning::Preamble,
            b"" if is_vendor_error(data) => Meaning::Error(fault(data)),
            _ => self.content(),
        }
    }

    fn clean_end(&self) -> CleanEnd {
        CleanEnd::Truncated
    }
}

impl EventReader {
    fn content(&mut self) -> Meaning {
        self.started = true;
        Meaning::Content
    }
}

/// The event's type: its name, or of an event without a name what its data says; empty if nothing says so.
fn kind<'a>(name: &'a [u8], data: &'a [u8]) -> Cow<'a, [u8]> {
    if !name.is_empty() && name != b"message" {
        return name.into();
    }
    // Inside a JSON string the quotes would be escaped, so this is a value, and only one field has it.
    if DELTA_TYPE.find(data).is_some() {
        return b"content-delta".into();
    }
    let named = RawObject::read(data).and_then(|object| raw_text(object.get("type")?));
    named.map_or_else(Cow::default, |kind| kind.into_owned().into_bytes().into())
}

/// The last event. One that cannot be read is the client's business.
fn end(data: &[u8]) -> Meaning {
    let delta = RawObject::read(data).and_then(|end| end.get("delta").and_then(RawObject::of));
    let failed = delta.is_some_and(|delta| is_failure(&delta) || delta.solid("error").is_some());
    if failed { Meaning::Error(fault(data)) } else { Meaning::Done }
}

/// Whether a block of content begins without saying anything yet.
fn starts_empty(data: &[u8]) -> bool {
    let content = || {
        let delta = RawObject::of(RawObject::read(data)?.get("delta")?)?;
        RawObject::of(RawObject::of(delta.get("message")?)?.get("content")?)
    };
    content().is_some_and(|content| content.fields().all(|(name, value)| name == "type" || is_hollow(value)))
}

/// Whether an object without a type is what Cohere answers with an error status: a message, or an error.
fn is_vendor_error(data: &[u8]) -> bool {
    RawObject::read(data)
        .is_some_and(|object| object.solid("error").is_some() || object.get("message").and_then(raw_text).is_some())
}

/// The fault in a JSON text that is known to report one, or in plain text.
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    let said: Value = serde_json::from_slice(data)
        .unwrap_or_else(|_| Value::String(capped(String::from_utf8_lossy(data).trim(), MESSAGE_CAP).to_owned()));
    let first = |places: &[&str], cap| places.iter().find_map(|place| text_of(said.pointer(place), cap));
    let report = Report {
        kind: first(&["/proxy_error/type", "/delta/error/type", "/error/type", "/delta/finish_reason"], LABEL_CAP),
        code: first(&["/proxy_error/code", "/delta/error/code", "/error/code", "/status_code"], LABEL_CAP),
        // The empty place is the whole.
        message: first(
            &["/delta/error", "/delta/error/message", "/error", "/error/message", "/message", ""],
            MESSAGE_CAP,
        ),
        traceback: None,
    };
    let reported = said.pointer("/proxy_error/type").and_then(Value::as_str).and_then(Kind::from_wire);
    let (kind, recoverable) = match reported {
        Some(kind) => (kind, said.pointer("/proxy_error/recoverable").and_then(Value::as_bool).unwrap_or(false)),
        None => kind_of(&report),
    };
    let wait = said.pointer("/proxy_error/retry_after_ms").and_then(Value::as_u64);
    let wait = wait.map(|ms| Duration::from_millis(ms).min(WAIT_CAP));
    Box::new(Fault::reported(kind, recoverable, report).retry_after(wait))
}

/// By the HTTP status that Cohere gives its errors, where one is said. 498 is a blocked output, 499 a cancelled call.
fn kind_of(report: &Report) -> (Kind, bool) {
    match report.code.as_deref().and_then(|code| code.parse::<u16>().ok()) {
        Some(402 | 403 | 498) => (Kind::Business, false),
        Some(408 | 504) => (Kind::Timeout, true),
        Some(429) => (Kind::RateLimit, true),
        Some(499) => (Kind::System, true),
        Some(400..=497) => (Kind::Validation, false),
        _ => (Kind::System, true),
    }
}

#[cfg(test)]
mod tests;
