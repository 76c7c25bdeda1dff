//! A new session: it is offered to the store, its pump begins to read, and this client becomes its first reader.
//! A request whose Idempotency-Key is known joins instead.

use std::sync::Arc;

use bytes::Bytes;
use streamkeeper_session::{Code, Fault, SessionId};

use super::classify::{UpstreamCall, Work};
use super::resume::{Client, Seen, attach, opened, session_key};
use super::{Answer, Refused, head};
use crate::app::App;
use crate::pump::{Begin, Kept, Pump};
use crate::store::{LiveSession, Name, Opened, Origin};
use crate::telemetry::metrics;
use crate::upstream::Outgoing;
use crate::upstream::headers::{IDEMPOTENCY_KEY, to_upstream};

/// A session to begin.
pub(super) struct Start {
    pub(super) call: Box<UpstreamCall>,
    pub(super) begin: Begin,
}

/// Begins a session, or joins one.
pub(super) async fn serve(app: Arc<App>, start: Start) -> Result<Answer, Refused> {
    let Start { call, begin } = start;
    let dialect = Arc::clone(&call.dialect);
    let refused = |refused: Refused| refused.spoken_in(&dialect);
    if app.is_draining() {
        return Err(refused(Code::Draining.into()));
    }
    let Some(dialler) = app.upstreams.of(&call.route).cloned() else { return Err(refused(Code::Internal.into())) };
    let (names, request) = (names(&app, &call), kept(&app, &call));
    let client = Client::of(&call.head);
    let session = Arc::new(session(&app, *call));
    let Some(attached) = session.attach(1) else { return Err(refused(Code::Internal.into())) };
    match app.store.open(Arc::clone(&session), names).await {
        Opened::New => {}
        // Who joins asked the same thing.
        Opened::Joined(other) => return attach(&app, &other, Seen::Nothing, client, Some(request)).await,
        Opened::Mismatch => {
            let message = "This Idempotency-Key was used with another request (method, path or body); use a new one.";
            return Err(refused(Fault::new(Code::InvalidRequest).status(422).message(message).into()));
        }
        Opened::Refused(fault) => {
            app.strain();
            metrics::error(&fault, &session.route.name);
            return Err(refused(fault.into()));
        }
    }
    Pump::spawn(&app, &session, &dialler, request, begin);
    opened(&session).await?;
    Ok(head::stream(&app, attached, 1, None, false, client))
}

fn session(app: &App, call: UpstreamCall) -> LiveSession {
    let fingerprint = if app.store.is_shared() { fingerprint(app, &call) } else { None };
    let origin = Origin {
        id: SessionId::from_random(app.entropy.u128()),
        note: call.dialect.note(&call.ask()),
        principal: call.principal,
        request_id: call.request_id,
        fingerprint: fingerprint.unwrap_or_default(),
        route: call.route,
        dialect: call.dialect,
        started: app.clock.now(),
    };
    LiveSession::new(origin, app.settings.session)
}

/// Tells one request from another: a keyed hash of method, path and body. `None` if its body was not read.
pub(super) fn fingerprint(app: &App, call: &UpstreamCall) -> Option<u128> {
    let Work::Stream(body) = &call.work else { return None };
    let path = call.head.uri.path_and_query().map_or("", |path| path.as_str());
    Some(app.keyed.fingerprint(&[call.head.method.as_str().as_bytes(), path.as_bytes(), body]))
}

/// The names under which the session can be found beside its id.
fn names(app: &App, call: &UpstreamCall) -> Vec<Name> {
    let mut names = Vec::new();
    if let Some(key) = call.head.headers.get(IDEMPOTENCY_KEY)
        && let Some(fingerprint) = fingerprint(app, call)
    {
        let key = app.keyed.name(call.principal, "idempotency", key.as_bytes());
        names.push(Name::Once { key, fingerprint });
    }
    if let Some(key) = call.route.session_key.as_ref().and_then(|key| session_key(key, &call.head)) {
        names.push(Name::Newest(app.keyed.name(call.principal, &call.route.name, key.as_bytes())));
    }
    names
}

/// A call as it is kept for as long as it may have to be sent again.
pub(super) fn kept(app: &App, call: &UpstreamCall) -> Kept {
    let body = match &call.work {
        Work::Stream(body) | Work::PassRead(body) => body.clone(),
        Work::Pass(_) => Bytes::new(),
    };
    Kept::new(outgoing(call), body, app.spans.trace_of(&call.head.headers, &app.entropy))
}

/// The head of a call as it goes to the upstream.
pub(super) fn outgoing(call: &UpstreamCall) -> Outgoing {
    Outgoing {
        method: call.head.method.clone(),
        uri: call.head.uri.clone(),
        headers: to_upstream(call.head.headers.clone(), &call.head.uri, call.hop, &call.request_id),
    }
}
