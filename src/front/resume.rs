//! A request that names a session is answered from it: by Last-Event-ID, by a route's session key beside one, and on
//! our own paths. What the ring no longer has is signalled, or asked of an upstream that can resume itself.

use std::future::poll_fn;
use std::sync::Arc;

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;
use streamkeeper_session::{Code, EventId, Fault, Gap, GapReason, SessionId};
use tower::ServiceExt as _;

use super::classify::{Call, ResumeId, UpstreamCall};
use super::{Answer, AnswerBody, Next, Refused, head};
use crate::app::App;
use crate::config::SessionKey;
use crate::principal::cookie;
use crate::store::{LiveSession, Log, Numbering, Phase};
use crate::telemetry::metrics;
use crate::upstream::headers::LAST_EVENT_ID;

/// Where a client stands in a session.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// It has seen nothing.
    Nothing,
    /// It has seen this event of ours, and all before.
    Ours(EventId),
    /// It has seen the upstream's event with this id, and all before.
    Theirs(Vec<u8>),
}

/// Answers from a session, or hands on what names none.
pub(super) async fn resume(app: Arc<App>, call: Call, next: Next<Box<UpstreamCall>>) -> Result<Answer, Refused> {
    let mut call = match call {
        Call::Reserved { head, rest } => return reserved(&app, &head, &rest).await,
        Call::Upstream(call) => call,
    };
    match call.resume.take() {
        None => next.oneshot(call).await,
        Some(ResumeId::Ours(id)) => {
            let is_get = call.head.method == Method::GET;
            match app.store.find(id.session, call.principal).await {
                Some(session) => attach(&app, &session, Seen::Ours(id), is_get).await,
                None => {
                    metrics::resume("not_found");
                    if !is_get && accepts_events(&call.head.headers) {
                        return Ok(head::told_in_a_stream(&app, &call, &Code::SessionNotFound.into()));
                    }
                    Err(Refused::from(Code::SessionNotFound).spoken_in(&call.dialect))
                }
            }
        }
        Some(ResumeId::Theirs(id)) => match kept_session(&app, &call, &id).await {
            Some(session) => attach(&app, &session, Seen::Theirs(id), call.head.method == Method::GET).await,
            None => {
                metrics::resume("upstream");
                next.oneshot(call).await
            }
        },
    }
}

/// The session of kept ids that can serve what comes after `id`.
async fn kept_session(app: &App, call: &UpstreamCall, id: &[u8]) -> Option<Arc<LiveSession>> {
    let key = session_key(call.route.session_key.as_ref()?, &call.head)?;
    let name = app.keyed.name(call.principal, &call.route.name, key.as_bytes());
    let session = app.store.find_named(name, call.principal).await?;
    let useful = session.log.peek(|log| {
        let Some(seen) = log.ring.find_kept(id) else { return false };
        // Of a failed stream whose failure alone is left, the upstream may have more to give.
        let only_failure_left =
            log.ring.end().is_some_and(|end| end.fault().is_some()) && seen + 2 == log.ring.next_seq();
        log.numbering == Numbering::Kept && !only_failure_left
    });
    useful.then_some(session)
}

/// The value of the route's session key in a request.
pub(super) fn session_key(key: &SessionKey, head: &Parts) -> Option<String> {
    match key {
        SessionKey::Header(name) => head.headers.get(name)?.to_str().ok().map(str::to_owned),
        SessionKey::Cookie(name) => cookie(&head.headers, name).map(str::to_owned),
        SessionKey::Query(name) => query(head, name),
    }
    .filter(|value| !value.is_empty())
}

/// The raw value of a query parameter.
fn query(head: &Parts, name: &str) -> Option<String> {
    let pairs = head.uri.query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| (key == name).then(|| value.to_owned()))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains("text/event-stream")))
}

/// Our own paths: a session as a stream, as JSON, and its end.
async fn reserved(app: &App, head: &Parts, rest: &str) -> Result<Answer, Refused> {
    let Some(id) = rest.strip_prefix("sessions/") else {
        return Err(Fault::new(Code::InvalidRequest)
            .status(404)
            .message("There is nothing at this reserved path.")
            .into());
    };
    let session = match id.parse::<SessionId>() {
        Ok(id) => find_any(app, id, &head.headers).await,
        Err(_) => None,
    };
    let Some(session) = session else {
        return Err(Code::SessionNotFound.into());
    };
    match head.method {
        Method::GET if accepts_events(&head.headers) => {
            let seen = seen(head, &session)?;
            attach(app, &session, seen, true).await
        }
        Method::GET | Method::HEAD => Ok(state(app, &session)),
        Method::DELETE => {
            session.stop(Fault::new(Code::SessionNotFound).message("The session was stopped by its owner."));
            app.store.remove(session.id).await;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        _ => {
            let message = "A session can be read (GET) and stopped (DELETE).";
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED).map(|_| AnswerBody::whole(message));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, DELETE"));
            Ok(answer)
        }
    }
}

/// The session `id`, if it belongs to the caller by the credentials of any route.
async fn find_any(app: &App, id: SessionId, headers: &HeaderMap) -> Option<Arc<LiveSession>> {
    for cookies in &app.credential_cookies {
        if let Some(session) = app.store.find(id, app.keyed.principal(headers, cookies)).await {
            return Some(session);
        }
    }
    None
}

/// What the client of a reserved path has seen, by header or by query.
fn seen(head: &Parts, session: &LiveSession) -> Result<Seen, Refused> {
    let invalid = |message| Err(Fault::new(Code::InvalidRequest).message(message).into());
    let mut headers = head.headers.get_all(LAST_EVENT_ID).iter();
    let header = match headers.next().map(|value| value.to_str()) {
        None => None,
        Some(Ok(value)) => Some(value.to_owned()),
        Some(Err(_)) => return invalid("Last-Event-ID must be visible ASCII."),
    };
    let text = match (header, query(head, "last_event_id"), headers.next()) {
        (_, _, Some(_)) | (Some(_), Some(_), _) => {
            return invalid("The last event id is there more than once; send it once.");
        }
        (header, query, None) => header.or(query).unwrap_or_default(),
    };
    if text.is_empty() {
        return Ok(Seen::Nothing);
    }
    match text.parse::<EventId>() {
        Ok(id) if id.session == session.id => Ok(Seen::Ours(id)),
        Ok(_) => invalid("The last event id belongs to another session."),
        Err(_) if text.len() <= 128 && session.log.peek(|log| log.numbering == Numbering::Kept) => {
            Ok(Seen::Theirs(text.into_bytes()))
        }
        Err(_) => invalid("The last event id is not one that this proxy gave; send it exactly as it was received."),
    }
}

/// Attaches a client to a session where it stands.
pub(super) async fn attach(app: &App, session: &Arc<LiveSession>, seen: Seen, is_get: bool) -> Result<Answer, Refused> {
    let refused = |refused: Refused| refused.spoken_in(&session.dialect);
    let Some(attached) = session.attach(app.settings.limits.readers_per_session) else {
        app.shed("readers_per_session");
        let message = "As many clients as allowed read this session (limits.readers_per_session).";
        return Err(refused(Fault::new(Code::Overloaded).message(message).into()));
    };
    opened(session).await.map_err(refused)?;
    let (cursor, gap, seen_all) = session.log.peek(|log| {
        let (cursor, gap) = position(session, log, &seen);
        (cursor, gap, log.ring.seen_all(cursor))
    });
    if gap.is_some() && session.route.strict_resume {
        metrics::resume("gap");
        return Err(refused(Code::SessionGap.into()));
    }
    metrics::resume(match (&seen, seen_all, &gap) {
        (_, true, None) => "seen_whole",
        (_, _, Some(_)) => "gap",
        (Seen::Nothing, ..) => "joined",
        _ => "replayed",
    });
    if !session.saved.swap(true, std::sync::atomic::Ordering::Relaxed) {
        metrics::saved_generation();
    }
    if seen_all && gap.is_none() && is_get {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Ok(head::stream(app, attached, cursor, gap, true))
}

/// Waits until the head may be sent.
pub(super) async fn opened(session: &LiveSession) -> Result<(), Refused> {
    let mut follower = session.log.follow();
    let phase =
        poll_fn(|cx| follower.poll(cx, |log| (!matches!(log.phase, Phase::Pending)).then(|| log.phase.clone()))).await;
    match phase {
        Phase::Refused(refusal) => Err(Refused {
            fault: Box::new(refusal.fault.clone()),
            dialect: Some(Arc::clone(&session.dialect)),
            answer: refusal.answer.clone().map(Box::new),
        }),
        Phase::Open | Phase::Pending => Ok(()),
    }
}

/// The seq a client wants next, and what it will miss.
fn position(session: &LiveSession, log: &Log, seen: &Seen) -> (u64, Option<Gap>) {
    let ring = &log.ring;
    let wanted = match seen {
        Seen::Nothing => 1,
        // Another epoch's numbers mean nothing here: from the start.
        Seen::Ours(id) if id.epoch != session.epoch || id.seq >= ring.next_seq() => {
            return (ring.first_seq(), Some(Gap { from: 1, to: id.seq.max(1), reason: GapReason::Epoch }));
        }
        Seen::Ours(id) => id.seq + 1,
        Seen::Theirs(id) => match ring.find_kept(id) {
            Some(seq) => seq + 1,
            None => {
                return (
                    ring.first_seq(),
                    Some(Gap { from: 1, to: ring.first_seq().max(2) - 1, reason: GapReason::Evicted }),
                );
            }
        },
    };
    match ring.get(wanted) {
        Ok(_) => (wanted, None),
        Err(gap) => (ring.first_seq(), Some(gap)),
    }
}

/// A session's state as JSON, for its owner.
fn state(app: &App, session: &LiveSession) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(app.state_of(session).to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(bytes::Bytes::new()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl App {
    /// A session's state as JSON. Holds nothing of its events.
    pub fn state_of(&self, session: &LiveSession) -> serde_json::Value {
        let now = self.clock.now();
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let readers = session.control.peek(|control| control.readers);
        session.log.peek(|log| {
            let ring = &log.ring;
            let fault = match &log.phase {
                Phase::Refused(refusal) => Some(&refusal.fault),
                _ => ring.end().and_then(|end| end.fault()),
            };
            let state = match (&log.phase, log.ended, fault) {
                (Phase::Pending, ..) => "pending",
                (_, None, _) => "live",
                (_, Some(_), None) => "finished",
                (_, Some(_), Some(_)) => "failed",
            };
            json!({
                "session": session.id.to_string(),
                "state": state,
                "route": session.route.name,
                "dialect": session.dialect.name(),
                "request_id": session.request_id,
                "source": log.source.as_str(),
                "epoch": session.epoch,
                "first_seq": ring.first_seq(),
                "last_seq": ring.next_seq() - 1,
                "evicted": ring.evicted(),
                "ring_bytes": ring.bytes(),
                "attached": readers,
                "age_ms": ms(now.saturating_sub(session.started)),
                "idle_ms": ms(now.saturating_sub(log.last_event.unwrap_or(session.started))),
                "error": fault.map(|fault| json!({ "code": fault.code.as_str(), "type": fault.kind.as_str(), "recoverable": fault.recoverable })),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_session_key_is_found_where_the_route_says() {
        let head = head("/s?session_id=42&x=1", &[("cookie", "sid=7"), ("x-session", "9")]);
        assert_eq!(session_key(&SessionKey::Query("session_id".into()), &head).as_deref(), Some("42"));
        assert_eq!(session_key(&SessionKey::Cookie("sid".into()), &head).as_deref(), Some("7"));
        assert_eq!(session_key(&SessionKey::Header("x-session".parse().unwrap()), &head).as_deref(), Some("9"));
        assert_eq!(session_key(&SessionKey::Query("other".into()), &head), None);
    }
}
