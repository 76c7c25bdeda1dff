//! OpenAI chat completions and legacy completions, Azure's paths to them, and the servers that speak alike (vLLM,
//! TGI, llama.cpp, DeepSeek, Mistral, OpenRouter).
//!
//! | file | idea |
//! |---|---|
//! | `reader` | one upstream event: content, preamble, end, error |
//! | `vendor` | what a vendor's error object means |
//! | `answer` | a JSON answer as the chunks of a stream |
//! | `rest` | what of a JSON answer is left after some chunks were delivered |
//! | `continuation` | a request that goes on with a broken answer, and how its answer is joined on |
//!
//! Not here: the Responses API, which is another wire. Source: OpenAI's API reference ("Chat", "Completions") and
//! what their SDKs accept and raise on when run against a local server; named per rule where it is applied.

mod answer;
mod continuation;
mod reader;
mod rest;
mod vendor;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::Value;
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, RawObject};
use super::{Ask, Asks, Continuation, Delivered, Dialect, Moment, NoAnswer, Prefill, Reader};

/// The data that ends a stream well.
const DONE: &str = "[DONE]";

/// The wire of chat completions and completions.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenAi;

impl OpenAi {
    /// Whether method and path are this wire's: a POST to a path whose last segment is `completions`, with
    /// whatever before it (`/v1/chat/…`, Azure's `/openai/deployments/{name}/chat/…`) and any query.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        ask.method == Method::POST && ask.uri.path().ends_with("/completions")
    }
}

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    /// `Accept` is not asked: the SDKs send `application/json` even where they stream.
    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if Self::recognises(ask) { Asks::Body } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        Self::recognises(ask) && Wishes::read(ask.body).stream
    }

    fn only_generates(&self) -> bool {
        true
    }

    fn reader(&self, ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(reader::ChunkReader::new(Wishes::read(ask.body).one_choice))
    }

    /// Without a name: old SDKs drop or wrap named events. Without `choices`, or it would pass for a chunk.
    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new("", error_object(error))]
    }

    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        error_object(error).into()
    }

    /// The SDKs take every event for a chunk, so there is no room for one of ours.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let body = RawObject::read(ask.body)?;
        Some((ask.uri.clone(), body.without(&["stream", "stream_options"]).into()))
    }

    fn events_of(&self, ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        answer::events(answer, Wishes::read(ask.body).usage)
    }

    fn continuation(
        &self,
        ask: &Ask<'_>,
        prefill: Prefill,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Continuation> {
        continuation::after(ask, prefill, delivered)
    }

    fn rest_of(
        &self,
        ask: &Ask<'_>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        rest::events(delivered, answer, Wishes::read(ask.body).usage)
    }
}

/// `{"error":STD,…STD}`: SDKs raise on `error`, readers of the flat form find the same beside it.
fn error_object(error: &ErrorEvent) -> String {
    let std = json::standard(error, true);
    let mut whole = serde_json::Map::new();
    whole.insert("error".to_owned(), Value::Object(std.clone()));
    whole.extend(std);
    Value::Object(whole).to_string()
}

/// What a request body says about the form of its answer. Nothing, where the body is no JSON object: the upstream
/// will say so itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wishes {
    /// `stream` is literally `true`.
    stream: bool,
    /// There will be one choice and no more.
    one_choice: bool,
    /// `stream_options.include_usage` is `true`.
    usage: bool,
}

impl Wishes {
    fn read(body: &[u8]) -> Self {
        let Some(body) = RawObject::read(body) else {
            return Self::default();
        };
        let raw = |key: &str| body.get(key).map(|value| value.get());
        let options = body.get("stream_options").and_then(RawObject::of);
        Self {
            stream: raw("stream") == Some("true"),
            one_choice: matches!(raw("n"), None | Some("null" | "1"))
                && !raw("prompt").is_some_and(|prompt| prompt.starts_with('[')),
            usage: options.and_then(|options| options.get("include_usage")).is_some_and(|value| value.get() == "true"),
        }
    }
}

#[cfg(test)]
mod accumulate;
#[cfg(test)]
mod tests;
