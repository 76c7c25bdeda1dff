//! How a session ends: refused with a status while one can still be sent, or sealed behind its last event. Here alone
//! a fault becomes events.

use std::sync::Arc;

use streamkeeper_session::{Code, End, ErrorEvent, Fault, Splice};
use streamkeeper_sse::OwnedEvent;

use super::reading::numbering;
use super::trace::millis;
use super::{Pump, attempt};
use crate::dialect::{Delivered, Moment};
use crate::store::{Mark, Numbering, Phase, Refusal};
use crate::telemetry::metrics;

impl Pump {
    pub(super) fn refuse(&mut self, fault: Fault) {
        let answer = self
            .refusal
            .take()
            .map(|answer| *answer)
            .filter(|_| matches!(fault.code, Code::UpstreamRejected | Code::RateLimited));
        // Nothing went wrong with a stream where the upstream answered a plain 204 or a redirect.
        if answer.as_ref().is_none_or(|(status, ..)| status.as_u16() >= 400) {
            metrics::error(&fault, &self.session.route.name);
        }
        let now = self.app.clock.now();
        self.session.log.update(|log| {
            log.ended = Some(now);
            log.phase = Phase::Refused(Arc::new(Refusal { fault: fault.clone(), answer }));
        });
        self.end("refused", Some(&fault));
        // Whoever asks again, even with the same Idempotency-Key, gets another try.
        let (app, id) = (Arc::clone(&self.app), self.session.id);
        self.aside = Some(Box::pin(async move { app.store.remove(id).await }));
    }

    pub(super) fn finish(&mut self, end: End) {
        let now = self.app.clock.now();
        let terminal = end.fault().map(|fault| self.told(fault)).unwrap_or_default();
        let (ids, tolerance) = (self.session.route.ids, self.session.dialect.tolerance());
        let fault = end.fault().cloned();
        self.session.log.update(|log| {
            if log.numbering == Numbering::Open {
                log.numbering = numbering(ids, tolerance, false);
            }
            log.goes_on(Splice::Ends);
            let mut record = Vec::new();
            for event in &terminal {
                record.clear();
                event.write_body(&mut record);
                let _ = log.ring.push(&record, None);
            }
            log.phase = Phase::Open;
            log.ring.seal(end);
            log.ring.compact();
            log.ended = Some(now);
        });
        self.app.store.charge(&self.session);
        match &fault {
            None => self.end("completed", None),
            Some(fault) => self.end("failed", Some(fault)),
        }
    }

    /// What the clients are told of a failure, in their dialect.
    fn told(&self, fault: &Fault) -> Vec<OwnedEvent> {
        metrics::error(fault, &self.session.route.name);
        let wait = self.app.settings.retry_hint.ill;
        let development = self.app.settings.telemetry.development;
        let error = ErrorEvent::new(fault, &self.session.request_id, wait, development);
        let last = self.session.log.peek(|log| attempt::last_event(&log.ring));
        let last = last.as_ref().map(Delivered::from);
        self.session.dialect.error_events(&error, &Moment { note: self.session.note.as_deref(), last })
    }

    /// The one log line of a stream, and its last metrics.
    fn end(&mut self, outcome: &'static str, fault: Option<&Fault>) {
        self.sealed = true;
        self.session.timeline.mark(Mark::Ended(fault.map(|fault| fault.code)));
        self.tally.over(fault.map(|fault| fault.code.as_str()));
        self.traced.try_over(fault);
        if fault.is_none() {
            self.aim.dialler().group().note(true);
        }
        self.app.store.ended(&self.session);
        let age = self.app.clock.now().saturating_sub(self.session.started);
        metrics::ended(&self.session.route.name, outcome, age);
        let (events, source) = self.session.log.peek(|log| (log.ring.next_seq().saturating_sub(1), log.source));
        let told = self.session.timeline.summary();
        let silent_since = self.last_arrival.map(|last| self.app.clock.now().saturating_sub(last));
        self.traced.silence(silent_since.unwrap_or_default());
        self.traced.over(&self.session, outcome, fault);
        tracing::info!(
            target: "streamkeeper::stream",
            session = %self.session.id,
            request_id = %self.session.request_id,
            trace_id = self.traced.trace_id(),
            route = %self.session.route.name,
            upstream = %self.aim.dialler().group().upstream().name,
            dialect = self.session.dialect.name(),
            outcome,
            code = fault.map(|fault| fault.code.as_str()),
            cause = fault.and_then(|fault| fault.cause.as_deref()),
            source = source.as_str(),
            events,
            bytes = self.traced.facts().bytes,
            tries = self.machine.dials(),
            readers = told.counts.readers,
            resumes = told.counts.resumes,
            replayed = told.counts.replayed,
            head_ms = told.stages.head.map(millis),
            first_event_ms = told.stages.first_event.map(millis),
            longest_silence_ms = millis(self.traced.facts().longest_silence),
            ms = millis(age),
            "stream"
        );
    }
}

impl Drop for Pump {
    /// A pump that did not come to its end (a panic, the runtime going away) still leaves its readers a terminal event.
    fn drop(&mut self) {
        if !self.sealed {
            self.finish(End::Failed(Box::new(Code::Internal.into())));
        }
    }
}
