//! One session as everybody shares it: what readers see ([`Log`]) and what they tell the pump ([`Control`]).
//!
//! Not here: who may see it (the front asks the store with a principal) and how bytes look on a wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use streamkeeper_session::{Code, End, Epochs, EventId, Fault, Ring, RingLimits, SessionId, Splice, Tail};

use crate::config::{self, Route};
use crate::dialect::Dialect;
use crate::header_lines::HeaderLines;
use crate::principal::Principal;
use crate::store::{Mark, Pace, Timeline, Weighed};
use crate::telemetry::metrics;

/// What a session is, from its first moment on.
#[derive(Debug)]
pub struct LiveSession {
    /// Its unguessable handle.
    pub id: SessionId,
    /// Whom it belongs to.
    pub principal: Principal,
    /// The id of the request that began it.
    pub request_id: String,
    /// Keyed hash of that request's method, path and body; 0 where nobody will ever compare it.
    pub fingerprint: u128,
    /// The route it runs on.
    pub route: Arc<Route>,
    /// The wire its clients speak.
    pub dialect: Arc<dyn Dialect>,
    /// What of the request its errors must repeat.
    pub note: Option<Box<str>>,
    /// When it began, on the process's clock.
    pub started: Duration,
    /// What readers see.
    pub log: Weighed,
    /// What readers tell the pump.
    pub control: Arc<Tail<Control>>,
    /// Heap bytes of the ring already counted in the store's budget.
    pub charged: AtomicUsize,
    /// Evicted events already counted in the metrics.
    pub evicted: AtomicU64,
    /// A client came back to it, or joined it: a generation that was not paid twice.
    pub saved: AtomicBool,
    /// The store knows that there is something new in the log, and has not looked yet.
    pub noted: AtomicBool,
    /// What happened to it, for operators.
    pub timeline: Timeline,
}

/// The events and how far the session has come.
#[derive(Debug)]
pub struct Log {
    /// The events kept for replay.
    pub ring: Ring<End>,
    /// How far its readers are.
    pub pace: Pace,
    /// Which owner's generation each of them belongs to.
    pub epochs: Epochs,
    /// Events from this seq on, and the end, are not to be shown yet: the store does not have them.
    pub shown: u64,
    /// Clients of this process are sent away with this error; the session itself may go on elsewhere.
    pub parted: Option<Code>,
    /// Whether clients have their head yet.
    pub phase: Phase,
    /// Who numbers the events; decided by the first one.
    pub numbering: Numbering,
    /// Where the events come from now.
    pub source: Source,
    /// Headers of the upstream's answer that clients get too.
    pub headers: HeaderLines,
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
            pace: Pace::default(),
            epochs: Epochs::new(0),
            shown: u64::MAX,
            parted: None,
            phase: Phase::Pending,
            numbering: Numbering::Open,
            source: Source::Live,
            headers: HeaderLines::default(),
            last_event: None,
            ended: None,
        }
    }

    /// Says in which way the answer goes on where an earlier owner stopped. A way that is not the one its current
    /// owner began with begins a generation of its own: somebody may have read further in the other.
    pub fn goes_on(&mut self, splice: Splice) {
        let turns = self.epochs.splice() == Splice::Repeats && splice == Splice::Differs;
        if turns && self.epochs.current() > 0 {
            self.epochs.begin(self.epochs.current() + 1, self.ring.next_seq());
        }
        self.epochs.settle(splice);
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

/// What readers tell the pump, and the store.
#[derive(Debug, Default)]
pub struct Control {
    /// Clients attached here now.
    pub readers: usize,
    /// Clients attached to it at other replicas.
    pub remote: usize,
    /// End it with this fault.
    pub stop: Option<Box<Fault>>,
    /// Who reads its upstream.
    pub owner: Owner,
}

impl Control {
    /// Clients attached anywhere.
    pub fn attached(&self) -> usize {
        self.readers + self.remote
    }
}

/// Who reads a session's upstream.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A pump of this process; without a shared store always.
    #[default]
    Here,
    /// Another replica. A pump that is still at it here stops without a word.
    Elsewhere,
    /// Nobody: its owner is gone, and whoever can may take over.
    Nobody,
}

/// What makes one session different from all others.
#[derive(Debug)]
pub struct Origin {
    /// Its unguessable handle.
    pub id: SessionId,
    /// Whom it belongs to.
    pub principal: Principal,
    /// The id of the request that began it.
    pub request_id: String,
    /// Keyed hash of that request's method, path and body; 0 where nobody will ever compare it.
    pub fingerprint: u128,
    /// The route it runs on.
    pub route: Arc<Route>,
    /// The wire its clients speak.
    pub dialect: Arc<dyn Dialect>,
    /// What of the request its errors must repeat.
    pub note: Option<Box<str>>,
    /// When it began, on the process's clock.
    pub started: Duration,
}

impl LiveSession {
    /// A session that has said nothing yet, with nobody attached.
    pub fn new(origin: Origin, limits: config::Session) -> Self {
        let Origin { id, principal, request_id, fingerprint, route, dialect, note, started } = origin;
        Self {
            id,
            principal,
            request_id,
            fingerprint,
            route,
            dialect,
            note,
            started,
            log: Weighed::new(Log::new(limits)),
            control: Arc::new(Tail::new(Control::default())),
            charged: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
            saved: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            timeline: Timeline::default(),
        }
    }

    /// The id of its event `seq`.
    pub fn event_id(&self, seq: u64) -> EventId {
        EventId { session: self.id, epoch: self.log.peek(|log| log.epochs.of(seq)), seq }
    }

    /// Attaches a client, unless `limit` are attached already.
    pub fn attach(self: &Arc<Self>, limit: usize) -> Option<Attached> {
        let come = |control: &mut Control| {
            let room = control.readers < limit;
            control.readers += usize::from(room);
            room.then_some(control.readers)
        };
        let readers = self.control.update(come)?;
        metrics::attached(1);
        self.timeline.mark(Mark::Came(readers));
        Some(Attached { session: Arc::clone(self) })
    }

    /// Asks the pump to end the session with `fault`.
    pub fn stop(&self, fault: Fault) {
        self.control.update(|control| control.stop.get_or_insert_with(|| Box::new(fault)).code);
    }

    /// Asks the pump to end it because its client said so.
    pub fn stop_for_its_client(&self) {
        self.stop(Fault::new(Code::SessionNotFound).message("The session was stopped by its owner."));
    }

    /// Whether who reads the upstream has to wait for the clients here. Then its control is woken once one of them has
    /// caught up, or the last one has left.
    pub fn awaits_readers(&self) -> bool {
        self.control.peek(|control| control.readers > 0) && self.log.peek(|log| log.pace.awaits(&log.ring))
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
        let readers = self.session.control.update(|control| {
            control.readers = control.readers.saturating_sub(1);
            control.readers
        });
        self.session.timeline.mark(Mark::Left(readers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of sessions live at once; what each costs is decided here.
    #[test]
    fn a_session_is_small() {
        assert!(size_of::<LiveSession>() <= 304, "{}", size_of::<LiveSession>());
        assert!(size_of::<Tail<Log>>() <= 304, "{}", size_of::<Tail<Log>>());
    }
}
