//! A new session: it is offered to the store, its pump begins to read, and this client becomes its first reader.
//! A request whose Idempotency-Key is known joins instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use bytes::Bytes;
use streamkeeper_session::{Code, Fault, SessionId, Tail};

use super::classify::{UpstreamCall, Work};
use super::resume::{Seen, attach, opened, session_key};
use super::{Answer, Refused, head};
use crate::app::App;
use crate::pump::{Begin, Kept, Pump};
use crate::store::{Control, LiveSession, Log, Name, Opened};
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
    let (names, request) = (names(&app, &call), kept(&call));
    let is_get = call.head.method == http::Method::GET;
    let session = session(&app, *call);
    let Some(attached) = session.attach(1) else { return Err(refused(Code::Internal.into())) };
    match app.store.open(Arc::clone(&session), names).await {
        Opened::New => {}
        Opened::Joined(other) => return attach(&app, &other, Seen::Nothing, is_get).await,
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
    Ok(head::stream(&app, attached, 1, None, false))
}

fn session(app: &App, call: UpstreamCall) -> Arc<LiveSession> {
    Arc::new(LiveSession {
        id: SessionId::from_random(app.entropy.u128()),
        epoch: 0,
        note: call.dialect.note(&call.ask()),
        principal: call.principal,
        request_id: call.request_id,
        route: call.route,
        dialect: call.dialect,
        started: app.clock.now(),
        log: Arc::new(Tail::new(Log::new(app.settings.session))),
        control: Arc::new(Tail::new(Control::default())),
        charged: AtomicUsize::new(0),
        evicted: AtomicU64::new(0),
        saved: AtomicBool::new(false),
    })
}

/// The names under which the session can be found beside its id.
fn names(app: &App, call: &UpstreamCall) -> Vec<Name> {
    let mut names = Vec::new();
    // Only a body that was read can be compared.
    if let (Some(key), Work::Stream(body)) = (call.head.headers.get(IDEMPOTENCY_KEY), &call.work) {
        let key = app.keyed.name(call.principal, "idempotency", key.as_bytes());
        let path = call.head.uri.path_and_query().map_or("", |path| path.as_str());
        let fingerprint = app.keyed.fingerprint(&[call.head.method.as_str().as_bytes(), path.as_bytes(), body]);
        names.push(Name::Once { key, fingerprint });
    }
    if let Some(key) = call.route.session_key.as_ref().and_then(|key| session_key(key, &call.head)) {
        names.push(Name::Newest(app.keyed.name(call.principal, &call.route.name, key.as_bytes())));
    }
    names
}

fn kept(call: &UpstreamCall) -> Kept {
    Kept {
        outgoing: outgoing(call),
        body: match &call.work {
            Work::Stream(body) | Work::PassRead(body) => body.clone(),
            Work::Pass(_) => Bytes::new(),
        },
    }
}

/// The head of a call as it goes to the upstream.
pub(super) fn outgoing(call: &UpstreamCall) -> Outgoing {
    Outgoing {
        method: call.head.method.clone(),
        uri: call.head.uri.clone(),
        headers: to_upstream(call.head.headers.clone(), &call.head.uri, call.peer, &call.request_id),
    }
}
