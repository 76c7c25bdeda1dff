//! LangGraph's server: a POST to `…/runs/stream` runs a graph and streams what it does; a GET of `…/runs/{id}/stream`
//! joins a run.
//!
//! Current servers send no terminator. Of `langgraph-api` 0.16 (Python, with its in-memory runtime) and
//! `@langchain/langgraph-api` 2.0 (Node) neither writes `event: end`: the body just ends, also after `event: error`. So
//! a clean end is whole here, though a proxy's cut looks the same; the Python SDK asks for the run's state for
//! that very reason. Older servers sent `end` with `null`; where it comes, it is the end.
//!
//! Not here: what a graph's events mean. A run of a thread is never repeated in another form, because it would
//! change the thread a second time. Source: the servers and SDKs named above, read.

use bytes::Bytes;
use http::{HeaderValue, Method, Uri};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use streamkeeper_session::{Code, ErrorEvent, Fault, Kind, Report};
use streamkeeper_sse::{Event, OwnedEvent};

use super::json::{self, LABEL_CAP, MESSAGE_CAP, RawObject, raw_text, text_of};
use super::{Ask, Asks, CleanEnd, Delivered, Dialect, Meaning, Moment, NoAnswer, Reader, Resume};

const ERROR: &str = "error";
const METADATA: &str = "metadata";
/// Where a run is begun and streamed.
const STREAM: &str = "/runs/stream";
/// Where a run is begun and waited for.
const WAIT: &str = "/runs/wait";
/// The longest run id in bytes that goes into a path.
const RUN_ID_CAP: usize = 64;

/// The wire of LangGraph's runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct LangGraph;

impl LangGraph {
    /// Whether a request begins a run that streams, of a thread or of none, or joins one.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        let path = ask.uri.path();
        (ask.method == Method::POST && path.ends_with(STREAM)) || (ask.method == Method::GET && joins(path))
    }
}

/// `…/runs/{id}/stream`.
fn joins(path: &str) -> bool {
    let mut segments = path.rsplit('/');
    segments.next() == Some("stream")
        && segments.next().is_some_and(|id| !id.is_empty())
        && segments.next() == Some("runs")
}

impl Dialect for LangGraph {
    fn name(&self) -> &'static str {
        "langgraph"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if Self::recognises(ask) { Asks::Stream } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        Self::recognises(ask)
    }

    fn upstream_ids(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(RunReader::default())
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new(ERROR, Value::Object(error_object(error)).to_string())]
    }

    /// `detail` is where this server's own refusals say why.
    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        let mut whole = error_object(error);
        whole.insert("detail".to_owned(), error.message.as_ref().into());
        Value::Object(whole).to_string().into()
    }

    /// An app would take it for a mode of its own graph.
    /// Of runs without a thread that only tell the graph's state: what they would tell is the last state, for which
    /// a run can be waited.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let base = ask.uri.path().strip_suffix(STREAM)?;
        let of_a_thread = base.rsplit('/').nth(1) == Some("threads");
        if of_a_thread || !tells_only_state(&RawObject::read(ask.body)?) {
            return None;
        }
        Some((with_path(ask.uri, &format!("{base}{WAIT}"))?, Bytes::copy_from_slice(ask.body)))
    }

    fn events_of(&self, ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        if let Some(error) = RawObject::read(line.as_bytes()).and_then(|state| state.solid("__error__")) {
            return Err(NoAnswer::Fault(fault(error.get().as_bytes())));
        }
        if !RawObject::read(ask.body).is_some_and(|body| tells_only_state(&body)) {
            return Err(NoAnswer::NotAnAnswer);
        }
        Ok(vec![OwnedEvent::new("values", line)])
    }

    /// A run is joined by its id, which its first event told. Beginning it again would be another run.
    fn native_resume(
        &self,
        ask: &Ask<'_>,
        last_id: Option<&[u8]>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Resume> {
        let last_event_id = Some(HeaderValue::from_bytes(last_id?).ok()?);
        let uri = if ask.method == Method::GET {
            ask.uri.clone()
        } else {
            let base = ask.uri.path().strip_suffix(STREAM)?;
            let metadata = std::iter::from_fn(|| delivered.next()).find(|event| event.name == METADATA)?;
            let run = RawObject::read(metadata.data.as_bytes())?.get("run_id").and_then(raw_text)?;
            let plain = run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if run.is_empty() || run.len() > RUN_ID_CAP || !plain {
                return None;
            }
            with_path(ask.uri, &format!("{base}/runs/{run}/stream"))?
        };
        Some(Resume { method: Method::GET, uri, last_event_id, keep_body: false })
    }

    /// What was delivered is of another run.
    fn rest_of(
        &self,
        _ask: &Ask<'_>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        _answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        None
    }
}

/// Whether a run's body asks for `values` alone, which is also what it gets if it asks for nothing.
fn tells_only_state(body: &RawObject<'_>) -> bool {
    let values = |raw: &RawValue| raw.get() == "\"values\"";
    let mode = body.solid("stream_mode").is_none_or(|mode| match json::raw_list(mode) {
        Some(modes) => modes.into_iter().all(values),
        None => values(mode),
    });
    mode && body.solid("stream_subgraphs").is_none()
}

/// The same address with another path; the query stays.
pub(super) fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let whole = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    parts.path_and_query = Some(whole.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// `{"error":STD.type,"status_code":…,…STD}`, which LangServe's client understands as well.
pub(super) fn error_object(error: &ErrorEvent) -> Map<String, Value> {
    let mut whole = Map::new();
    whole.insert(ERROR.to_owned(), error.kind.as_str().into());
    whole.insert("status_code".to_owned(), status_of(error).into());
    whole.extend(json::standard(error, false));
    whole
}

/// The status an error would have had before the head.
fn status_of(error: &ErrorEvent) -> u16 {
    match error.code {
        Code::UpstreamError => Fault::reported(error.kind, error.recoverable, Report::default()).status,
        code => code.status(),
    }
}

/// The fault in `{error,message}` (LangGraph: the name of an exception) or `{status_code,message}` (LangServe).
pub(super) fn fault(data: &[u8]) -> Box<Fault> {
    let said: Map<String, Value> = match serde_json::from_slice(data) {
        Ok(Value::Object(said)) => said,
        Ok(Value::String(text)) => Map::from_iter([("message".to_owned(), text.into())]),
        _ => Map::from_iter([("message".to_owned(), String::from_utf8_lossy(data).into())]),
    };
    let first = |keys: &[&str], cap| keys.iter().find_map(|key| text_of(said.get(*key), cap));
    let report = Report {
        kind: first(&[ERROR, "type"], LABEL_CAP),
        code: first(&["status_code", "code"], LABEL_CAP),
        message: first(&["message", "detail"], MESSAGE_CAP),
        traceback: None,
    };
    let status = report.code.as_deref().and_then(|code| code.parse().ok());
    let (kind, recoverable) =
        by_status(status).or_else(|| by_name(report.kind.as_deref()?)).unwrap_or((Kind::System, true));
    Box::new(Fault::reported(kind, recoverable, report))
}

fn by_status(status: Option<u16>) -> Option<(Kind, bool)> {
    Some(match status? {
        402 | 403 => (Kind::Business, false),
        408 | 504 => (Kind::Timeout, true),
        429 => (Kind::RateLimit, true),
        400..=499 => (Kind::Validation, false),
        500..=599 => (Kind::System, true),
        _ => return None,
    })
}

/// Names of exceptions, of Python, LangGraph and the vendors' SDKs, in lower case; the first that is found decides.
const NAMES: &[(Kind, bool, &[&str])] = &[
    (Kind::RateLimit, true, &["ratelimit", "toomanyrequests", "resourceexhausted"]),
    (Kind::Timeout, true, &["timeout", "deadline"]),
    (Kind::Business, false, &["recursion", "interrupt", "permission", "forbidden", "quota", "rollback"]),
    (
        Kind::Validation,
        false,
        &["badrequest", "authentication", "unauthorized", "notfound", "unprocessable", "validation", "emptyinput"],
    ),
];

fn by_name(name: &str) -> Option<(Kind, bool)> {
    let name = name.to_ascii_lowercase();
    let (kind, recoverable, _) = NAMES.iter().find(|(_, _, words)| words.iter().any(|word| name.contains(word)))?;
    Some((*kind, *recoverable))
}

/// Reads a run: `metadata` comes first and says only which run it is.
#[derive(Debug, Default)]
pub(super) struct RunReader {
    started: bool,
}

impl Reader for RunReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        match event.name {
            b"error" => Meaning::Error(fault(event.data)),
            b"end" => Meaning::Done,
            b"metadata" if !self.started => Meaning::Preamble,
            _ => {
                self.started = true;
                Meaning::Content
            }
        }
    }

    fn clean_end(&self) -> CleanEnd {
        CleanEnd::Complete
    }
}

#[cfg(test)]
mod tests;
