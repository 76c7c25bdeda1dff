//! A request that names a session is answered from it: by Last-Event-ID, by a route's session key beside one, and on
//! our own paths. What the ring no longer has is signalled, or asked of an upstream that can resume itself.

use std::future::poll_fn;
use std::sync::Arc;

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use streamkeeper_session::{Code, EventId, Fault, Gap, GapReason, SessionId, Splice, Stand};
use tower::ServiceExt as _;

use super::classify::{Call, ResumeId, UpstreamCall};
use super::serve::{fingerprint, kept};
use super::{Answer, AnswerBody, Next, Refused, head};
use crate::app::App;
use crate::config::SessionKey;
use crate::principal::cookie;
use crate::pump::{Kept, heir};
use crate::store::{LiveSession, Log, Mark, Numbering, Owner, Phase};
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

/// What a client's request tells of the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// It asked with GET, as EventSource does.
    pub(super) is_get: bool,
    /// It will come back by itself if its stream breaks.
    pub(super) returns: bool,
}

impl Client {
    pub(super) fn of(head: &Parts) -> Self {
        let accept = |media| {
            head.headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(media)))
        };
        let only_events = accept("text/event-stream") && !accept("application/json");
        let came_back = head.headers.get(LAST_EVENT_ID).is_some_and(|id| !id.is_empty());
        Self { is_get: head.method == Method::GET, returns: only_events || came_back }
    }
}

/// Answers from a session, or hands on what names none.
pub(super) async fn resume(app: Arc<App>, call: Call, next: Next<Box<UpstreamCall>>) -> Result<Answer, Refused> {
    let mut call = match call {
        Call::Reserved { head, rest } => return reserved(&app, &head, &rest).await,
        Call::Upstream(call) => call,
    };
    let Some(resume) = call.resume.take() else { return next.oneshot(call).await };
    let client = Client { returns: true, ..Client::of(&call.head) };
    let found = match &resume {
        ResumeId::Ours(id) => app.store.find(id.session, call.principal).await,
        ResumeId::Theirs(id) => kept_session(&app, &call, id).await,
    };
    let fault: Fault = match (found, resume) {
        (Ok(Some(session)), ResumeId::Ours(id)) => {
            return attach(&app, &session, Seen::Ours(id), client, heir(&app, &session, &call)).await;
        }
        (Ok(Some(session)), ResumeId::Theirs(id)) => {
            return attach(&app, &session, Seen::Theirs(id), client, heir(&app, &session, &call)).await;
        }
        (_, ResumeId::Theirs(_)) => {
            metrics::resume("upstream");
            return next.oneshot(call).await;
        }
        (Ok(None), ResumeId::Ours(_)) => {
            metrics::resume("not_found");
            Code::SessionNotFound.into()
        }
        (Err(fault), ResumeId::Ours(_)) => {
            metrics::error(&fault, &call.route.name);
            fault
        }
    };
    if !client.is_get && accepts_events(&call.head.headers) {
        return Ok(head::told_in_a_stream(&app, &call, &fault));
    }
    Err(Refused::from(fault).spoken_in(&call.dialect))
}

/// The request with which this process may go on if the session's owner dies: the same one that began it.
fn heir(app: &App, session: &LiveSession, call: &UpstreamCall) -> Option<Kept> {
    let known = session.fingerprint != 0 && app.store.is_shared();
    (known && fingerprint(app, call) == Some(session.fingerprint)).then(|| kept(app, call))
}

/// The session of kept ids that can serve what comes after `id`.
async fn kept_session(app: &Arc<App>, call: &UpstreamCall, id: &[u8]) -> Result<Option<Arc<LiveSession>>, Fault> {
    let key = call.route.session_key.as_ref().and_then(|key| session_key(key, &call.head));
    let Some(key) = key else { return Ok(None) };
    let name = app.keyed.name(call.principal, &call.route.name, key.as_bytes());
    let Some(session) = app.store.find_named(name, call.principal).await? else { return Ok(None) };
    let useful = |log: &Log| {
        let Some(seen) = log.ring.find_kept(id) else { return false };
        // Of a failed stream whose failure alone is left, the upstream may have more to give.
        let only_failure_left =
            log.ring.end().is_some_and(|end| end.fault().is_some()) && seen + 2 == log.ring.next_seq();
        log.numbering == Numbering::Kept && !only_failure_left
    };
    // What another process delivered may not have got here yet, or its next owner has to ask for it again.
    let behind = |log: &Log| log.ended.is_none() && log.ring.find_kept(id).is_none();
    if session.control.peek(|control| control.owner != Owner::Here) && session.log.peek(behind) {
        let _here = session.attach(app.settings.limits.readers_per_session);
        heir::stand_by(app, &session, heir(app, &session, call), true);
        wait_while(&session, behind).await;
    }
    Ok(session.log.peek(useful).then_some(session))
}

/// Waits while `behind` holds of the log, but no longer than a head is ever held back.
async fn wait_while(session: &LiveSession, behind: impl Fn(&Log) -> bool) {
    let mut follower = session.log.follow();
    let caught_up = poll_fn(|cx| follower.poll(cx, |log| (!behind(log)).then_some(())));
    let _ = tokio::time::timeout(session.route.commit_after, caught_up).await;
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
async fn reserved(app: &Arc<App>, head: &Parts, rest: &str) -> Result<Answer, Refused> {
    if rest == "client.js" && matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(browser_client());
    }
    let Some(id) = rest.strip_prefix("sessions/") else {
        return Err(Fault::new(Code::InvalidRequest)
            .status(404)
            .message("There is nothing at this reserved path.")
            .into());
    };
    let session = match id.parse::<SessionId>() {
        Ok(id) => find_any(app, id, &head.headers).await?,
        Err(_) => None,
    };
    let Some(session) = session else {
        return Err(Code::SessionNotFound.into());
    };
    match head.method {
        Method::GET if accepts_events(&head.headers) => {
            let seen = seen(head, &session)?;
            attach(app, &session, seen, Client { is_get: true, returns: true }, None).await
        }
        Method::GET | Method::HEAD => Ok(state(app, &session)),
        Method::DELETE => {
            session.stop_for_its_client();
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
async fn find_any(app: &App, id: SessionId, headers: &HeaderMap) -> Result<Option<Arc<LiveSession>>, Fault> {
    for cookies in &app.credential_cookies {
        if let Some(session) = app.store.find(id, app.keyed.principal(headers, cookies)).await? {
            return Ok(Some(session));
        }
    }
    Ok(None)
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

/// Attaches a client to a session where it stands. `request`: what this process may go on with if the session's owner
/// dies.
pub(super) async fn attach(
    app: &Arc<App>,
    session: &Arc<LiveSession>,
    seen: Seen,
    client: Client,
    request: Option<Kept>,
) -> Result<Answer, Refused> {
    let refused = |refused: Refused| refused.spoken_in(&session.dialect);
    let Some(attached) = session.attach(app.settings.limits.readers_per_session) else {
        app.shed("readers_per_session");
        let message = "As many clients as allowed read this session (limits.readers_per_session).";
        return Err(refused(Fault::new(Code::Overloaded).message(message).into()));
    };
    if session.control.peek(|control| control.owner != Owner::Here) {
        heir::stand_by(app, session, request, !matches!(seen, Seen::Nothing));
    }
    opened(session).await.map_err(refused)?;
    // The log of a session that is read here from its first event on knows all that anybody can have seen.
    let foreign = session.control.peek(|control| control.owner != Owner::Here);
    if foreign || session.log.peek(|log| log.epochs.current() > 0) {
        wait_while(session, |log| position(log, &seen) == Place::Ahead && log.ended.is_none()).await;
    }
    let (cursor, gap, seen_all) = session.log.peek(|log| {
        let (cursor, gap) = match position(log, &seen) {
            Place::At(cursor, gap) => (cursor, gap),
            Place::Ahead => beyond(log, &seen),
        };
        (cursor, gap, log.ring.seen_all(cursor))
    });
    if gap.is_some() && session.route.strict_resume {
        metrics::resume("gap");
        return Err(refused(Code::SessionGap.into()));
    }
    let resumed = match (&seen, seen_all, &gap) {
        (_, true, None) => "seen_whole",
        (_, _, Some(_)) => "gap",
        (Seen::Nothing, ..) => "joined",
        _ => "replayed",
    };
    metrics::resume(resumed);
    session.timeline.mark(Mark::Resumed(resumed));
    if !session.saved.swap(true, std::sync::atomic::Ordering::Relaxed) {
        metrics::saved_generation();
    }
    if seen_all && gap.is_none() && client.is_get {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    Ok(head::stream(app, attached, cursor, gap, true, client))
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

/// Where a client goes on.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At this seq, and what it will miss.
    At(u64, Option<Gap>),
    /// At one that the log has not got to.
    Ahead,
}

fn position(log: &Log, seen: &Seen) -> Place {
    let ring = &log.ring;
    let wanted = match seen {
        Seen::Nothing => 1,
        Seen::Ours(id) => match log.epochs.stand(id.epoch, id.seq) {
            Stand::Ahead(_) if log.epochs.splice() == Splice::Open && log.ended.is_none() => return Place::Ahead,
            Stand::At(seq) | Stand::Ahead(seq) if seq > ring.next_seq() => return Place::Ahead,
            Stand::At(seq) | Stand::Ahead(seq) => seq,
            Stand::Void { gap, at } if at >= ring.first_seq() => return Place::At(at, Some(gap)),
            Stand::Void { .. } | Stand::Unknown => return Place::Ahead,
        },
        Seen::Theirs(id) => match ring.find_kept(id) {
            Some(seq) => seq + 1,
            None => return Place::Ahead,
        },
    };
    match ring.get(wanted) {
        Ok(_) => Place::At(wanted, None),
        Err(gap) => Place::At(ring.first_seq(), Some(gap)),
    }
}

/// For a client that has seen what this session never said, or says no more: it gets all there is.
fn beyond(log: &Log, seen: &Seen) -> (u64, Option<Gap>) {
    let first = log.ring.first_seq();
    let gap = match seen {
        Seen::Ours(id) => Gap { from: 1, to: id.seq.max(1), reason: GapReason::Epoch },
        Seen::Nothing | Seen::Theirs(_) => Gap { from: 1, to: first.max(2) - 1, reason: GapReason::Evicted },
    };
    (first, Some(gap))
}

/// A session's state as JSON, for its owner.
fn state(app: &App, session: &LiveSession) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(app.state_of(session).to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The client for web pages, of this very version.
fn browser_client() -> Answer {
    let mut answer = Response::new(AnswerBody::whole(&include_bytes!("../../clients/js/streamkeeper.js")[..]));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(bytes::Bytes::new()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
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
