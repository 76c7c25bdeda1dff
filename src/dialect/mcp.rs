//! MCP over streamable HTTP, up to protocol version 2025-11-25: a POST carries JSON-RPC, the answer is JSON or an event
//! stream of JSON-RPC messages of which the response to the request is the last.
//!
//! Whether an answer streams is the server's choice, so such a request passes and a stream that comes back is kept.
//! A server may close a stream early and have the client come back by GET with `Last-Event-ID`; going on that way
//! is the native resume. A GET stream belongs to no request and has no end of its own.
//!
//! Not here: what the methods mean. Source: the specification's page "Transports" (streamable HTTP, resumability)
//! and JSON-RPC 2.0; what the Python and TypeScript SDKs raise on.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use memchr::memmem::Finder;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::{Event, OwnedEvent};

use super::json::{self, ObjectWriter, RawObject, raw_list};
use super::{Ask, Asks, CleanEnd, Delivered, Dialect, Meaning, Moment, NoAnswer, Reader, Resume};

/// What its messages are called.
const MESSAGE: &str = "message";
/// The code of our errors: in the range that JSON-RPC leaves to servers; with the SDKs, a request that timed out.
const CODE: i32 = -32001;
/// The longest id in bytes that is repeated. Whoever sends a longer one gets `null`.
const ID_CAP: usize = 256;
/// The most ids of one batch.
const BATCH_CAP: usize = 64;

const HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("mcp-protocol-version"), HeaderName::from_static("mcp-session-id")];

static RESULT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"result\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// The wire of MCP's streamable HTTP transport.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mcp;

impl Mcp {
    /// Whether a request is this wire's: it has one of its headers, or it posts JSON and takes JSON and event streams
    /// alike, as the first request of a connection does.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        HEADERS.iter().any(|name| ask.headers.contains_key(name)) || (ask.method == Method::POST && takes_both(ask))
    }
}

fn takes_both(ask: &Ask<'_>) -> bool {
    let accepts = |media| json::accepts(ask.headers, media);
    accepts("application/json") && accepts("text/event-stream") && json::sends_json(ask.headers)
}

impl Dialect for Mcp {
    fn name(&self) -> &'static str {
        "mcp"
    }

    /// A POST's body must be read because its id ends the stream; see [`Self::note`].
    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if ask.method == Method::POST && json::sends_json(ask.headers) { Asks::Body } else { Asks::No }
    }

    /// Its answer may as well be JSON, which is passed as it is.
    fn asks_in_body(&self, _ask: &Ask<'_>) -> bool {
        false
    }

    fn upstream_ids(&self) -> bool {
        true
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        let pending: Vec<Box<str>> = ids(ask.body).into_iter().map(|id| id.get().into()).collect();
        Box::new(MessageReader { complete: pending.is_empty(), pending })
    }

    /// The id of the request, or a list of ids if it is a batch.
    fn note(&self, ask: &Ask<'_>) -> Option<Box<str>> {
        let ids = ids(ask.body);
        let batch = ask.body.trim_ascii_start().starts_with(b"[");
        match ids.as_slice() {
            [] => None,
            [id] if !batch => Some(id.get().into()),
            _ => Some(format!("[{}]", ids.iter().map(|id| id.get()).collect::<Vec<_>>().join(",")).into()),
        }
    }

    /// One for each request that waits, or may still wait, for its response.
    fn error_events(&self, error: &ErrorEvent, moment: &Moment<'_>) -> Vec<OwnedEvent> {
        let noted: Option<&RawValue> = moment.note.and_then(|note| serde_json::from_str(note).ok());
        let ids = noted.map(|note| raw_list(note).unwrap_or_else(|| vec![note])).unwrap_or_default();
        let ids = if ids.is_empty() { vec!["null"] } else { ids.into_iter().map(RawValue::get).collect() };
        ids.into_iter().map(|id| OwnedEvent::new(MESSAGE, error_object(error, id))).collect()
    }

    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        error_object(error, "null").into()
    }

    /// The SDKs take every event for a message.
    /// The server chooses the form of its answer.
    fn without_stream(&self, _ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        None
    }

    /// Messages as they are; an error among them is the server's own answer.
    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        let whole: &RawValue = serde_json::from_str(&line).map_err(|_| NoAnswer::NotAnAnswer)?;
        let messages = raw_list(whole).unwrap_or_else(|| vec![whole]);
        let spoken = |raw: &&RawValue| RawObject::of(raw).is_some_and(|object| object.get("jsonrpc").is_some());
        if messages.is_empty() || !messages.iter().all(spoken) {
            return Err(NoAnswer::NotAnAnswer);
        }
        Ok(messages.into_iter().map(|raw| OwnedEvent::new(MESSAGE, raw.get())).collect())
    }

    /// Whatever method began the stream, it is gone on with by a GET.
    fn native_resume(
        &self,
        ask: &Ask<'_>,
        last_id: Option<&[u8]>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Resume> {
        let id = HeaderValue::from_bytes(last_id?).ok()?;
        Some(Resume { method: Method::GET, uri: ask.uri.clone(), last_event_id: Some(id), keep_body: false })
    }

    /// A second call is another call.
    fn rest_of(
        &self,
        _ask: &Ask<'_>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        _answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        None
    }
}

fn error_object(error: &ErrorEvent, id: &str) -> String {
    let inner = json!({ "code": CODE, "message": error.message, "data": Value::Object(json::standard(error, false)) });
    let mut out = ObjectWriter::new();
    out.raw("jsonrpc", "\"2.0\"");
    out.raw("id", id);
    out.raw("error", &inner.to_string());
    out.finish()
}

/// The ids of the requests in a body. Notifications have none, and what answers a request of the server is no request.
fn ids(body: &[u8]) -> Vec<&RawValue> {
    let Ok(whole) = serde_json::from_slice::<&RawValue>(body) else {
        return Vec::new();
    };
    let messages = raw_list(whole).unwrap_or_else(|| vec![whole]);
    let requests = messages.into_iter().filter_map(|raw| {
        let message = RawObject::of(raw)?;
        let id = message.get("id").filter(|id| id.get().len() <= ID_CAP)?;
        let is_id = id.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        (is_id && message.get("method").is_some()).then_some(id)
    });
    requests.take(BATCH_CAP).collect()
}

/// Waits for the responses to the requests of one POST.
#[derive(Debug)]
struct MessageReader {
    /// Ids without a response yet, as the client wrote them.
    pending: Vec<Box<str>>,
    /// There was nothing to wait for.
    complete: bool,
}

impl MessageReader {
    fn take(&mut self, raw: &RawValue) {
        let Some(message) = RawObject::of(raw) else { return };
        // The server's own requests have ids, too, but no result.
        if message.get("result").is_none() && message.get("error").is_none() {
            return;
        }
        if let Some(id) = message.get("id") {
            self.pending.retain(|pending| !same_id(pending, id.get()));
        }
    }
}

impl Reader for MessageReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let is_message = event.name.is_empty() || event.name == MESSAGE.as_bytes();
        let may_respond = || RESULT.find(event.data).is_some() || ERROR.find(event.data).is_some();
        if self.pending.is_empty() || !is_message || !may_respond() {
            return Meaning::Content;
        }
        let Ok(whole) = serde_json::from_slice::<&RawValue>(event.data) else {
            return Meaning::Content;
        };
        match raw_list(whole) {
            Some(batch) => batch.into_iter().for_each(|raw| self.take(raw)),
            None => self.take(whole),
        }
        if self.pending.is_empty() { Meaning::Done } else { Meaning::Content }
    }

    fn clean_end(&self) -> CleanEnd {
        if self.complete { CleanEnd::Complete } else { CleanEnd::Truncated }
    }
}

/// Whether two JSON texts are one id.
fn same_id(a: &str, b: &str) -> bool {
    a == b
        || serde_json::from_str::<Value>(a).ok().is_some_and(|a| serde_json::from_str(b).is_ok_and(|b: Value| a == b))
}

#[cfg(test)]
mod tests;
