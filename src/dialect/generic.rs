//! Any event stream that is no known wire: the usual `init`, `data`, `error`, `done` apps.
//!
//! What ends such a stream and what reports an error is configured, because nothing else can tell. Not here:
//! guesses about what an app's own events mean. Source: WHATWG HTML 9.2 for the stream, the project's design for
//! the standard error that both sides speak.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Map, Value};
use streamkeeper_session::{ErrorEvent, Fault, Gap, Kind, Report, Severity};
use streamkeeper_sse::{Event, OwnedEvent};

use super::json::{self, LABEL_CAP, MESSAGE_CAP, RawObject, TRACE_CAP, WAIT_CAP};
use super::{Ask, Asks, CleanEnd, Delivered, Dialect, Meaning, Moment, NoAnswer, Reader};
use crate::config::Generic;

/// The name of the event that reports an error where nothing else is configured, and of ours.
const ERROR: &str = "error";
/// What an event without a name is called.
const MESSAGE: &[u8] = b"message";

/// Any event stream, with what its route says about it.
#[derive(Debug, Clone)]
pub struct GenericDialect {
    config: Arc<Generic>,
}

impl GenericDialect {
    /// For a route that says `config`. Without names of error events, `error` is one.
    pub fn new(mut config: Generic) -> Self {
        if config.error_events.is_empty() {
            config.error_events.push(ERROR.to_owned());
        }
        Self { config: Arc::new(config) }
    }

    /// The event that ends a stream well, if the route names one. Its data is never empty, because events
    /// without data reach nobody.
    fn terminator(&self) -> Option<OwnedEvent> {
        let data = self.config.done_data.iter().find(|data| !data.is_empty());
        let by_data = data.map(|data| OwnedEvent::new("", data.as_str()));
        by_data.or_else(|| self.config.done_events.first().map(|name| OwnedEvent::new(name.as_str(), "{}")))
    }
}

impl Dialect for GenericDialect {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        let can_answer = ![Method::HEAD, Method::OPTIONS, Method::CONNECT, Method::TRACE].contains(ask.method);
        // Who takes JSON as well (an MCP client, say) must get it as it is; a stream that comes is kept all the same.
        let only_events =
            json::accepts(ask.headers, "text/event-stream") && !json::accepts(ask.headers, "application/json");
        if can_answer && only_events { Asks::Stream } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        self.asks(ask) == Asks::Stream
    }

    fn upstream_ids(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(GenericReader { config: Arc::clone(&self.config) })
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new(ERROR, error_object(error))]
    }

    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        error_object(error).into()
    }

    fn gap_event(&self, gap: &Gap) -> Option<OwnedEvent> {
        let data = serde_json::json!({ "from": gap.from, "to": gap.to, "reason": gap.reason.as_str() });
        Some(OwnedEvent::new("gap", data.to_string()))
    }

    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let body = RawObject::read(ask.body)?;
        let streams = body.get("stream").is_some_and(|value| value.get() == "true");
        streams.then(|| (ask.uri.clone(), body.without(&["stream", "stream_options"]).into()))
    }

    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        let error = RawObject::read(line.as_bytes()).and_then(|object| object.solid("error"));
        if error.is_some() {
            return Err(NoAnswer::Fault(Box::new(reported(line.as_bytes()).fault())));
        }
        let mut events = vec![OwnedEvent::new("", line)];
        events.extend(self.terminator());
        Ok(events)
    }

    fn tells_rest(&self) -> bool {
        false
    }

    /// What an app's events have to do with its answer, nobody knows here.
    fn rest_of(
        &self,
        _ask: &Ask<'_>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        _answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        None
    }
}

/// `{…STD,"error":STD}`.
fn error_object(error: &ErrorEvent) -> String {
    let std = json::standard(error, false);
    let mut whole = std.clone();
    whole.insert(ERROR.to_owned(), Value::Object(std));
    Value::Object(whole).to_string()
}

#[derive(Debug)]
struct GenericReader {
    config: Arc<Generic>,
}

impl Reader for GenericReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let name = if event.name.is_empty() { MESSAGE } else { event.name };
        let is = |names: &[String], value: &[u8]| names.iter().any(|name| name.as_bytes() == value);
        if is(&self.config.error_events, name) {
            let report = reported(event.data);
            if report.severity == Severity::Warning {
                return Meaning::Content;
            }
            return Meaning::Error(Box::new(report.fault()));
        }
        if is(&self.config.done_events, name) || is(&self.config.done_data, event.data) {
            return Meaning::Done;
        }
        Meaning::Content
    }

    fn clean_end(&self) -> CleanEnd {
        if self.config.done_events.is_empty() && self.config.done_data.is_empty() {
            CleanEnd::Complete
        } else {
            CleanEnd::Truncated
        }
    }
}

/// An app's error as it says it.
struct Reported {
    kind: Kind,
    severity: Severity,
    recoverable: Option<bool>,
    retry_after_ms: Option<u64>,
    report: Report,
}

impl Reported {
    fn fault(self) -> Fault {
        let may_pass = matches!(self.kind, Kind::System | Kind::Timeout | Kind::RateLimit);
        let recoverable = self.recoverable.unwrap_or(may_pass && self.severity != Severity::Fatal);
        let mut fault = Fault::reported(self.kind, recoverable, self.report);
        fault.severity = self.severity;
        fault.retry_after(self.retry_after_ms.map(|ms| std::time::Duration::from_millis(ms).min(WAIT_CAP)))
    }
}

/// Reads `{type,severity,message,code,recoverable}`, the same under `error`, `{"error":"text"}`, or plain text.
fn reported(data: &[u8]) -> Reported {
    let said = match serde_json::from_slice(data) {
        Ok(Value::Object(whole)) => whole,
        Ok(Value::String(text)) => Map::from_iter([("message".to_owned(), Value::String(text))]),
        _ => Map::from_iter([("message".to_owned(), Value::String(String::from_utf8_lossy(data).into_owned()))]),
    };
    let inner = said.get(ERROR).and_then(Value::as_object).unwrap_or(&said);
    let text = |key: &str, cap| json::text_of(inner.get(key), cap);
    let kind = text("type", LABEL_CAP);
    let message =
        text("message", MESSAGE_CAP).or_else(|| text("detail", MESSAGE_CAP)).or_else(|| text(ERROR, MESSAGE_CAP));
    Reported {
        kind: kind.as_deref().and_then(Kind::from_wire).unwrap_or(Kind::System),
        severity: match inner.get("severity").and_then(Value::as_str) {
            Some("warning") => Severity::Warning,
            Some("fatal") => Severity::Fatal,
            _ => Severity::Error,
        },
        recoverable: inner.get("recoverable").and_then(Value::as_bool),
        retry_after_ms: inner.get("retry_after_ms").and_then(Value::as_u64),
        report: Report { kind, code: text("code", LABEL_CAP), message, traceback: text("traceback", TRACE_CAP) },
    }
}

#[cfg(test)]
mod tests;
