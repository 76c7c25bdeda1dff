//! Request → Call: which route, which dialect, whose it is, whether it names a session, whether it asks for a stream.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use streamkeeper_session::{Code, EventId, Fault, SESSION_ID_LEN};
use tower::ServiceExt as _;

use super::admit::host;
use super::telemetry::RequestId;
use super::{Answer, Next, Peer, Refused};
use crate::app::App;
use crate::config::{Ids, Route};
use crate::dialect::{self, Ask, Asks, Dialect};
use crate::principal::Principal;
use crate::telemetry::metrics;
use crate::upstream::headers::{Hop, LAST_EVENT_ID};

/// Longest `Last-Event-ID` in bytes.
const MAX_ID: usize = 128;

/// A request that is understood.
pub(super) enum Call {
    /// It is about a session, by our own path.
    Reserved {
        /// Its head.
        head: Box<Parts>,
        /// What follows `sessions/`, or another reserved name.
        rest: String,
    },
    /// It is for an upstream.
    Upstream(Box<UpstreamCall>),
}

/// A request for an upstream.
pub(super) struct UpstreamCall {
    pub(super) head: Parts,
    pub(super) route: Arc<Route>,
    pub(super) dialect: Arc<dyn Dialect>,
    pub(super) principal: Principal,
    pub(super) request_id: String,
    pub(super) hop: Hop,
    /// Where its client stands already.
    pub(super) resume: Option<ResumeId>,
    pub(super) work: Work,
}

impl UpstreamCall {
    /// The call as a dialect sees it.
    pub(super) fn ask(&self) -> Ask<'_> {
        let Parts { method, uri, headers, .. } = &self.head;
        let body = match &self.work {
            Work::Stream(body) | Work::PassRead(body) => body,
            Work::Pass(_) => &[][..],
        };
        Ask { method, uri, headers, body }
    }
}

/// What it wants, and its body.
pub(super) enum Work {
    /// A stream; the body is kept for further tries.
    Stream(Bytes),
    /// To pass, with a body that was looked into.
    PassRead(Bytes),
    /// To pass.
    Pass(Incoming),
}

/// A `Last-Event-ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResumeId {
    /// One of ours: it carries the session.
    Ours(EventId),
    /// An upstream's own.
    Theirs(Vec<u8>),
}

/// Understands a request.
pub(super) async fn classify(app: Arc<App>, request: Request<Incoming>, next: Next<Call>) -> Result<Answer, Refused> {
    let prefix = &app.settings.listen.prefix;
    let reserved =
        request.uri().path().strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let call = match reserved {
        Some(rest) => Call::Reserved { head: Box::new(request.into_parts().0), rest },
        None => Call::Upstream(Box::new(for_upstream(&app, request, request_id).await?)),
    };
    next.oneshot(call).await
}

async fn for_upstream(app: &App, request: Request<Incoming>, request_id: String) -> Result<UpstreamCall, Refused> {
    let route = route(app, &request)?;
    let (peer, tls, unread) = match request.extensions().get::<Peer>() {
        Some(peer) => (peer.address.ip(), peer.tls, Arc::clone(&peer.unread)),
        None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), false, Arc::default()),
    };
    let hop = Hop { peer, tls, believed: app.settings.listen.believes(peer) };
    let (head, body) = request.into_parts();
    let ask = Ask { method: &head.method, uri: &head.uri, headers: &head.headers, body: &[] };
    let chosen = dialect::choose(&route, &ask);
    let refused = |fault: Fault| Refused::from(fault).spoken_in(&chosen);
    let resume = resume_id(&head.headers, &route, &*chosen).map_err(refused)?;
    let (dialect, work) = match chosen.asks(&ask) {
        Asks::No => (chosen, Work::Pass(body)),
        Asks::Stream | Asks::Body => {
            let limits = &app.settings.limits;
            let body = read(body, limits.request_body, limits.body_timeout).await.map_err(refused)?;
            unread.store(false, Ordering::Relaxed);
            let ask = Ask { body: &body, ..ask };
            let dialect = dialect::settle(&route, chosen, &ask);
            let streams = dialect.asks(&ask) == Asks::Stream || dialect.asks_in_body(&ask);
            (dialect, if streams { Work::Stream(body) } else { Work::PassRead(body) })
        }
    };
    let principal = app.keyed.principal(&head.headers, &route.credential_cookies);
    Ok(UpstreamCall { head, route, dialect, principal, request_id, hop, resume, work })
}

fn route(app: &App, request: &Request<Incoming>) -> Result<Arc<Route>, Fault> {
    let host = host(request);
    let path = request.uri().path();
    let matches = |route: &&Arc<Route>| {
        under(path, &route.path)
            && (route.methods.is_empty() || route.methods.contains(request.method()))
            && route.host.as_ref().is_none_or(|named| host.as_ref() == Some(named))
    };
    app.settings.routes.iter().find(matches).cloned().ok_or_else(|| {
        Fault::new(Code::InvalidRequest)
            .status(404)
            .message("No route of this proxy matches the request (routes[].match).")
    })
}

/// Whether `path` is `prefix` or below it; prefixes end on segment borders.
fn under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads `Last-Event-ID`. An empty one counts as absent (reqwest-eventsource sends it so).
fn resume_id(headers: &http::HeaderMap, route: &Route, dialect: &dyn Dialect) -> Result<Option<ResumeId>, Fault> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let (Some(value), another) = (values.next(), values.next()) else { return Ok(None) };
    let invalid = |message| Err(Fault::new(Code::InvalidRequest).message(message));
    if another.is_some() {
        return invalid("Last-Event-ID is there more than once; send it once.");
    }
    if value.is_empty() {
        return Ok(None);
    }
    let Some(text) = value.to_str().ok().filter(|text| text.len() <= MAX_ID) else {
        return invalid("Last-Event-ID must be at most 128 visible ASCII characters.");
    };
    if route.ids == Ids::Off {
        return Ok(Some(ResumeId::Theirs(text.into())));
    }
    match text.parse::<EventId>() {
        Ok(id) => Ok(Some(ResumeId::Ours(id))),
        Err(_) if route.ids == Ids::Issue || dialect.name() != "generic" || resembles_ours(text) => {
            invalid("Last-Event-ID is not an id that this proxy gave; send the last id exactly as it was received.")
        }
        Err(_) => Ok(Some(ResumeId::Theirs(text.into()))),
    }
}

/// Ours are `<22 characters>.<number>.<number>`. What looks so and does not parse was broken on its way.
fn resembles_ours(text: &str) -> bool {
    let mut parts = text.split('.');
    parts.next().is_some_and(|session| session.len() == SESSION_ID_LEN) && parts.count() == 2
}

/// The caller paused for too long in its body.
pub(super) fn too_slow() -> Fault {
    metrics::refused("body_timeout");
    Fault::new(Code::InvalidRequest).status(408).message("The request body came too slowly (limits.body_timeout).")
}

/// The caller's body broke off or is malformed.
pub(super) fn broken(error: &hyper::Error) -> Fault {
    Fault::new(Code::InvalidRequest).message("The request body ended early.").cause(error.to_string())
}

/// Reads a body whole.
async fn read(body: Incoming, limit: usize, pause: Duration) -> Result<Bytes, Fault> {
    let too_large = || {
        metrics::refused("request_body");
        Fault::new(Code::RequestTooLarge).message("The request body is larger than limits.request_body allows.")
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = body;
    let mut whole = Vec::new();
    loop {
        match tokio::time::timeout(pause, body.frame()).await.map_err(|_| too_slow())? {
            None => return Ok(whole.into()),
            Some(Err(error)) => return Err(broken(&error)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > limit {
                    return Err(too_large());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_on_segment_borders() {
        assert!(under("/v1/chat", "/v1"));
        assert!(under("/v1", "/v1"));
        assert!(under("/v1/", "/v1/"));
        assert!(under("/anything", "/"));
        assert!(!under("/v10", "/v1"));
    }

    #[test]
    fn what_resembles_ours_is_never_taken_for_the_upstreams() {
        assert!(resembles_ours("AAAAAAAAAAAAAAAAAAAAAA.0.x"));
        assert!(!resembles_ours("17"));
        assert!(!resembles_ours("a.b.c"));
    }
}
