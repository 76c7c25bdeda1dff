//! Cohere's Chat API, version 2: `/v2/chat`, of Cohere, of Azure's and vLLM's deployments of its models.
//!
//! | file | idea |
//! |---|---|
//! | `reader` | one upstream event: content, preamble, the end, or an error |
//! | `answer` | a JSON answer as the events of a stream |
//! | `rest` | what of a JSON answer is left after some events were delivered |
//!
//! Every event has a name, and the same again as `type` in its data; the SDKs go by the data. Not here: version 1
//! (`event_type`, one JSON object per line). Source: Cohere's API reference ("Chat with Streaming"), the types of its
//! Python and Node SDKs, and what they do when run against a local server.

mod answer;
mod reader;
mod rest;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Map, Value, json};
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, ObjectWriter, RawObject, raw_text};
use super::{Ask, Asks, Delivered, Dialect, Moment, NoAnswer, Reader, Tolerance};

/// The event that ends a stream, well or not.
const END: &str = "message-end";

/// The wire of Cohere's version 2.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cohere;

impl Cohere {
    /// Whether method and path are this wire's: a POST to a path that ends with `/v2/chat`.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        ask.method == Method::POST && ask.uri.path().ends_with("/v2/chat")
    }
}

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if Self::recognises(ask) { Asks::Body } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        let streams = |body: RawObject<'_>| body.get("stream").is_some_and(|stream| stream.get() == "true");
        Self::recognises(ask) && RawObject::read(ask.body).is_some_and(streams)
    }

    /// The SDKs hand `finish_reason: "ERROR"` on like any other end, so only the broken body makes them raise.
    fn tolerance(&self) -> Tolerance {
        Tolerance { abort_after_error: true, ..Tolerance::default() }
    }

    fn only_generates(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(reader::EventReader::default())
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        let delta = json!({ "finish_reason": "ERROR", "error": error.message });
        let end = json!({ "type": END, "delta": delta, "proxy_error": json::standard(error, false) });
        vec![OwnedEvent::new(END, end.to_string())]
    }

    /// `{"id","message",…STD,"error":STD}`: Cohere's own errors have an id and a message.
    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        let std = json::standard(error, false);
        let mut whole = Map::new();
        whole.insert("id".to_owned(), error.request_id.as_str().into());
        whole.insert("message".to_owned(), error.message.as_ref().into());
        whole.extend(std.clone());
        whole.insert("error".to_owned(), Value::Object(std));
        Value::Object(whole).to_string().into()
    }

    /// The SDKs know a closed set of types.
    /// `stream` is said to be required, so it is not left out.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let body = RawObject::read(ask.body)?;
        let mut out = ObjectWriter::new();
        for (name, value) in body.fields() {
            out.raw(name, if name == "stream" { "false" } else { value.get() });
        }
        Some((ask.uri.clone(), out.finish().into()))
    }

    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        answer::events(answer)
    }

    fn rest_of(
        &self,
        _ask: &Ask<'_>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        rest::events(delivered, answer)
    }
}

/// Whether a `finish_reason` says that the answer failed. The other reasons (`COMPLETE`, `MAX_TOKENS`, `TIMEOUT`, …)
/// come with an answer as good as it gets.
fn is_failure(ended: &RawObject<'_>) -> bool {
    ended.get("finish_reason").and_then(raw_text).is_some_and(|reason| reason.starts_with("ERROR"))
}

#[cfg(test)]
mod tests;
