//! What a session's spans say: one for the session, one below it for each request to an upstream.
//!
//! All of it is known when the thing is over; per event there are two additions. Names follow the semantic conventions
//! where they have one, and begin with `streamkeeper.` else. Never in a span: paths, queries, header values, bodies,
//! events. Not here: the way to a collector (`telemetry/spans`).
//! Source: OpenTelemetry semantic conventions, HTTP spans and generative AI client spans.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use streamkeeper_session::{Code, Dial, Fault, Kind};
use tokio::time::Instant;

use super::Kept;
use crate::app::App;
use crate::clock::Entropy;
use crate::config::Upstream;
use crate::store::{LiveSession, Mark, Phase, Told};
use crate::telemetry::context::{self, Trace};
use crate::telemetry::spans::{KeyValue, Side, Span, SpanEvent, Spans};
use crate::upstream::Outgoing;

/// What a pump tells of itself beside its session's time line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Bytes read from upstreams, after decompression.
    pub(super) bytes: u64,
    /// The longest time between two arrivals of events, or between the last one and the end.
    pub(super) longest_silence: Duration,
}

/// What one pump tells; its spans only where there is a trace.
pub(super) struct Traced {
    facts: Facts,
    spanned: Option<Box<Spanned>>,
}

/// The spans of one pump.
struct Spanned {
    spans: Spans,
    trace: Trace,
    /// The id of the session's span.
    id: u64,
    method: Cow<'static, str>,
    /// What the model is asked to do, and by whom, as the conventions name it.
    asked: Asked,
    /// When this pump's part in the session began.
    began: Instant,
    /// What the wall's clock says at an instant.
    wall: (Instant, SystemTime),
    out: Option<Out>,
    tries: i64,
}

/// A request that is out.
struct Out {
    id: u64,
    method: Cow<'static, str>,
    kind: &'static str,
    upstream: Arc<Upstream>,
    endpoint: usize,
    since: Instant,
    status: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Asked {
    provider: Option<&'static str>,
    operation: Option<&'static str>,
}

impl Traced {
    /// Of the pump that reads `session` from its beginning.
    pub(super) fn new(app: &App, session: &LiveSession, request: &Kept) -> Self {
        let spanned = request.trace.as_deref().map(|trace| {
            Box::new(Spanned {
                spans: app.spans.clone(),
                trace: *trace,
                id: span_id(&app.entropy),
                method: method(&request.method()),
                asked: asked(session.dialect.name(), request.uri().path()),
                began: session.timeline.since(),
                wall: (Instant::now(), SystemTime::now()),
                out: None,
                tries: 0,
            })
        });
        Self { facts: Facts::default(), spanned }
    }

    /// Others have read the session before: its span here begins now.
    pub(super) fn begins_now(&mut self) {
        if let Some(spanned) = &mut self.spanned {
            spanned.began = spanned.wall.0;
        }
    }

    /// The trace's id, for the log.
    pub(super) fn trace_id(&self) -> Option<String> {
        self.spanned.as_ref().map(|spanned| spanned.trace.hex())
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// So many bytes came.
    pub(super) fn bytes(&mut self, bytes: usize) {
        self.facts.bytes += bytes as u64;
    }

    /// Nothing had come for so long.
    pub(super) fn silence(&mut self, silence: Duration) {
        self.facts.longest_silence = self.facts.longest_silence.max(silence);
    }

    /// A request goes out: it has a span of its own, and its headers say so. Without a trace they say nothing.
    pub(super) fn out(
        &mut self,
        dial: Dial,
        upstream: &Arc<Upstream>,
        endpoint: usize,
        entropy: &Entropy,
        outgoing: &mut Outgoing,
    ) {
        let Some(spanned) = &mut self.spanned else { return context::forget(&mut outgoing.headers) };
        let id = span_id(entropy);
        spanned.trace.write(id, &mut outgoing.headers);
        let kind = match dial {
            Dial::Stream { .. } => "stream",
            Dial::Resume => "native_resume",
            Dial::Continuation => "continuation",
            Dial::Fallback => "fallback",
        };
        let method = method(&outgoing.method);
        spanned.begin(Out {
            id,
            method,
            kind,
            upstream: Arc::clone(upstream),
            endpoint,
            since: Instant::now(),
            status: None,
        });
    }

    /// A request is out already: it passed, with its caller's headers as they were.
    pub(super) fn adopted(&mut self, entropy: &Entropy, upstream: &Arc<Upstream>, endpoint: usize) {
        let Some(spanned) = &mut self.spanned else { return };
        let (method, since) = (spanned.method.clone(), spanned.began);
        let (id, upstream) = (span_id(entropy), Arc::clone(upstream));
        spanned.begin(Out { id, method, kind: "adopted", upstream, endpoint, since, status: None });
    }

    /// The head of its answer came.
    pub(super) fn head(&mut self, status: StatusCode) {
        if let Some(out) = self.spanned.as_mut().and_then(|spanned| spanned.out.as_mut()) {
            out.status = Some(status.as_u16());
        }
    }

    /// The request that is out, if there is one, is over: well, or with this fault.
    pub(super) fn try_over(&mut self, fault: Option<&Fault>) {
        if let Some(spanned) = &mut self.spanned {
            spanned.try_over(fault);
        }
    }

    /// This pump's part in the session is over. Call after [`try_over`](Self::try_over).
    pub(super) fn over(&self, session: &LiveSession, outcome: &'static str, fault: Option<&Fault>) {
        if let Some(spanned) = &self.spanned {
            spanned.over(&self.facts, session, outcome, fault);
        }
    }
}

impl Spanned {
    fn begin(&mut self, out: Out) {
        self.tries += 1;
        self.out = Some(out);
    }

    fn try_over(&mut self, fault: Option<&Fault>) {
        let Some(out) = self.out.take() else { return };
        let Some(trace) = self.wanted() else { return };
        let mut attributes = vec![
            KeyValue::new("http.request.method", out.method.clone()),
            KeyValue::new("streamkeeper.try.kind", out.kind),
            KeyValue::new("streamkeeper.upstream", out.upstream.name.clone()),
        ];
        if let Some(endpoint) = out.upstream.endpoints.get(out.endpoint) {
            let port =
                endpoint.authority.port_u16().unwrap_or(if endpoint.scheme.as_str() == "https" { 443 } else { 80 });
            attributes.push(KeyValue::new("server.address", endpoint.authority.host().to_owned()));
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
        if self.tries > 1 {
            attributes.push(KeyValue::new("http.request.resend_count", self.tries - 1));
        }
        attributes.extend(out.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        attributes.extend(self.asked.provider.map(|provider| KeyValue::new("gen_ai.provider.name", provider)));
        attributes.extend(self.asked.operation.map(|operation| KeyValue::new("gen_ai.operation.name", operation)));
        attributes.extend(error_type(fault));
        let name = self.asked.operation.map_or(out.method, Cow::Borrowed);
        // What we broke off ourselves is no failure of the upstream.
        let failed = fault.is_some_and(|fault| !is_ours(fault.code));
        self.spans.record(Span {
            trace,
            id: out.id,
            parent: Some(self.id),
            name,
            side: Side::Client,
            start: self.at(out.since),
            end: self.at(Instant::now()),
            attributes,
            events: Vec::new(),
            dropped_events: 0,
            failed,
        });
    }

    fn over(&self, facts: &Facts, session: &LiveSession, outcome: &'static str, fault: Option<&Fault>) {
        let Some(trace) = self.wanted() else { return };
        let told = session.timeline.tell();
        let mut attributes = self.of_the_session(facts, session, &told);
        attributes.push(KeyValue::new("streamkeeper.outcome", outcome));
        attributes.extend(error_type(fault));
        let callers = |fault: &Fault| matches!(fault.kind, Kind::Validation | Kind::Business);
        self.spans.record(Span {
            trace,
            id: self.id,
            parent: trace.parent(),
            name: format!("{} {}", self.method, session.route.path).into(),
            side: Side::Server,
            start: self.at(self.began),
            end: self.at(Instant::now()),
            attributes,
            events: self.events(session, &told),
            dropped_events: told.dropped,
            failed: fault.is_some_and(|fault| !callers(fault) && !is_ours(fault.code)),
        });
    }

    fn of_the_session(&self, facts: &Facts, session: &LiveSession, told: &Told) -> Vec<KeyValue> {
        let (status, source, count) = session.log.peek(|log| {
            let status = match &log.phase {
                Phase::Refused(refusal) => {
                    refusal.answer.as_ref().map_or(refusal.fault.status, |(status, ..)| status.as_u16())
                }
                Phase::Open | Phase::Pending => 200,
            };
            (status, log.source.as_str(), log.ring.next_seq().saturating_sub(1))
        });
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let ms = |time: Duration| number(millis(time));
        let mut attributes = vec![
            KeyValue::new("http.request.method", self.method.clone()),
            KeyValue::new("http.route", session.route.path.clone()),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("streamkeeper.session.id", session.id.to_string()),
            KeyValue::new("streamkeeper.route", session.route.name.clone()),
            KeyValue::new("streamkeeper.dialect", session.dialect.name()),
            KeyValue::new("streamkeeper.source", source),
            KeyValue::new("streamkeeper.events", number(count)),
            KeyValue::new("streamkeeper.bytes", number(facts.bytes)),
            KeyValue::new("streamkeeper.tries", self.tries),
            KeyValue::new("streamkeeper.readers", number(told.counts.readers)),
            KeyValue::new("streamkeeper.resumes", number(told.counts.resumes)),
            KeyValue::new("streamkeeper.replayed", number(told.counts.replayed)),
            KeyValue::new("streamkeeper.longest_silence_ms", ms(facts.longest_silence)),
        ];
        attributes.extend(told.stages.head.map(|time| KeyValue::new("streamkeeper.head_ms", ms(time))));
        attributes.extend(told.stages.first_event.map(|time| KeyValue::new("streamkeeper.first_event_ms", ms(time))));
        attributes
    }

    /// What the time line has to tell since this pump began.
    fn events(&self, session: &LiveSession, told: &Told) -> Vec<SpanEvent> {
        // A time line counts in whole milliseconds: what is in the one in which this pump began may be its own.
        let mine = told.entries.iter().filter_map(|(time, mark)| {
            let at = session.timeline.since() + *time;
            (at + Duration::from_millis(1) > self.began).then(|| (at.max(self.began), mark))
        });
        mine.filter_map(|(at, mark)| {
            let (name, attributes) = event(mark)?;
            Some(SpanEvent::new(name, self.at(at), attributes, 0))
        })
        .collect()
    }

    fn wanted(&self) -> Option<Trace> {
        Some(self.trace).filter(|trace| self.spans.wants(trace))
    }

    /// What the wall's clock said at `instant`: all times of a pump fit each other, whatever is done to that clock.
    fn at(&self, instant: Instant) -> SystemTime {
        let (known, wall) = self.wall;
        match instant.checked_duration_since(known) {
            Some(later) => wall + later,
            None => wall - known.saturating_duration_since(instant),
        }
    }
}

/// What of a time line is an event of the session's span. Requests to upstreams have spans of their own.
fn event(mark: &Mark) -> Option<(&'static str, Vec<KeyValue>)> {
    let none = Vec::new;
    Some(match mark {
        Mark::FirstEvent => ("streamkeeper.first_event", none()),
        Mark::Try { dial: Dial::Resume, .. } => ("streamkeeper.native_resume", none()),
        Mark::Try { dial: Dial::Continuation, .. } => ("streamkeeper.continuation", none()),
        Mark::Try { dial: Dial::Fallback, .. } => ("streamkeeper.fallback", none()),
        Mark::TryFailed(code) => match code.stage() {
            Some(stage) => ("streamkeeper.timeout", vec![KeyValue::new("streamkeeper.stage", stage)]),
            None => ("streamkeeper.try_failed", vec![KeyValue::new("error.type", code.as_str())]),
        },
        Mark::Resumed(result) => ("streamkeeper.resume", vec![KeyValue::new("streamkeeper.result", *result)]),
        Mark::Gap(reason) => ("streamkeeper.gap", vec![KeyValue::new("streamkeeper.reason", reason.as_str())]),
        Mark::Stopped => ("streamkeeper.stopped", none()),
        Mark::TakenOver => ("streamkeeper.takeover", none()),
        Mark::HandedOver => ("streamkeeper.hand_over", none()),
        _ => return None,
    })
}

fn error_type(fault: Option<&Fault>) -> Option<KeyValue> {
    fault.map(|fault| KeyValue::new("error.type", fault.code.as_str()))
}

/// Faults by which a client or this process ends what went well.
fn is_ours(code: Code) -> bool {
    matches!(code, Code::SessionNotFound | Code::SessionGap | Code::Draining)
}

/// The methods that have a name of their own; a caller cannot make more.
fn method(method: &Method) -> Cow<'static, str> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| known == method).unwrap_or("_OTHER").into()
}

/// What the wire alone tells of provider and operation.
fn asked(dialect: &str, path: &str) -> Asked {
    let (provider, operation) = match dialect {
        "openai" if path.ends_with("/chat/completions") => ("openai", "chat"),
        "openai" => ("openai", "text_completion"),
        "responses" => ("openai", "chat"),
        "anthropic" => ("anthropic", "chat"),
        "gemini" => ("gcp.gemini", "generate_content"),
        "cohere" => ("cohere", "chat"),
        _ => return Asked::default(),
    };
    Asked { provider: Some(provider), operation: Some(operation) }
}

/// A time as logs and spans have it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A span's id is never 0.
fn span_id(entropy: &Entropy) -> u64 {
    entropy.u64().max(1)
}
