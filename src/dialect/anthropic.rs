//! Anthropic's Messages API, and the servers that speak alike (DeepSeek, MiniMax, LiteLLM, vLLM, llama.cpp).
//!
//! | file | idea |
//! |---|---|
//! | `reader` | one upstream event: content, preamble, end, error |
//! | `vendor` | what the vendor's error types mean, and which of them we speak |
//! | `answer` | a JSON answer as the events of a stream |
//! | `rest` | what of a JSON answer is left after some events were delivered |
//! | `continuation` | a request that goes on with delivered text, and how its stream is joined to the first |
//!
//! Every event of this wire is named, and its data repeats the name as `type`; clients skip what has no name. Not
//! here: Bedrock's and Vertex's own framings of the same events. Source: Anthropic's API reference ("Messages",
//! "Streaming messages", "Errors") and what its SDKs accept and raise on when run against a local server.

mod answer;
mod continuation;
mod reader;
mod rest;
mod vendor;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Map, Value};
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, RawObject};
use super::{Ask, Asks, Continuation, Delivered, Dialect, Moment, NoAnswer, Prefill, Reader};

/// The name of the event that reports an error, and its `type`.
const ERROR: &str = "error";

/// The wire of Messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anthropic;

impl Anthropic {
    /// Whether method, path and headers are this wire's: a POST to `…/v1/messages`, or to any other `…/messages` if it
    /// names an `anthropic-version`, which the vendor demands and its SDKs send. Without that, such a path may as well
    /// be a chat app's, an OpenAI thread's or an MCP server's.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        let versioned = ask.headers.contains_key("anthropic-version");
        is_messages(ask) && (versioned || ask.uri.path().ends_with("/v1/messages"))
    }
}

/// What a route that names this wire is believed to mean by it.
fn is_messages(ask: &Ask<'_>) -> bool {
    ask.method == Method::POST && ask.uri.path().ends_with("/messages")
}

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    /// `Accept` is not asked: the SDKs send `application/json` even where they stream.
    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if is_messages(ask) { Asks::Body } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        is_messages(ask)
            && RawObject::read(ask.body)
                .and_then(|body| body.get("stream"))
                .is_some_and(|stream| stream.get() == "true")
    }

    fn only_generates(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(reader::MessageReader::default())
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new(ERROR, error_object(error))]
    }

    /// The vendor's body of an error and its event are the same object.
    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        error_object(error).into()
    }

    /// Clients with a closed list of events fail on one of ours.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let body = RawObject::read(ask.body)?;
        Some((ask.uri.clone(), body.without(&["stream"]).into()))
    }

    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        answer::events(answer)
    }

    fn continuation(
        &self,
        ask: &Ask<'_>,
        prefill: Prefill,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Continuation> {
        // The other forms are fields that this wire does not have.
        if prefill != Prefill::Trailing {
            return None;
        }
        continuation::request(ask, delivered)
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

/// The vendor's `{"type":"error","error":{"type","message"},"request_id"}` with the standard error in both objects.
/// Their `type` is the vendor's, so the standard's own is called `error_type`.
fn error_object(error: &ErrorEvent) -> String {
    let std = json::standard(error, false);
    let mut inner = std.clone();
    inner.insert("type".to_owned(), vendor::spoken(error).into());
    inner.insert("error_type".to_owned(), error.kind.as_str().into());
    let details = Map::from_iter([("error_code".to_owned(), Value::from(error.code.as_str()))]);
    inner.insert("details".to_owned(), details.into());
    let mut whole = std;
    whole.insert("type".to_owned(), ERROR.into());
    whole.insert(ERROR.to_owned(), inner.into());
    Value::Object(whole).to_string()
}

#[cfg(test)]
mod accumulate;
#[cfg(test)]
mod tests;
