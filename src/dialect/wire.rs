//! What every wire must say about itself: the trait, and the values that go in and out.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use streamkeeper_session::{ErrorEvent, Fault, Gap};
use streamkeeper_sse::{Event, OwnedEvent};

pub use crate::config::Prefill;

/// A request as a dialect sees it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body; empty where it has none or it was not kept.
    pub body: &'a [u8],
}

/// Whether a request asks for a stream, as far as can be told before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// It does.
    Stream,
    /// It does not, or not in a way this dialect knows; an event stream that comes back is still kept.
    No,
    /// Its body must be read to tell: call [`Dialect::asks_in_body`].
    Body,
}

/// What one upstream event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Part of the answer.
    Content,
    /// Part of the answer, to be kept and delivered in this form instead: as it came, clients would stumble over it.
    Replace(OwnedEvent),
    /// Comes before any answer and promises nothing (a role, `response.created`): held back until content follows.
    Preamble,
    /// Belongs to the stream and says nothing (an empty delta): kept and delivered, but no sign of life.
    Filler,
    /// The answer is whole; this event is its last.
    Done,
    /// The upstream reports an error; this event is replaced by ours.
    Error(Box<Fault>),
    /// Worth nothing to anybody: not kept, not delivered.
    Skip,
}

/// What a clean end of the body without [`Meaning::Done`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanEnd {
    /// The answer is whole: this wire has no terminator.
    Complete,
    /// The answer is whole, although its terminator is missing. Worth a warning.
    Unmarked,
    /// Something is missing.
    Truncated,
}

/// Reads one upstream stream. Holds what must be remembered between events, which is little.
pub trait Reader: Send {
    /// Called once for each event, in order. Must not allocate for ordinary content.
    fn read(&mut self, event: &Event<'_>) -> Meaning;

    /// Called for each field that is none of the standard's (old llama.cpp reports errors so).
    fn field(&mut self, _name: &[u8], _value: &[u8]) -> Option<Box<Fault>> {
        None
    }

    /// The body ended cleanly and nothing said `Done`.
    fn clean_end(&self) -> CleanEnd;

    /// Whether the answer is whole already, whatever becomes of the connection before its proper end.
    fn is_whole(&self) -> bool {
        false
    }
}

/// How the client is kept from believing that the upstream died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// `: ka\n`.
    Comment,
    /// A bare newline between events.
    BlankLine,
}

/// Which of our own fields and events a dialect's clients survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// `id:` in a block.
    pub ids: bool,
    /// `retry:` in a block.
    pub retry: bool,
    /// Comment lines of the upstream inside a block.
    pub comments: bool,
    /// What a heartbeat looks like.
    pub keep_alive: KeepAlive,
    /// After our error the body is aborted instead of ended, because its clients do not look at the event.
    pub abort_after_error: bool,
}

/// What a client that follows the standard survives, and most SDKs do.
impl Default for Tolerance {
    fn default() -> Self {
        Self { ids: true, retry: true, comments: true, keep_alive: KeepAlive::Comment, abort_after_error: false }
    }
}

/// Why an answer cannot stand in for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// It is a reported error.
    Fault(Box<Fault>),
    /// It is no JSON or not of the expected shape.
    NotAnAnswer,
}

/// One wire. Values in, values out.
pub trait Dialect: Send + Sync + fmt::Debug {
    /// `openai`, `generic`: a metric label.
    fn name(&self) -> &'static str;

    /// Does this request (without its body) ask for a stream?
    fn asks(&self, ask: &Ask<'_>) -> Asks;

    /// Does this request ask for a stream? Its body is there.
    fn asks_in_body(&self, ask: &Ask<'_>) -> bool;

    /// What may be put into its streams.
    fn tolerance(&self) -> Tolerance {
        Tolerance::default()
    }

    /// Whether upstreams of this wire may number their events, so that a `Last-Event-ID` can be theirs.
    fn upstream_ids(&self) -> bool {
        false
    }

    /// Whether a call of this wire only generates an answer, so that sending it again changes nothing but the bill.
    fn only_generates(&self) -> bool {
        false
    }

    /// A reader for one upstream stream that answers `ask`.
    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader>;

    /// What of a request its errors must repeat (a JSON-RPC id); kept with the session, never shown elsewhere.
    fn note(&self, _ask: &Ask<'_>) -> Option<Box<str>> {
        None
    }

    /// Our error as events of this wire, in order; mostly one. They are the last of their stream.
    fn error_events(&self, error: &ErrorEvent, moment: &Moment<'_>) -> Vec<OwnedEvent>;

    /// Our error as a JSON body, for when a status can still be sent.
    fn error_body(&self, error: &ErrorEvent) -> Bytes;

    /// The gap as an event of its own, where clients survive one; else `None`, and the standard error `session_gap` is spoken.
    fn gap_event(&self, _gap: &Gap) -> Option<OwnedEvent> {
        None
    }

    /// The same request without streaming: its path and query, and its body. `None`: this wire has no such form.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)>;

    /// A JSON answer as the events of a stream, terminator included.
    fn events_of(&self, ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer>;

    /// What makes the upstream itself go on after `last_id`, the last id it gave, or after what was `delivered`.
    /// By default the same request with `Last-Event-ID`, for upstreams that number their events.
    fn native_resume(
        &self,
        ask: &Ask<'_>,
        last_id: Option<&[u8]>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Resume> {
        let id = HeaderValue::from_bytes(last_id?).ok()?;
        Some(Resume { method: ask.method.clone(), uri: ask.uri.clone(), last_event_id: Some(id), keep_body: true })
    }

    /// A request that makes a model go on with the text that was `delivered`, where this wire has one. `None` if
    /// anything but plain text was delivered: what cannot be continued exactly is not continued.
    fn continuation(
        &self,
        _ask: &Ask<'_>,
        _prefill: Prefill,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Continuation> {
        None
    }

    /// Whether [`rest_of`](Self::rest_of) can ever find a rest. Where it cannot, no request is paid for it.
    fn tells_rest(&self) -> bool {
        true
    }

    /// What of `answer` is still to be sent after `delivered` (all events so far), terminator included, if the answer
    /// begins with exactly what was delivered; else `None`.
    fn rest_of(
        &self,
        ask: &Ask<'_>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        answer: &[u8],
    ) -> Option<Vec<OwnedEvent>>;
}

/// A request that goes on with a broken answer.
pub struct Continuation {
    /// Path and query.
    pub uri: Uri,
    /// Body.
    pub body: Bytes,
    /// Reads the second stream as the rest of the first: its events keep the first's ids, repeat neither role nor
    /// text, and sum its usage.
    pub reader: Box<dyn Reader>,
}

/// A request that an upstream answers with what comes after the events it has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// `Last-Event-ID`, where that is how it is asked.
    pub last_event_id: Option<HeaderValue>,
    /// Whether the caller's body goes with it.
    pub keep_body: bool,
}

/// Where in its stream an error is spoken.
#[derive(Debug, Clone, Default)]
pub struct Moment<'a> {
    /// What [`Dialect::note`] kept of the request.
    pub note: Option<&'a str>,
    /// The last event delivered before, if there was one and it is still there.
    pub last: Option<Delivered<'a>>,
}

/// One event as the ring keeps it, taken apart again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// Its name; empty is `message`.
    pub name: Cow<'a, str>,
    /// Its data, lines joined by `\n`.
    pub data: Cow<'a, str>,
}

impl<'a> From<&'a OwnedEvent> for Delivered<'a> {
    fn from(event: &'a OwnedEvent) -> Self {
        Self { name: event.name.as_str().into(), data: event.data.as_str().into() }
    }
}
