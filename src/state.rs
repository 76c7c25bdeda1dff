//! What is said of a session as JSON: to its own client on the reserved path, and to operators. Nothing of its events.

use serde_json::{Value, json};
use streamkeeper_session::Fault;

use crate::app::App;
use crate::store::{LiveSession, Log, Phase};

impl LiveSession {
    /// `pending`: no head was sent yet; `live`; `finished`: whole; `failed`: with an error.
    pub fn state(&self) -> &'static str {
        self.log.peek(state)
    }
}

fn state(log: &Log) -> &'static str {
    match (&log.phase, log.ended, fault(log)) {
        (Phase::Pending, ..) => "pending",
        (_, None, _) => "live",
        (_, Some(_), None) => "finished",
        (_, Some(_), Some(_)) => "failed",
    }
}

fn fault(log: &Log) -> Option<&Fault> {
    match &log.phase {
        Phase::Refused(refusal) => Some(&refusal.fault),
        Phase::Pending | Phase::Open => log.ring.end().and_then(|end| end.fault()),
    }
}

impl App {
    /// A session's state as JSON. Holds nothing of its events.
    pub fn state_of(&self, session: &LiveSession) -> Value {
        let now = self.clock.now();
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (readers, remote) = session.control.peek(|control| (control.readers, control.remote));
        let error = |fault: &Fault| json!({ "code": fault.code.as_str(), "type": fault.kind.as_str(), "recoverable": fault.recoverable });
        session.log.peek(|log| {
            let ring = &log.ring;
            json!({
                "session": session.id.to_string(),
                "state": state(log),
                "route": session.route.name,
                "dialect": session.dialect.name(),
                "request_id": session.request_id,
                "source": log.source.as_str(),
                "epoch": log.epochs.current(),
                "first_seq": ring.first_seq(),
                "last_seq": ring.next_seq() - 1,
                "evicted": ring.evicted(),
                "ring_bytes": ring.bytes(),
                "attached": readers,
                "attached_elsewhere": remote,
                "age_ms": ms(now.saturating_sub(session.started)),
                "idle_ms": ms(now.saturating_sub(log.last_event.unwrap_or(session.started))),
                "error": fault(log).map(error),
            })
        })
    }
}
