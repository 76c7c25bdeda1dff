//! The pump: reads one session's upstream into its log. The only place where upstream I/O meets a session.
//!
//! It belongs to the session, not to a client. The machine of `streamkeeper-session` decides; the pump does what it
//! says, tells it what happened, and keeps the one timer it asks for. At a tie data beats the timer: I/O is polled
//! before it.

mod aim;
mod attempt;
mod begin;
mod ending;
pub(crate) mod heir;
mod inflate;
mod overlap;
mod reading;
mod request;
mod tally;
mod trace;

pub use attempt::{is_event_stream, refusal_of};
pub use begin::Begin;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use streamkeeper_session::{Action, Code, Dial, Fault, Follower, Input, Kind, Session, Splice};
use streamkeeper_sse::{OwnedEvent, write_body};
use tokio::time::Sleep;

use crate::app::App;
use crate::dialect::{Ask, Delivered, Reader};
use crate::header_lines::HeaderLines;
use crate::store::{Control, LiveSession, Mark, Numbering, Owner, Phase, Source, WholeAnswer};
use crate::telemetry::context::Trace;
use crate::telemetry::metrics::{self, StreamMeter};
use crate::upstream::headers::IDEMPOTENCY_KEY;
use crate::upstream::{Body, Outgoing};
use aim::Aim;
use attempt::{Attempt, Progress};
use reading::numbering;
use request::Next;
use tally::Tally;
use trace::Traced;

/// The client's request, kept for as long as it may have to be sent (again).
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Method, a blank, path and query.
    line: Box<str>,
    /// As they go to the upstream.
    headers: HeaderLines,
    body: Bytes,
    /// The trace it belongs to.
    trace: Option<Box<Trace>>,
}

impl Kept {
    /// This request.
    pub fn new(outgoing: Outgoing, body: Bytes, trace: Option<Trace>) -> Self {
        let Outgoing { method, uri, headers } = outgoing;
        // Copied: they may be slices of what was read from the client's socket.
        let line = format!("{method} {uri}").into();
        Self { line, headers: HeaderLines::of(&headers), body, trace: trace.map(Box::new) }
    }

    fn method(&self) -> Method {
        self.line.split_once(' ').and_then(|(method, _)| method.parse().ok()).unwrap_or_default()
    }

    fn uri(&self) -> Uri {
        self.line.split_once(' ').and_then(|(_, uri)| uri.parse().ok()).unwrap_or_default()
    }

    /// Its client can come back without having seen the head.
    fn has_key(&self) -> bool {
        self.headers.to_map().contains_key(IDEMPOTENCY_KEY)
    }

    /// Its head.
    fn outgoing(&self) -> Outgoing {
        Outgoing { method: self.method(), uri: self.uri(), headers: self.headers.to_map() }
    }

    /// The request as a dialect sees it, whose head is `outgoing`.
    fn ask<'a>(&'a self, outgoing: &'a Outgoing) -> Ask<'a> {
        Ask { method: &outgoing.method, uri: &outgoing.uri, headers: &outgoing.headers, body: &self.body }
    }
}

/// Reads one upstream into one session.
pub struct Pump {
    app: Arc<App>,
    session: Arc<LiveSession>,
    aim: Aim,
    request: Kept,
    machine: Session,
    meter: StreamMeter,
    attempt: Attempt,
    /// Reads the next stream, where the dialect's ordinary reader would not do.
    reader: Option<Box<dyn Reader>>,
    control: Follower<Control>,
    readers: usize,
    last_arrival: Option<Duration>,
    /// The upstream's last own id, over all tries.
    last_kept: Option<Vec<u8>>,
    /// An upstream's refusal, to be passed on as it is if no other try does better.
    refusal: Option<Box<WholeAnswer>>,
    tally: Tally,
    traced: Traced,
    timer: Pin<Box<Sleep>>,
    /// Has to be done before anything else is.
    aside: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    sealed: bool,
}

impl Future for Pump {
    type Output = ();

    /// A future by hand: it lives as long as its stream, in thousands, and a compiler's would hold everything twice.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        'next: loop {
            if let Some(aside) = &mut this.aside {
                ready!(aside.as_mut().poll(cx));
                this.aside = None;
            }
            if let Some(action) = this.machine.poll_action() {
                this.perform(action);
                continue;
            }
            if this.attempt.is_behind() {
                this.machine.handle(this.app.clock.now(), Input::PutOff);
            }
            if this.machine.is_ended() {
                break;
            }
            if let Poll::Ready((readers, stop, owner)) = changed(&mut this.control, this.readers, cx) {
                if owner != Owner::Here {
                    this.hand_over();
                    return Poll::Ready(());
                }
                this.heard(readers, stop);
                continue;
            }
            // While that is in doubt, nothing is read: its control wakes it when it is settled.
            while !this.app.store.in_doubt()
                && let Poll::Ready(progress) = this.attempt.poll(cx, &this.session, this.app.clock)
            {
                this.progressed(progress);
                if this.machine.has_actions() || this.attempt.is_behind() {
                    continue 'next;
                }
            }
            let Some(due) = this.machine.poll_timeout() else { continue };
            ready!(poll_until(this.timer.as_mut(), this.app.clock.instant(due), cx));
            this.overdue(this.app.clock.now());
        }
        if let Some(drain) = std::mem::replace(&mut this.attempt, Attempt::None).drain() {
            tokio::spawn(drain);
        }
        Poll::Ready(())
    }
}

impl Pump {
    /// A client came or went, or somebody asked to stop.
    fn heard(&mut self, readers: usize, stop: Option<Box<Fault>>) {
        let now = self.app.clock.now();
        if readers != self.readers {
            self.readers = readers;
            self.machine.handle(now, Input::Readers(readers));
        }
        if let Some(fault) = stop {
            self.machine.handle(now, Input::Stop(*fault));
        }
    }

    /// Another process owns the session by now: nothing more is said here. Should that one die, this one knows the
    /// request.
    fn hand_over(&mut self) {
        self.sealed = true;
        self.attempt = Attempt::None;
        self.traced.try_over(None);
        let age = self.app.clock.now().saturating_sub(self.session.started);
        metrics::ended(&self.session.route.name, "handed_over", age);
        self.session.timeline.mark(Mark::HandedOver);
        self.traced.over(&self.session, "handed_over", None);
        self.app.store.handed_over(&self.session);
        let delivered = self.machine.has_delivered();
        heir::stand_by(&self.app, &self.session, Some(self.request.clone()), delivered);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Dial(dial) => self.dial(dial),
            Action::HangUp => self.hang_up(),
            Action::Elsewhere => {
                self.aim.elsewhere();
                self.refusal = None;
            }
            Action::Commit => {
                self.session.timeline.mark(Mark::Committed);
                self.session.log.update(|log| log.phase = Phase::Open);
            }
            Action::Refuse(fault) => self.refuse(fault),
            Action::Finish(end) => self.finish(end),
        }
    }

    fn dial(&mut self, dial: Dial) {
        let partial = self.machine.has_delivered();
        let kind = match dial {
            Dial::Stream { .. } => None,
            Dial::Resume => Some("native_resume"),
            Dial::Continuation => Some("continuation"),
            Dial::Fallback if partial => Some("after_partial"),
            Dial::Fallback => Some("before_content"),
        };
        match request::next(&self.session, &self.request, dial, self.last_kept.as_deref(), partial) {
            Some(Next { mut outgoing, body, reader }) => match self.aim.take(dial, &self.machine) {
                Ok(endpoint) => {
                    self.tally.out(kind);
                    let upstream = Arc::clone(self.aim.dialler().group().upstream());
                    self.traced.out(dial, &upstream, endpoint, &self.app.entropy, &mut outgoing);
                    self.session.timeline.mark(Mark::Try { upstream, endpoint, dial });
                    self.reader = reader;
                    self.attempt = Attempt::dial(self.aim.dialler(), endpoint, outgoing, &body, dial);
                }
                Err(fault) => self.machine.handle(self.app.clock.now(), Input::Denied(fault)),
            },
            None => self.machine.handle(self.app.clock.now(), Input::Impossible),
        }
    }

    fn hang_up(&mut self) {
        self.aim.over();
        if let Attempt::Reading(reading) = std::mem::replace(&mut self.attempt, Attempt::None) {
            self.remember_id(reading.last_kept());
        }
    }

    fn remember_id(&mut self, id: Option<&[u8]>) {
        if let Some(id) = id {
            self.last_kept = Some(id.to_vec());
        }
    }

    fn progressed(&mut self, progress: Progress) {
        match progress {
            Progress::Response(Ok(response), dial) => {
                self.attempt = self.open(response, dial);
                if matches!(self.attempt, Attempt::Reading(_)) {
                    self.machine.handle(self.app.clock.now(), Input::Head);
                }
            }
            Progress::Response(Err(none), _) => self.failed(none.fault, none.sent),
            Progress::Batch(batch) => {
                let now = batch.at;
                self.traced.bytes(batch.bytes);
                self.arrived(now, batch.events);
                if batch.content || matches!(batch.over, Some(Ok(()))) {
                    self.aim.well();
                }
                if batch.events > 0 {
                    self.machine.handle(now, Input::Events { content: batch.content });
                }
                match batch.over {
                    None => {}
                    Some(Ok(())) => self.machine.handle(now, Input::Done),
                    Some(Err(fault)) => self.failed(fault, true),
                }
                // An upstream that never pauses must not outrun the clock.
                self.overdue(now);
            }
            Progress::Body(head, body, dial) => self.answered(head, body, dial),
        }
    }

    fn arrived(&mut self, now: Duration, events: u64) {
        if events == 0 {
            return;
        }
        match self.last_arrival.replace(now) {
            Some(last) => {
                let silence = now.saturating_sub(last);
                self.traced.silence(silence);
                self.meter.events(events, silence);
            }
            None => {
                self.session.timeline.mark(Mark::FirstEvent);
                let age = now.saturating_sub(self.session.started);
                self.meter.first_events(&self.session.route.name, events, age);
            }
        }
        self.app.store.charge(&self.session);
    }

    fn failed(&mut self, fault: Fault, sent: bool) {
        self.note_failure(&fault);
        self.hang_up();
        self.machine.handle(self.app.clock.now(), Input::Failed { fault, sent });
    }

    fn overdue(&mut self, now: Duration) {
        if let Some(stage) = self.machine.handle_timeout(now) {
            self.note_failure(&stage.into());
        }
    }

    fn note_failure(&mut self, fault: &Fault) {
        self.tally.over(Some(fault.code.as_str()));
        self.traced.try_over(Some(fault));
        self.session.timeline.mark(Mark::TryFailed(fault.code));
        self.aim.failed(fault);
        // A caller's own mistake says nothing about the upstream's health.
        if !matches!(fault.kind, Kind::Validation | Kind::Business) {
            self.aim.dialler().group().note(false);
        }
        tracing::debug!(session = %self.session.id, code = %fault, cause = fault.cause.as_deref(), "try failed");
    }

    /// A response head: the start of a stream, or of something else that is read whole first.
    fn open(&mut self, response: Response<Body>, dial: Dial) -> Attempt {
        self.session.timeline.mark(Mark::Head(response.status().as_u16()));
        self.traced.head(response.status());
        if dial != Dial::Fallback && attempt::is_event_stream(&response) {
            let headers = HeaderLines::of(&attempt::headers_for_clients(response.headers()));
            let (source, splice) = match dial {
                Dial::Resume => (Source::Continued, Splice::Repeats),
                Dial::Continuation => (Source::Continued, Splice::Differs),
                Dial::Stream { .. } | Dial::Fallback => (Source::Live, Splice::Differs),
            };
            self.session.log.update(|log| {
                log.headers = headers;
                log.source = source;
                log.goes_on(splice);
            });
        }
        let spliced = self.reader.take();
        let reader =
            || spliced.unwrap_or_else(|| self.session.dialect.reader(&self.request.ask(&self.request.outgoing())));
        Attempt::open(response, dial, &self.session, reader, &self.app.settings.limits)
    }

    /// A whole body that is not an event stream.
    fn answered(&mut self, head: http::response::Parts, body: Result<Bytes, Fault>, dial: Dial) {
        let body = match body {
            Ok(body) => body,
            Err(fault) => return self.failed(fault, true),
        };
        if dial == Dial::Resume && head.status == StatusCode::NO_CONTENT {
            // Asked for what comes after its last event, the upstream says that there is nothing more.
            self.tally.over(None);
            self.traced.try_over(None);
            self.aim.well();
            return self.machine.handle(self.app.clock.now(), Input::Done);
        }
        if let Some(fault) = attempt::refusal_of(&head) {
            if head.status.as_u16() < 500 {
                self.refusal = Some(Box::new((head.status, attempt::headers_for_clients(&head.headers), body)));
            }
            return self.failed(fault, true);
        }
        self.traced.bytes(body.len());
        let delivered = self.machine.has_delivered();
        let events = if delivered { self.rest_of(&body) } else { self.events_of(&head.headers, &body) };
        match events {
            Ok(events) => self.stand_in(&events, dial),
            Err(fault) => self.failed(fault, true),
        }
    }

    fn events_of(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<OwnedEvent>, Fault> {
        use crate::dialect::NoAnswer;
        if !attempt::is_json(headers) {
            return Err(Code::BadContentType.into());
        }
        self.session.dialect.events_of(&self.request.ask(&self.request.outgoing()), body).map_err(|none| match none {
            NoAnswer::Fault(fault) => *fault,
            NoAnswer::NotAnAnswer => Code::BadContentType.into(),
        })
    }

    /// What of a whole answer the clients do not have yet, if they have its beginning.
    fn rest_of(&self, body: &[u8]) -> Result<Vec<OwnedEvent>, Fault> {
        let rest = request::whole(&self.session).and_then(|delivered| {
            let mut views = delivered.iter().map(Delivered::from);
            self.session.dialect.rest_of(&self.request.ask(&self.request.outgoing()), &mut views, body)
        });
        rest.ok_or_else(|| {
            Fault::new(Code::UpstreamTruncated).cause("the whole answer does not begin with what was delivered")
        })
    }

    /// A whole answer takes the stream's place.
    fn stand_in(&mut self, events: &[OwnedEvent], dial: Dial) {
        let (ids, tolerance) = (self.session.route.ids, self.session.dialect.tolerance());
        let mut record = Vec::new();
        self.session.log.update(|log| {
            if log.numbering == Numbering::Open {
                log.numbering = numbering(ids, tolerance, false);
            }
            if dial == Dial::Fallback {
                log.source = Source::Fallback;
            }
            log.goes_on(Splice::Differs);
            for event in events {
                record.clear();
                write_body(event.name.as_bytes(), event.data.as_bytes(), &mut record);
                let _ = log.ring.push(&record, None);
            }
        });
        self.aim.well();
        let now = self.app.clock.now();
        self.arrived(now, events.len() as u64);
        self.machine.handle(now, Input::Events { content: true });
        self.machine.handle(now, Input::Done);
    }
}

/// Waits until a client came or went, somebody asked to stop, or another process owns the session.
fn changed(
    control: &mut Follower<Control>,
    known: usize,
    cx: &mut Context<'_>,
) -> Poll<(usize, Option<Box<Fault>>, Owner)> {
    control.poll(cx, |control| {
        let (stop, attached) = (control.stop.take(), control.attached());
        let news = attached != known || stop.is_some() || control.owner != Owner::Here;
        news.then_some((attached, stop, control.owner))
    })
}

/// Waits until `due`. The timer is touched only when it must ring earlier, or rang too early: a busy stream moves its
/// deadline with every event, and that costs nothing.
fn poll_until(mut timer: Pin<&mut Sleep>, due: tokio::time::Instant, cx: &mut Context<'_>) -> Poll<()> {
    if due < timer.deadline() || timer.is_elapsed() {
        timer.as_mut().reset(due);
    }
    timer.poll(cx)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of streams are read at once; what each costs is decided here.
    #[test]
    fn a_pump_is_small() {
        assert!(size_of::<Pump>() <= 536, "{}", size_of::<Pump>());
    }
}
