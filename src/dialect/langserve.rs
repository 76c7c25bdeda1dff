//! LangServe: a POST to `…/stream` (also `stream_log`, `stream_events`) whose JSON body has an `input` runs a chain and
//! streams its output as `data` events between `metadata` and `end`.
//!
//! Its server ends with `event: end` without any data. Such a block is no event to whoever follows WHATWG, so it
//! never arrives here, and a clean end has to pass for whole; failures of the chain are told by `event: error`. Where
//! we end a stream ourselves, `end` has empty data: the Python client stops at the name, and the JavaScript client
//! would take any other data for a chunk.
//!
//! Not here: what an output is. Source: `langserve` 0.3 (server and Python client) and `@langchain/core` (JavaScript
//! client), read.

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::Value;
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, RawObject, quoted, raw_text};
use super::langgraph::{RunReader, error_object, fault, with_path};
use super::{Ask, Asks, Delivered, Dialect, Moment, NoAnswer, Reader};

const STREAM: &str = "/stream";
const INVOKE: &str = "/invoke";
const DATA: &str = "data";
const END: &str = "end";
const METADATA: &str = "metadata";

/// The wire of LangServe's streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct LangServe;

impl LangServe {
    /// Whether a request may be this wire's: it posts JSON to a path whose last segment is one of its three. Only
    /// the body tells for sure: where it is there, it must have an `input`.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        let ours = [STREAM, "/stream_log", "/stream_events"].iter().any(|end| ask.uri.path().ends_with(end));
        ask.method == Method::POST && ours && json::sends_json(ask.headers) && (ask.body.is_empty() || has_input(ask))
    }
}

fn has_input(ask: &Ask<'_>) -> bool {
    RawObject::read(ask.body).is_some_and(|body| body.get("input").is_some())
}

impl Dialect for LangServe {
    fn name(&self) -> &'static str {
        "langserve"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if Self::recognises(&Ask { body: &[], ..*ask }) { Asks::Body } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        Self::recognises(ask) && has_input(ask)
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(RunReader::default())
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new("error", Value::Object(error_object(error)).to_string())]
    }

    /// `detail` is where this server's own refusals say why.
    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        let mut whole = error_object(error);
        whole.insert("detail".to_owned(), error.message.as_ref().into());
        Value::Object(whole).to_string().into()
    }

    /// The JavaScript client takes every event that has data for a chunk.
    /// What `/stream` gives in chunks, `/invoke` gives whole; logs and events have no such form.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let base = ask.uri.path().strip_suffix(STREAM).filter(|_| has_input(ask))?;
        Some((with_path(ask.uri, &format!("{base}{INVOKE}"))?, Bytes::copy_from_slice(ask.body)))
    }

    fn events_of(&self, ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        let whole = RawObject::read(line.as_bytes()).ok_or(NoAnswer::NotAnAnswer)?;
        let Some(output) = whole.get("output").filter(|_| ask.uri.path().ends_with(STREAM)) else {
            let reports = ["error", "status_code"].iter().any(|key| whole.solid(key).is_some());
            return Err(if reports { NoAnswer::Fault(fault(line.as_bytes())) } else { NoAnswer::NotAnAnswer });
        };
        let metadata = whole.solid(METADATA).map(|metadata| OwnedEvent::new(METADATA, metadata.get()));
        let said = [OwnedEvent::new(DATA, output.get()), end()];
        Ok(metadata.into_iter().chain(said).collect())
    }

    /// Of an output that is text, chunks are its pieces; of any other it is not known how they add up.
    fn rest_of(
        &self,
        ask: &Ask<'_>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        let whole = RawObject::read(answer).filter(|_| ask.uri.path().ends_with(STREAM))?;
        let output = raw_text(whole.get("output")?)?;
        let mut left = output.as_ref();
        for event in delivered {
            match event.name.as_ref() {
                METADATA => {}
                DATA => {
                    let piece: String = serde_json::from_str(&event.data).ok()?;
                    left = left.strip_prefix(piece.as_str())?;
                }
                _ => return None,
            }
        }
        let said = (!left.is_empty()).then(|| OwnedEvent::new(DATA, quoted(left)));
        Some(said.into_iter().chain([end()]).collect())
    }
}

fn end() -> OwnedEvent {
    OwnedEvent::new(END, "")
}

#[cfg(test)]
mod tests;
