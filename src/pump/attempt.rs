//! One try at the upstream: the request that is sent, the response that comes, and what each may turn into.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use streamkeeper_session::{Code, Dial, End, Fault, Record, Ring};
use streamkeeper_sse::{Decoder, Item, OwnedEvent};

use super::inflate::{Inflate, inflated};
use super::overlap::Overlap;
use super::reading::{Batch, Reading};
use crate::clock::Clock;
use crate::config::Limits;
use crate::dialect::Reader;
use crate::store::LiveSession;
use crate::upstream::direct::http1::Flow;
use crate::upstream::headers::strip_hop_by_hop;
use crate::upstream::{Body, Dialler, NoResponse, Outgoing, chain};

type Future_<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a finished answer leaves on its connection is read for at most this long, so that the connection can be used again.
const DRAIN_TIME: Duration = Duration::from_millis(500);
const DRAIN_BYTES: usize = 64 * 1024;

/// Where a try stands.
pub(super) enum Attempt {
    /// There is none.
    None,
    /// A request is on its way.
    Dialing(Future_<Result<Response<Body>, NoResponse>>, Dial),
    /// A stream is being read.
    Reading(Box<Reading>),
    /// A body that is no stream is read whole.
    Gathering(Future_<(Parts, Result<Bytes, Fault>)>, Dial),
}

/// What came of waiting for a try.
pub(super) enum Progress {
    /// A head, or none.
    Response(Result<Response<Body>, NoResponse>, Dial),
    /// Events.
    Batch(Batch),
    /// A whole body.
    Body(Parts, Result<Bytes, Fault>, Dial),
}

impl Attempt {
    /// Sends a request.
    pub(super) fn dial(dialler: &Arc<Dialler>, endpoint: usize, outgoing: Outgoing, body: &Bytes, dial: Dial) -> Self {
        let body = dialler.body(body);
        let dialler = Arc::clone(dialler);
        let sending = async move { dialler.send_whole(endpoint, outgoing, body).await };
        Self::Dialing(Box::pin(sending), dial)
    }

    /// Reads a response: as a stream if it is one, else whole.
    pub(super) fn open(
        response: Response<Body>,
        dial: Dial,
        session: &LiveSession,
        reader: impl FnOnce() -> Box<dyn Reader>,
        limits: &Limits,
    ) -> Self {
        let (head, body) = response.into_parts();
        if dial != Dial::Fallback && is_stream_head(&head) {
            match Inflate::for_headers(&head.headers) {
                Ok(inflate) => {
                    let caps = streamkeeper_sse::Limits { line: limits.line, event: limits.event };
                    let reader = reader();
                    let tolerance = session.dialect.tolerance();
                    let overlap = if dial == Dial::Resume { Overlap::Open } else { Overlap::Past };
                    return Self::Reading(Box::new(Reading::new(
                        body,
                        inflate.map(Box::new),
                        caps,
                        reader,
                        tolerance,
                        session.route.ids,
                        overlap,
                    )));
                }
                Err(fault) => return Self::Gathering(Box::pin(std::future::ready((head, Err(fault)))), dial),
            }
        }
        Self::Gathering(Box::pin(gather(head, body, limits.answer_body)), dial)
    }

    /// Waits for something to happen.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, session: &LiveSession, clock: Clock) -> Poll<Progress> {
        match self {
            Self::None => Poll::Pending,
            Self::Dialing(sending, dial) => {
                let dial = *dial;
                sending.as_mut().poll(cx).map(|response| Progress::Response(response, dial))
            }
            Self::Reading(reading) => reading.poll_batch(cx, session, clock).map(Progress::Batch),
            Self::Gathering(gathering, dial) => {
                let dial = *dial;
                gathering.as_mut().poll(cx).map(|(head, body)| Progress::Body(head, body, dial))
            }
        }
    }

    /// Whether what is read waits, or may wait, for clients that are far behind.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self, Self::Reading(reading) if reading.is_behind())
    }

    /// Reads the end of a body whose answer is whole, so that its connection can be used again.
    pub(super) fn drain(self) -> Option<impl Future<Output = ()> + Send> {
        let Self::Reading(reading) = self else { return None };
        let mut rest = reading.into_body();
        let drained = async move {
            let mut read = 0;
            while let Flow::More = poll_fn(|cx| rest.poll_data(cx, &mut |data| read += data.len())).await {
                if read > DRAIN_BYTES {
                    break;
                }
            }
        };
        Some(async { _ = tokio::time::timeout(DRAIN_TIME, drained).await })
    }
}

/// Whether a response is an event stream.
pub fn is_event_stream<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::OK && media_type(response.headers()) == Some("text/event-stream")
}

fn is_stream_head(head: &Parts) -> bool {
    head.status == StatusCode::OK && media_type(&head.headers) == Some("text/event-stream")
}

/// Whether a body calls itself JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media| media == "application/json" || media.ends_with("+json"))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// The fault that a head without a stream stands for; `None`: its body may be an answer.
///
/// 3xx and bodiless 2xx are the upstream's own word, as a 4xx is: passed on, no redirect followed.
pub fn refusal_of(head: &Parts) -> Option<Fault> {
    let status = head.status.as_u16();
    let wait = head.headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    match status {
        200..=203 => None,
        429 => Some(Fault::new(Code::RateLimited).retry_after(wait)),
        503 => Some(Fault::new(Code::UpstreamUnavailable).status(503).retry_after(wait)),
        500..=599 => Some(Fault::new(Code::UpstreamUnavailable).retry_after(wait).cause(format!("status {status}"))),
        _ => Some(Fault::new(Code::UpstreamRejected).status(status)),
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

/// What of the upstream's response headers clients get, too.
pub(super) fn headers_for_clients(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    strip_hop_by_hop(&mut headers);
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CACHE_CONTROL] {
        headers.remove(name);
    }
    headers
}

async fn gather(head: Parts, mut body: Body, cap: usize) -> (Parts, Result<Bytes, Fault>) {
    let mut inflate = match Inflate::for_headers(&head.headers) {
        Ok(inflate) => inflate,
        Err(fault) => return (head, Err(fault)),
    };
    let mut whole = Vec::new();
    let outcome = loop {
        let mut taken = Ok(());
        let mut take = |data: &[u8]| {
            if taken.is_ok() && whole.len() <= cap {
                taken = inflated(inflate.as_mut(), data, &mut |plain| whole.extend_from_slice(plain));
            }
        };
        let flow = poll_fn(|cx| body.poll_data(cx, &mut take)).await;
        match (taken, flow) {
            (Err(fault), _) => break Err(fault),
            (Ok(()), _) if whole.len() > cap => {
                let message = "The upstream's answer is larger than this proxy reads at once (limits.answer_body).";
                break Err(Fault::new(Code::EventTooLarge).message(message));
            }
            (Ok(()), Flow::More) => {}
            (Ok(()), Flow::Over) => break Ok(Bytes::from(whole)),
            (Ok(()), Flow::Broken(error)) => break Err(Fault::new(Code::UpstreamReset).cause(chain(&*error))),
        }
    };
    (head, outcome)
}

/// The events of a ring, taken apart again.
pub(super) fn events_in(ring: &Ring<End>) -> impl Iterator<Item = OwnedEvent> {
    ring.iter_from(ring.first_seq()).into_iter().flatten().filter_map(|record| match record {
        Record::Event(entry) => taken_apart(entry.body),
        Record::Sealed(_) => None,
    })
}

/// The newest event of a ring.
pub(super) fn last_event(ring: &Ring<End>) -> Option<OwnedEvent> {
    match ring.get(ring.next_seq().checked_sub(1)?) {
        Ok(Some(Record::Event(entry))) => taken_apart(entry.body),
        _ => None,
    }
}

fn taken_apart(body: &[u8]) -> Option<OwnedEvent> {
    let mut decoder = Decoder::new(streamkeeper_sse::Limits { line: usize::MAX, event: usize::MAX });
    for part in [body, b"\n"] {
        let mut items = decoder.feed(part);
        while let Some(item) = items.next() {
            if let Ok(Item::Event(event)) = item {
                return Some(OwnedEvent::from(event));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn each_status_without_a_stream_has_its_code() {
        let judge = |status: u16| {
            let (head, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
            refusal_of(&head).map(|fault| (fault.code, fault.status))
        };
        assert_eq!(judge(200), None);
        assert_eq!(judge(204), Some((Code::UpstreamRejected, 204)));
        assert_eq!(judge(302), Some((Code::UpstreamRejected, 302)));
        assert_eq!(judge(404), Some((Code::UpstreamRejected, 404)));
        assert_eq!(judge(429), Some((Code::RateLimited, 429)));
        assert_eq!(judge(500), Some((Code::UpstreamUnavailable, 502)));
        assert_eq!(judge(503), Some((Code::UpstreamUnavailable, 503)));
        assert_eq!(judge(529), Some((Code::UpstreamUnavailable, 502)));
    }
}
