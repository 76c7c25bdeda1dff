//! The AI SDK's UI message stream: unnamed events, each a typed part, `finish` and then `[DONE]`.
//!
//! Apps mount it where they like, so no request tells it; the response header does ([`AiSdk::answers`]). Its client
//! checks each part, older ones against schemas that allow no key more: only `data-*` parts may be of our own making.
//!
//! Not here: the wires of the models behind such an app. Source: the AI SDK's page "Stream Protocols" and `ai`
//! 5 to 7 (`ui-message-stream`, `http-chat-transport`), read.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use streamkeeper_session::{ErrorEvent, Fault, Kind, Report};
use streamkeeper_sse::{Event, OwnedEvent};

use super::json::{self, MESSAGE_CAP, RawObject, capped, raw_list, raw_text};
use super::{Ask, Asks, CleanEnd, Delivered, Dialect, Meaning, Moment, NoAnswer, Reader};

const DONE: &str = "[DONE]";
/// What the SDK writes in front of every part's type.
const HEAD: &[u8] = b"{\"type\":\"";

/// The wire between an AI SDK server and its `useChat`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AiSdk;

impl AiSdk {
    /// Never: see [`Self::answers`].
    pub fn recognises(_ask: &Ask<'_>) -> bool {
        false
    }

    /// Whether the headers of an event stream say that it is this wire's.
    pub fn answers(headers: &HeaderMap) -> bool {
        headers.get("x-vercel-ai-ui-message-stream").is_some_and(|version| version.as_bytes().trim_ascii() == b"v1")
    }
}

impl Dialect for AiSdk {
    fn name(&self) -> &'static str {
        "ai_sdk"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if ask.method == Method::POST && json::sends_json(ask.headers) { Asks::Body } else { Asks::No }
    }

    /// What the SDK's own transport sends: messages, and why. An app that shapes its requests otherwise is found by
    /// its response.
    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        let Some(body) = RawObject::read(ask.body) else { return false };
        let messages = body.get("messages").and_then(raw_list);
        ask.method == Method::POST && messages.is_some() && body.get("trigger").and_then(raw_text).is_some()
    }

    fn upstream_ids(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(PartReader::default())
    }

    /// What happened in a part of our own, which apps may look at; the error that the client raises; the terminator.
    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        let std = Value::Object(json::standard(error, false));
        let details = json!({ "type": "data-proxy-error", "data": std, "transient": true });
        let raised = json!({ "type": "error", "errorText": error.message });
        [details.to_string(), raised.to_string(), DONE.to_owned()].map(|data| OwnedEvent::new("", data)).into()
    }

    /// `{…STD,"error":STD}`: the client's error has the whole text for its message.
    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        let std = json::standard(error, false);
        let mut whole: Map<String, Value> = std.clone();
        whole.insert("error".to_owned(), Value::Object(std));
        Value::Object(whole).to_string().into()
    }

    /// A part that says that parts are missing would not help: the client raises on those that follow.
    /// There is no such form.
    fn without_stream(&self, _ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        None
    }

    /// There is no answer but a stream; what else is JSON may be an app's error.
    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let Some(error) = RawObject::read(answer).and_then(|whole| whole.solid("error")) else {
            return Err(NoAnswer::NotAnAnswer);
        };
        let inner = RawObject::of(error).and_then(|inner| inner.get("message"));
        Err(NoAnswer::Fault(fault(raw_text(inner.unwrap_or(error)).as_deref())))
    }

    fn rest_of(
        &self,
        _ask: &Ask<'_>,
        _delivered: &mut dyn Iterator<Item = Delivered<'_>>,
        _answer: &[u8],
    ) -> Option<Vec<OwnedEvent>> {
        None
    }
}

/// An app's own words are all there is: the wire has neither types nor codes of errors.
fn fault(text: Option<&str>) -> Box<Fault> {
    let message = text.map(str::trim).filter(|text| !text.is_empty()).map(|text| capped(text, MESSAGE_CAP).to_owned());
    Box::new(Fault::reported(Kind::System, true, Report { message, ..Report::default() }))
}

/// Reads the parts of one answer.
#[derive(Debug, Default)]
struct PartReader {
    /// A part that says something was seen.
    started: bool,
    /// The message is whole, and nothing was said since.
    finished: bool,
}

impl Reader for PartReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let data = event.data.trim_ascii();
        if data.is_empty() {
            return Meaning::Skip; // the client would raise on it
        }
        if data == DONE.as_bytes() {
            return Meaning::Done;
        }
        let kind = kind_of(data);
        match kind.as_deref().unwrap_or_default() {
            "error" => {
                let text = RawObject::read(data).and_then(|part| part.get("errorText"));
                return Meaning::Error(fault(text.and_then(raw_text).as_deref()));
            }
            "start" | "start-step" | "text-start" | "reasoning-start" if !self.started => return Meaning::Preamble,
            "finish" | "abort" => self.finished = true,
            "message-metadata" | "finish-step" => {}
            kind if kind.starts_with("data-") => {}
            _ => self.finished = false,
        }
        self.started = true;
        Meaning::Content
    }

    fn clean_end(&self) -> CleanEnd {
        if self.finished { CleanEnd::Unmarked } else { CleanEnd::Truncated }
    }
}

/// A part's type.
fn kind_of(data: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
    }

    if let Some(rest) = data.strip_prefix(HEAD)
        && let Some(end) = memchr::memchr2(b'"', b'\\', rest)
        && rest.get(end) == Some(&b'"')
    {
        return std::str::from_utf8(rest.get(..end)?).ok().map(Cow::Borrowed);
    }
    let part: Part<'_> = serde_json::from_slice(data).ok()?;
    raw_text(part.kind?)
}

#[cfg(test)]
mod tests;
