//! OpenAI's Responses API, Azure's paths to it, and the servers that speak alike (vLLM, OpenRouter, LM Studio).
//!
//! | file | idea |
//! |---|---|
//! | `reader` | one upstream event: content, preamble, end, error |
//! | `vendor` | what a vendor's error object means |
//! | `answer` | a JSON answer taken apart: items, their parts, the texts in them |
//! | `script` | an answer as events, or what is left of it |
//! | `rest` | how far the delivered events have come in an answer |
//! | `resume` | asking the vendor for the events after the last one delivered |
//!
//! Not here: chat completions, which is another wire; continuing a broken answer with a prefill, which this API has
//! not; the vendor's `GET …/responses/{id}`, which callers may use themselves. Source: OpenAI's API reference
//! ("Responses", "Streaming events", "Background mode") and what their SDKs accept and raise on when run against a
//! local server.

mod answer;
mod reader;
mod rest;
mod resume;
mod script;
mod vendor;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Map, Value};
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, RawObject};
use super::{Ask, Asks, Delivered, Dialect, Moment, NoAnswer, Reader, Resume};

/// The name of the event that reports an error, and its `type`.
const ERROR: &str = "error";

/// The wire of the Responses API.
#[derive(Debug, Clone, Copy, Default)]
pub struct Responses;

impl Responses {
    /// Whether method and path are this wire's: a POST to a path whose last segment is `responses`, with whatever
    /// before it (`/v1`, Azure's `/openai` and `/openai/v1`) and any query; or a GET that has one of its responses
    /// streamed again.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        let posted = ask.method == Method::POST && ask.uri.path().ends_with("/responses");
        posted || streams_again(ask)
    }
}

/// `GET …/responses/{id}?stream=true`, the API's own way to come back.
fn streams_again(ask: &Ask<'_>) -> bool {
    let mut path = ask.uri.path().rsplit('/');
    let one_response = path.next().is_some_and(|id| !id.is_empty()) && path.next() == Some("responses");
    let asked = ask.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true"));
    ask.method == Method::GET && one_response && asked
}

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    /// `Accept` is not asked: the SDKs send `application/json` even where they stream.
    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if streams_again(ask) {
            return Asks::Stream;
        }
        if Self::recognises(ask) { Asks::Body } else { Asks::No }
    }

    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        Self::recognises(ask) && Wishes::read(ask.body).stream
    }

    fn only_generates(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::<reader::EventReader>::default()
    }

    /// Numbered like any other event of the stream: Python's SDK raises on the nested object, Node's on the name,
    /// the AI SDK asks for both and for the number.
    fn error_events(&self, error: &ErrorEvent, moment: &Moment<'_>) -> Vec<OwnedEvent> {
        let number = moment.last.as_ref().and_then(rest::number_of).map_or(0, |last| last.saturating_add(1));
        let mut whole = json::standard(error, false);
        whole.insert("type".to_owned(), ERROR.into());
        whole.insert("sequence_number".to_owned(), number.into());
        whole.insert("param".to_owned(), Value::Null);
        whole.insert(ERROR.to_owned(), Value::Object(json::standard(error, true)));
        vec![OwnedEvent::new(ERROR, Value::Object(whole).to_string())]
    }

    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        let std = json::standard(error, true);
        let mut whole = Map::new();
        whole.insert(ERROR.to_owned(), Value::Object(std.clone()));
        whole.extend(std);
        Value::Object(whole).to_string().into()
    }

    /// Node's helper and the AI SDK refuse events they do not know, so there is no room for one of ours.
    /// None for `background: true`: without a stream that is answered by a receipt at once, not by an answer.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let body = RawObject::read(ask.body)?;
        if Wishes::of(&body).background {
            return None;
        }
        Some((ask.uri.clone(), body.without(&["stream", "stream_options"]).into()))
    }

    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        Ok(script::whole(&answer::Answer::read(&line)?))
    }

    fn native_resume(
        &self,
        ask: &Ask<'_>,
        _last_id: Option<&[u8]>,
        delivered: &mut dyn Iterator<Item = Delivered<'_>>,
    ) -> Option<Resume> {
        (Self::recognises(ask) && Wishes::read(ask.body).survives()).then(|| resume::request(ask.uri, delivered))?
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

/// What a request body says about the form of its answer. Nothing, where the body is no JSON object: the upstream
/// will say so itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wishes {
    /// `stream` is literally `true`.
    stream: bool,
    /// `background` is literally `true`: the vendor goes on although nobody listens.
    background: bool,
    /// `store` is literally `false`: the vendor keeps nothing that could be asked for later.
    forget: bool,
}

impl Wishes {
    fn read(body: &[u8]) -> Self {
        RawObject::read(body).as_ref().map(Self::of).unwrap_or_default()
    }

    fn of(body: &RawObject<'_>) -> Self {
        let is = |key: &str, wanted: &str| body.get(key).is_some_and(|value| value.get() == wanted);
        Self { stream: is("stream", "true"), background: is("background", "true"), forget: is("store", "false") }
    }

    /// Whether the vendor's side of the stream outlives the connection.
    fn survives(self) -> bool {
        self.background && !self.forget
    }
}

#[cfg(test)]
mod accumulate;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
