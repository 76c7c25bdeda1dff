//! The head of an event stream to a client, and with it the body that follows.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Response};
use streamkeeper_session::{ErrorEvent, Fault, Gap};
use streamkeeper_sse::write_retry;

use super::classify::UpstreamCall;
use super::events::{EventBody, Leave, Manner};
use super::resume::Client;
use super::{Answer, AnswerBody};
use crate::app::App;
use crate::dialect::Moment;
use crate::principal::Principal;
use crate::store::Attached;
use crate::upstream::headers::REQUEST_ID;

const SESSION: HeaderName = HeaderName::from_static("streamkeeper-session");
const SOURCE: HeaderName = HeaderName::from_static("streamkeeper-source");
const DURABILITY: HeaderName = HeaderName::from_static("streamkeeper-durability");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// A stream to one client, from `cursor` on. `again`: the session was there before this request.
pub(super) fn stream(
    app: &App,
    attached: Attached,
    cursor: u64,
    gap: Option<Gap>,
    again: bool,
    client: Client,
) -> Answer {
    let session = attached.session().clone();
    let (mut headers, source, next_seq) =
        session.log.peek(|log| (log.headers.to_map(), log.source, log.ring.next_seq()));
    if again {
        headers.remove(SET_COOKIE);
    }
    if let Some(id) = headers.remove(REQUEST_ID) {
        headers.insert(UPSTREAM_REQUEST_ID, id);
    }
    let replay = again && cursor < next_seq;
    let source = if replay { "replay" } else { source.as_str() };
    if let Ok(id) = HeaderValue::from_str(&session.id.to_string()) {
        headers.insert(SESSION, id);
    }
    headers.insert(SOURCE, HeaderValue::from_static(source));
    headers.insert(DURABILITY, HeaderValue::from_static(app.store.durability().as_str()));
    let manner = manner(app, &session.route, session.dialect.tolerance().retry);
    let leave = (client.returns && app.store.is_shared()).then(|| {
        Box::new(Leave {
            draining: app.drain_signal(),
            after: app.settings.drain.spread.mul_f64(app.chance()),
            hint: manner.hint,
            // A clean end tells EventSource to come back, and fetch-event-source that all is said.
            clean: client.is_get,
        })
    });
    let manner = Manner { leave, ..manner };
    let body = AnswerBody::events(EventBody::new(attached, cursor, gap, again, manner));
    respond(headers, session.principal, body)
}

/// An error as a stream of its own, for clients that would take a status for a reason to ask for ever
/// (fetch-event-source does; a clean end after an event stops it).
pub(super) fn told_in_a_stream(app: &App, call: &UpstreamCall, fault: &Fault) -> Answer {
    let manner = manner(app, &call.route, call.dialect.tolerance().retry);
    let error = ErrorEvent::new(fault, "", manner.wait, manner.development);
    let mut body = Vec::new();
    if let Some(ms) = manner.ill_hint {
        write_retry(ms, &mut body);
    }
    let note = call.dialect.note(&call.ask());
    for event in call.dialect.error_events(&error, &Moment { note: note.as_deref(), last: None }) {
        event.write_block(&mut body);
    }
    respond(HeaderMap::new(), call.principal, AnswerBody::whole(body))
}

fn respond(headers: HeaderMap, principal: Principal, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.headers_mut() = headers;
    let headers = answer.headers_mut();
    let cache =
        if principal == Principal::ANYBODY { "no-cache, no-transform" } else { "no-cache, no-store, no-transform" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    answer
}

fn manner(app: &App, route: &crate::config::Route, hints: bool) -> Manner {
    let ill = app.is_strained() || app.upstreams.of(route).is_some_and(|dialler| dialler.is_ill());
    let hint = |ill| app.retry_hint(ill).filter(|_| hints);
    let every = app.settings.heartbeat.interval;
    Manner {
        hint: hint(ill),
        ill_hint: hint(true),
        heartbeat: (!every.is_zero()).then_some(every),
        clock: app.clock,
        wait: app.come_back_in(),
        development: app.settings.telemetry.development,
        leave: None,
    }
}
