//! Google's Gemini: `…:streamGenerateContent?alt=sse`, of the Gemini API, of Vertex AI, and of what speaks alike.
//!
//! | file | idea |
//! |---|---|
//! | `reader` | one upstream block: content, preamble, or an error; and whether the answer is whole |
//! | `vendor` | what a `google.rpc` error means, and which one says what ours say |
//! | `rest` | what of a JSON answer is left after some blocks were delivered |
//!
//! The strictest of all clients: Google's SDKs take any line but `data: {…}` for part of an answer, so nothing is put
//! into these streams. There is no terminator: a clean end after a `finishReason` is the end. Not here: the JSON array
//! that comes without `alt=sse`, which passes through. Source: Google's API reference ("GenerateContentResponse"),
//! `google.rpc.Code`, and what the Python and Node SDKs do when run against a local server.

mod reader;
mod rest;
mod vendor;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use serde_json::{Map, Value};
use streamkeeper_session::ErrorEvent;
use streamkeeper_sse::OwnedEvent;

use super::json::{self, RawObject, raw_list};
use super::{Ask, Asks, Delivered, Dialect, KeepAlive, Moment, NoAnswer, Reader, Tolerance};

/// How the path of a request for a stream ends.
const STREAM: &str = ":streamGenerateContent";
/// How the path of the same request without a stream ends.
const WHOLE: &str = ":generateContent";

/// The wire of Gemini.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gemini;

impl Gemini {
    /// Whether method and path are this wire's: a POST to `…:streamGenerateContent`, or to `…:generateContent`, whose
    /// clients understand the same errors.
    pub fn recognises(ask: &Ask<'_>) -> bool {
        let path = ask.uri.path();
        ask.method == Method::POST && (path.ends_with(STREAM) || path.ends_with(WHOLE))
    }
}

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn asks(&self, ask: &Ask<'_>) -> Asks {
        if self.asks_in_body(ask) { Asks::Stream } else { Asks::No }
    }

    /// The body says nothing about it.
    fn asks_in_body(&self, ask: &Ask<'_>) -> bool {
        let mut parameters = ask.uri.query().unwrap_or_default().split('&');
        ask.method == Method::POST
            && ask.uri.path().ends_with(STREAM)
            && parameters.any(|parameter| alt(parameter).is_some_and(|media| media.eq_ignore_ascii_case("sse")))
    }

    /// The Python SDK raises on an id, a retry hint or a comment; the Node SDK loses the block they are in. An old
    /// Python SDK hands an error on as an empty answer, so only the broken body tells.
    fn tolerance(&self) -> Tolerance {
        Tolerance {
            ids: false,
            retry: false,
            comments: false,
            keep_alive: KeepAlive::BlankLine,
            abort_after_error: true,
        }
    }

    fn only_generates(&self) -> bool {
        true
    }

    fn reader(&self, _ask: &Ask<'_>) -> Box<dyn Reader> {
        Box::new(reader::BlockReader::default())
    }

    fn error_events(&self, error: &ErrorEvent, _moment: &Moment<'_>) -> Vec<OwnedEvent> {
        vec![OwnedEvent::new("", error_object(error))]
    }

    fn error_body(&self, error: &ErrorEvent) -> Bytes {
        error_object(error).into()
    }

    /// The SDKs take every block for a part of the answer.
    /// Another verb, and no `alt`; the rest of the query stays as it was written, for the key may be in it.
    fn without_stream(&self, ask: &Ask<'_>) -> Option<(Uri, Bytes)> {
        let path = ask.uri.path().strip_suffix(STREAM)?;
        if ask.body.is_empty() {
            return None; // not kept: these requests always have one
        }
        let kept = ask.uri.query().unwrap_or_default().split('&').filter(|parameter| alt(parameter).is_none());
        let query = kept.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let mut parts = ask.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{WHOLE}{mark}{query}")).ok()?);
        Some((Uri::from_parts(parts).ok()?, Bytes::copy_from_slice(ask.body)))
    }

    /// One block; of a list (what a stream without `alt=sse` is) one block for each.
    fn events_of(&self, _ask: &Ask<'_>, answer: &[u8]) -> Result<Vec<OwnedEvent>, NoAnswer> {
        let line = json::compact(answer).ok_or(NoAnswer::NotAnAnswer)?;
        if vendor::reports_error(line.as_bytes()) {
            return Err(NoAnswer::Fault(vendor::fault(line.as_bytes())));
        }
        let list: Option<Vec<&serde_json::value::RawValue>> = serde_json::from_str(&line).ok();
        let blocks = list.map_or_else(|| vec![line.as_str()], |list| list.iter().map(|block| block.get()).collect());
        if blocks.is_empty() || !blocks.iter().all(|block| is_answer(block)) {
            return Err(NoAnswer::NotAnAnswer);
        }
        Ok(blocks.into_iter().map(|block| OwnedEvent::new("", block)).collect())
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

/// The value of a query parameter that names the form of the answer; `None` if it is another one.
fn alt(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    ["alt", "$alt", "%24alt"].contains(&name).then_some(value)
}

/// Whether an object says what a model answered, why it was not asked, or what it cost.
fn is_answer(block: &str) -> bool {
    let says = |object: &RawObject<'_>| {
        object.get("candidates").is_some_and(|candidates| raw_list(candidates).is_some())
            || ["promptFeedback", "usageMetadata"].into_iter().any(|key| object.solid(key).is_some())
    };
    let Some(object) = RawObject::read(block.as_bytes()) else {
        return false;
    };
    says(&object) || wrapped(&object).is_some_and(|inner| says(&inner))
}

/// Gemini's Code Assist puts each block into a `response`.
fn wrapped<'a>(block: &RawObject<'a>) -> Option<RawObject<'a>> {
    block.get("response").and_then(RawObject::of)
}

/// `{"error":{"code":504,"message":…,"status":…,…STD,"error_code":STD.code},…STD}`. `error` is the first key: the
/// Python SDK looks at how the text of a block begins. The inner `code` is a number that is an HTTP error: the Node
/// SDK raises on nothing else.
fn error_object(error: &ErrorEvent) -> String {
    let std = json::standard(error, false);
    let (code, status) = vendor::spoken(error);
    let mut inner = Map::new();
    inner.insert("code".to_owned(), code.into());
    inner.insert("message".to_owned(), error.message.as_ref().into());
    inner.insert("status".to_owned(), status.into());
    for (name, value) in std.iter().filter(|(name, _)| *name != "code") {
        inner.insert(name.clone(), value.clone());
    }
    inner.insert("error_code".to_owned(), error.code.as_str().into());
    let mut whole = Map::new();
    whole.insert("error".to_owned(), Value::Object(inner));
    whole.extend(std);
    Value::Object(whole).to_string()
}

#[cfg(test)]
mod tests;
