//! The pump: reads one session's upstream into its log. The only place where upstream I/O meets a session.
//!
//! It belongs to the session, not to a client. The machine of `streamkeeper-session` decides; the pump does what it
//! says, tells it what happened, and keeps the one timer it asks for. At a tie data beats the timer: I/O is polled
//! before it.

mod attempt;
mod inflate;
mod reading;
mod request;

pub use attempt::is_event_stream;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use streamkeeper_session::{Action, Code, Dial, End, ErrorEvent, Fault, Follower, Input, Session};
use streamkeeper_sse::{OwnedEvent, write_body};
use tokio::time::Sleep;

use crate::app::App;
use crate::dialect::{Delivered, Moment, Reader};
use crate::store::{Control, LiveSession, Log, Numbering, Phase, Refusal, Source, WholeAnswer};
use crate::telemetry::metrics::{self, StreamMeter};
use crate::upstream::{Dialler, Outgoing};
use attempt::{Attempt, Progress};
use reading::numbering;
use request::Next;

/// The client's request, kept for as long as it may have to be sent (again).
#[derive(Debug, Clone)]
pub struct Kept {
    /// Head, as it goes to the upstream.
    pub outgoing: Outgoing,
    /// Body.
    pub body: Bytes,
}

/// Where the first upstream answer comes from.
pub enum Begin {
    /// Nothing was sent yet.
    Dial,
    /// A response that turned out to be an event stream; its request cannot be sent again.
    Adopted(Box<Response<Incoming>>),
}

/// Reads one upstream into one session.
pub struct Pump {
    app: Arc<App>,
    session: Arc<LiveSession>,
    dialler: Arc<Dialler>,
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
    refusal: Option<WholeAnswer>,
    sealed: bool,
}

impl Pump {
    /// Starts a task that runs until the session has ended.
    pub fn spawn(app: &Arc<App>, session: &Arc<LiveSession>, dialler: &Arc<Dialler>, request: Kept, begin: Begin) {
        let known = request.outgoing.headers.contains_key(crate::upstream::headers::IDEMPOTENCY_KEY);
        let plan = session.route.plan(dialler.endpoints(), known);
        let (seed, now) = (app.entropy.u64(), app.clock.now());
        let machine = match begin {
            Begin::Dial => Session::new(plan, seed, now),
            Begin::Adopted(_) => Session::adopted(plan, seed, now),
        };
        let mut pump = Self {
            app: Arc::clone(app),
            session: Arc::clone(session),
            dialler: Arc::clone(dialler),
            request,
            machine,
            meter: StreamMeter::begin(&session.route.name),
            attempt: Attempt::None,
            reader: None,
            control: session.control.follow(),
            readers: 1,
            last_arrival: None,
            last_kept: None,
            refusal: None,
            sealed: false,
        };
        if let Begin::Adopted(response) = begin {
            pump.attempt = pump.open(*response, Dial::Stream { other_endpoint: false });
        }
        tokio::spawn(pump.run());
    }

    async fn run(mut self) {
        let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.perform(action).await;
            }
            let Some(due) = self.machine.poll_timeout() else { break };
            tokio::select! {
                biased;
                (readers, stop) = poll_fn(|cx| changed(&mut self.control, self.readers, cx)) => {
                    let now = self.app.clock.now();
                    if readers != self.readers {
                        self.readers = readers;
                        self.machine.handle(now, Input::Readers(readers));
                    }
                    if let Some(fault) = stop {
                        self.machine.handle(now, Input::Stop(fault));
                    }
                }
                progress = poll_fn(|cx| self.attempt.poll(cx, &self.session, self.app.clock)) => self.progressed(progress),
                () = wait_until(timer.as_mut(), self.app.clock.instant(due)) => {
                    self.machine.handle_timeout(self.app.clock.now());
                }
            }
        }
        self.attempt.drain().await;
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Dial(dial) => self.dial(dial),
            Action::HangUp => self.hang_up(),
            Action::Commit => self.session.log.update(|log| log.phase = Phase::Open),
            Action::Refuse(fault) => self.refuse(fault).await,
            Action::Finish(end) => self.finish(end),
        }
    }

    fn dial(&mut self, dial: Dial) {
        match request::next(&self.session, &self.request, dial, self.last_kept.as_deref()) {
            Some(Next { outgoing, body, reader }) => {
                self.reader = reader;
                self.attempt = Attempt::dial(Arc::clone(&self.dialler), outgoing, body, dial);
            }
            None => self.machine.handle(self.app.clock.now(), Input::Impossible),
        }
    }

    fn hang_up(&mut self) {
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
        let now = self.app.clock.now();
        match progress {
            Progress::Response(Ok(response), dial) => {
                self.attempt = self.open(response, dial);
                if matches!(self.attempt, Attempt::Reading(_)) {
                    metrics::attempt("ok");
                    self.machine.handle(now, Input::Head);
                }
            }
            Progress::Response(Err(none), _) => self.failed(none.fault, none.sent),
            Progress::Batch(batch) => {
                self.arrived(now, batch.events);
                if batch.events > 0 {
                    self.machine.handle(now, Input::Events { content: batch.content });
                }
                match batch.over {
                    None => {}
                    Some(Ok(())) => self.machine.handle(now, Input::Done),
                    Some(Err(fault)) => self.failed(fault, true),
                }
                // An upstream that never pauses must not outrun the clock.
                self.machine.handle_timeout(now);
            }
            Progress::Body(head, body, dial) => self.answered(head, body, dial),
        }
    }

    fn arrived(&mut self, now: Duration, events: u64) {
        if events == 0 {
            return;
        }
        let last = self.last_arrival.replace(now);
        self.meter.events(events, last.map(|last| now.saturating_sub(last)), now.saturating_sub(self.session.started));
        self.app.store.charge(&self.session);
    }

    fn failed(&mut self, fault: Fault, sent: bool) {
        self.hang_up();
        metrics::attempt(fault.code.as_str());
        if fault.code != Code::UpstreamRejected {
            self.dialler.note(false);
        }
        tracing::debug!(session = %self.session.id, code = %fault, cause = fault.cause.as_deref(), "try failed");
        self.machine.handle(self.app.clock.now(), Input::Failed { fault, sent });
    }

    /// A response head: the start of a stream, or of something else that is read whole first.
    fn open(&mut self, response: Response<Incoming>, dial: Dial) -> Attempt {
        if dial != Dial::Fallback && attempt::is_event_stream(&response) {
            let headers = Arc::new(attempt::headers_for_clients(response.headers()));
            let source = if matches!(dial, Dial::Resume | Dial::Continuation) { Source::Continued } else { Source::Live };
            self.session.log.update(|log| {
                log.headers = headers;
                log.source = source;
            });
        }
        Attempt::open(response, dial, &self.session, &self.request, &self.app.settings.limits)
    }

    /// A whole body that is not an event stream.
    fn answered(&mut self, head: http::response::Parts, body: Result<Bytes, Fault>, dial: Dial) {
        let body = match body {
            Ok(body) => body,
            Err(fault) => return self.failed(fault, true),
        };
        if let Some(fault) = attempt::refusal_of(&head) {
            if head.status.as_u16() < 500 {
                self.refusal = Some((head.status, attempt::headers_for_clients(&head.headers), body));
            }
            return self.failed(fault, true);
        }
        let delivered = self.machine.has_delivered();
        let events = if delivered { self.rest_of(&body) } else { self.events_of(&head.headers, &body) };
        if dial == Dial::Fallback {
            let kind = if delivered { "after_partial" } else { "before_content" };
            metrics::fallback(kind, if events.is_ok() { "ok" } else { "failed" });
        }
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
        self.session.dialect.events_of(&self.request.ask(), body).map_err(|none| match none {
            NoAnswer::Fault(fault) => *fault,
            NoAnswer::NotAnAnswer => Code::BadContentType.into(),
        })
    }

    /// What of a whole answer the clients do not have yet, if they have its beginning.
    fn rest_of(&self, body: &[u8]) -> Result<Vec<OwnedEvent>, Fault> {
        let rest = self.session.log.peek(|log| {
            if log.ring.first_seq() > 1 {
                return None; // the beginning is gone: nothing to compare with
            }
            let delivered: Vec<_> = attempt::events_in(&log.ring).collect();
            let mut views = delivered
                .iter()
                .map(|event| Delivered { name: event.name.as_str().into(), data: event.data.as_str().into() });
            self.session.dialect.rest_of(&self.request.ask(), &mut views, body)
        });
        rest.ok_or_else(|| {
            Fault::new(Code::UpstreamTruncated).cause("the whole answer does not begin with what was delivered")
        })
    }

    /// A whole answer takes the stream's place.
    fn stand_in(&mut self, events: &[OwnedEvent], dial: Dial) {
        metrics::attempt("ok");
        let (ids, tolerance) = (self.session.route.ids, self.session.dialect.tolerance());
        let mut record = Vec::new();
        self.session.log.update(|log| {
            if log.numbering == Numbering::Open {
                log.numbering = numbering(ids, tolerance, false);
            }
            if dial == Dial::Fallback {
                log.source = Source::Fallback;
            }
            for event in events {
                record.clear();
                write_body(event.name.as_bytes(), event.data.as_bytes(), &mut record);
                let _ = log.ring.push(&record, None);
            }
        });
        let now = self.app.clock.now();
        self.arrived(now, events.len() as u64);
        self.machine.handle(now, Input::Events { content: true });
        self.machine.handle(now, Input::Done);
    }

    async fn refuse(&mut self, fault: Fault) {
        let answer = self.refusal.take().filter(|_| matches!(fault.code, Code::UpstreamRejected | Code::RateLimited));
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
        self.app.store.remove(self.session.id).await;
    }

    fn finish(&mut self, end: End) {
        let now = self.app.clock.now();
        let terminal = end.fault().map(|fault| self.told(fault)).unwrap_or_default();
        let (ids, tolerance) = (self.session.route.ids, self.session.dialect.tolerance());
        let fault = end.fault().cloned();
        self.session.log.update(|log| {
            if log.numbering == Numbering::Open {
                log.numbering = numbering(ids, tolerance, false);
            }
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
        if fault.is_none() {
            self.dialler.note(true);
        }
        self.app.store.ended(&self.session);
        let age = self.app.clock.now().saturating_sub(self.session.started);
        self.meter.end(outcome, age);
        let (events, source) = self.session.log.peek(|log| (log.ring.next_seq().saturating_sub(1), log.source));
        tracing::info!(
            target: "streamkeeper::stream",
            session = %self.session.id,
            request_id = %self.session.request_id,
            route = %self.session.route.name,
            dialect = self.session.dialect.name(),
            outcome,
            code = fault.map(|fault| fault.code.as_str()),
            cause = fault.and_then(|fault| fault.cause.as_deref()),
            source = source.as_str(),
            events,
            tries = self.machine.dials(),
            readers = self.readers,
            ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
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

/// Waits until a client came or went, or somebody asked to stop.
fn changed(
    control: &mut Follower<Control>,
    known: usize,
    cx: &mut std::task::Context<'_>,
) -> std::task::Poll<(usize, Option<Fault>)> {
    control.poll(cx, |control| {
        let stop = control.stop.take();
        (control.readers != known || stop.is_some()).then_some((control.readers, stop))
    })
}

/// Waits until `due`. The timer is touched only when it must ring earlier, or rang too early: a busy stream moves its
/// deadline with every event, and that costs nothing.
async fn wait_until(mut timer: Pin<&mut Sleep>, due: tokio::time::Instant) {
    if due < timer.deadline() || timer.is_elapsed() {
        timer.as_mut().reset(due);
    }
    timer.as_mut().await;
}

impl Log {
    /// An empty log of a session that begins now.
    pub fn new(limits: crate::config::Session) -> Self {
        let limits = streamkeeper_session::RingLimits { max_events: limits.max_events, max_bytes: limits.max_bytes };
        Self {
            ring: streamkeeper_session::Ring::new(limits),
            phase: Phase::Pending,
            numbering: Numbering::Open,
            source: Source::Live,
            headers: Arc::default(),
            last_event: None,
            ended: None,
        }
    }
}
