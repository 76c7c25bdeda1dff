//! One session as everybody shares it: what readers see ([`Log`]) and what they tell the pump ([`Control`]).
//!
//! Not here: who may see it (the front asks the store with a principal) and how bytes look on a wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use streamkeeper_session::{End, EventId, Fault, Ring, RingLimits, SessionId, Tail};

use crate::config::{self, Route};
use crate::dialect::Dialect;
use crate::principal::Principal;
use crate::telemetry::metrics;

/// What a session is, from its first moment on.
#[derive(Debug)]
pub struct LiveSession {
    /// Its unguessable handle.
    pub id: SessionId,
    /// The generation of its numbering; grows only when a store lost events.
    pub epoch: u32,
    /// Whom it belongs to.
    pub principal: Principal,
    /// The id of the request that began it.
    pub request_id: String,
    /// The route it runs on.
    pub route: Arc<Route>,
    /// The wire its clients speak.
    pub dialect: Arc<dyn Dialect>,
    /// What of the request its errors must repeat.
    pub note: Option<Box<str>>,
    /// When it began, on the process's clock.
    pub started: Duration,
    /// What readers see.
    pub log: Arc<Tail<Log>>,
    /// What readers tell the pump.
    pub control: Arc<Tail<Control>>,
    /// Heap bytes of the ring already counted in the store's budget.
    pub charged: AtomicUsize,
    /// Evicted events already counted in the metrics.
    pub evicted: AtomicU64,
    /// A client came back to it, or joined it: a generation that was not paid twice.
    pub saved: AtomicBool,
}

/// The events and how far the session has come.
#[derive(Debug)]
pub struct Log {
    /// The events kept for replay.
    pub ring: Ring<End>,
    /// Whether clients have their head yet.
    pub phase: Phase,
    /// Who numbers the events; decided by the first one.
    pub numbering: Numbering,
    /// Where the events come from now.
    pub source: Source,
    /// Headers of the upstream's answer that clients get too.
    pub headers: Arc<HeaderMap>,
    /// When the last event came, on the process's clock.
    pub last_event: Option<Duration>,
    /// When it was sealed or refused.
    pub ended: Option<Duration>,
}

impl Log {
    /// An empty log of a session that begins now.
    pub fn new(limits: config::Session) -> Self {
        let limits = RingLimits { max_events: limits.max_events, max_bytes: limits.max_bytes };
        Self {
            ring: Ring::new(limits),
            phase: Phase::Pending,
            numbering: Numbering::Open,
            source: Source::Live,
            headers: Arc::default(),
            last_event: None,
            ended: None,
        }
    }
}

/// Whether clients have their head yet.
#[derive(Debug, Clone)]
pub enum Phase {
    /// The head is held back; a real status is still possible.
    Pending,
    /// The head may be sent.
    Open,
    /// There will be no stream: this is the answer instead.
    Refused(Arc<Refusal>),
}

/// The answer where no stream could be had.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub fault: Fault,
    /// The upstream's own answer, where it is to be passed on as it is.
    pub answer: Option<WholeAnswer>,
}

/// An upstream's answer without a stream: status, end-to-end headers, body.
pub type WholeAnswer = (StatusCode, HeaderMap, Bytes);

/// Who numbers the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Not known before the first event.
    Open,
    /// We do.
    Issued,
    /// The upstream does.
    Kept,
    /// Nobody does.
    Off,
}

/// Where the events come from: `streamkeeper-source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the upstream's stream.
    Live,
    /// From a non-stream answer.
    Fallback,
    /// From a second upstream stream that took up where the first one broke.
    Continued,
}

impl Source {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Fallback => "fallback",
            Self::Continued => "continued",
        }
    }
}

/// What readers tell the pump.
#[derive(Debug, Default)]
pub struct Control {
    /// Clients attached now.
    pub readers: usize,
    /// End it with this fault.
    pub stop: Option<Fault>,
}

impl LiveSession {
    /// The id of its event `seq`.
    pub fn event_id(&self, seq: u64) -> EventId {
        EventId { session: self.id, epoch: self.epoch, seq }
    }

    /// Attaches a client, unless `limit` are attached already.
    pub fn attach(self: &Arc<Self>, limit: usize) -> Option<Attached> {
        self.control.update(|control| (control.readers < limit).then(|| control.readers += 1))?;
        metrics::attached(1);
        Some(Attached { session: Arc::clone(self) })
    }

    /// Asks the pump to end the session with `fault`.
    pub fn stop(&self, fault: Fault) {
        self.control.update(|control| control.stop.get_or_insert(fault).code);
    }

    /// Whether it has ended, well or not.
    pub fn is_ended(&self) -> bool {
        self.log.peek(|log| log.ended.is_some())
    }
}

/// A client is attached as long as this lives.
#[derive(Debug)]
pub struct Attached {
    session: Arc<LiveSession>,
}

impl Attached {
    /// The session it is attached to.
    pub fn session(&self) -> &Arc<LiveSession> {
        &self.session
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        metrics::attached(-1);
        self.session.control.update(|control| control.readers = control.readers.saturating_sub(1));
    }
}
