//! Connections to upstreams: addresses from the configuration only, TLS always verified, no redirect followed.
//!
//! | module | what it holds |
//! |---|---|
//! | `connect` | TCP and TLS within the connect timeout |
//! | [`direct`] | HTTP/1.1 for the requests of sessions |
//! | `body` | the body of an answer, hyper's or that one's |
//! | [`headers`] | what crosses a hop |
//! | `dress` | what a request looks like to one upstream: credentials, headers, names of models |
//! | `group` | which endpoint gets the next request, breakers, the retry budget |
//! | [`health`] | active checks |
//!
//! Not here: whether and when to try again (the session's machine says so) and what an answer means.

mod body;
mod connect;
pub mod direct;
mod dress;
mod group;
pub mod headers;
pub mod health;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use streamkeeper_session::{BreakerState, Code, Fault};

use crate::clock::Clock;
use crate::config::{Endpoint, Protocol, Route, Settings, Upstream};
use crate::telemetry::metrics;
use crate::tls::TlsError;
pub use body::Body;
use connect::{ConnectTimedOut, Connector};
use direct::Direct;
use direct::http1;
pub use group::{Group, Try, Wish};

/// Any error of a body.
pub type BoxError = Box<dyn StdError + Send + Sync>;
/// A request body on its way to an upstream.
pub type UpstreamBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// What is sent to an upstream, but for its body.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The caller's path and query.
    pub uri: Uri,
    /// End-to-end headers only.
    pub headers: HeaderMap,
}

/// A request that got no response.
#[derive(Debug)]
pub struct NoResponse {
    /// Why.
    pub fault: Fault,
    /// It may have reached the upstream all the same.
    pub sent: bool,
}

/// Dials one upstream for one route.
#[derive(Debug)]
pub struct Dialler {
    group: Arc<Group>,
    client: Client<Connector, UpstreamBody>,
    /// Not hyper's way; `None` where it is switched off.
    direct: Option<Direct>,
}

impl Dialler {
    /// A dialler with its own pools of connections.
    ///
    /// # Errors
    /// When its certificates cannot be used.
    fn new(group: &Arc<Group>, connect: Duration, direct: bool) -> Result<Self, TlsError> {
        let upstream = group.upstream();
        let connector = Connector::new(upstream, connect)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(upstream.protocol == Protocol::Http2)
            .build(connector.clone());
        let direct = direct.then(|| Direct::new(connector));
        Ok(Self { group: Arc::clone(group), client, direct })
    }

    /// The upstream's endpoints as all its diallers know them.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.group.upstream().endpoints.len()
    }

    /// Whether the last requests failed: clients are asked to come back later than usual.
    pub fn is_ill(&self) -> bool {
        self.group.is_ill()
    }

    /// A body whose model has the upstream's name for it.
    pub fn body(&self, body: &Bytes) -> Bytes {
        dress::rename(&self.group.upstream().models, body)
    }

    /// Sends a request that is sent once, whatever becomes of it, to the endpoint that is next.
    ///
    /// The response carries an `Arc<`[`Try`]`>` in its extensions: the request is out until that is dropped. A 5xx was
    /// noted; whether anything else is well, the caller must say.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send(&self, outgoing: Outgoing, body: UpstreamBody) -> Result<Response<Incoming>, NoResponse> {
        let Some(out) = self.group.choose(&Wish::default()) else {
            return Err(NoResponse { fault: Code::UpstreamUnreachable.into(), sent: false });
        };
        self.group.count_request();
        let mut response =
            self.send_to(out.endpoint(), outgoing, body).await.inspect_err(|none| out.failed(&none.fault))?;
        if response.status().is_server_error() {
            out.failed(&Code::UpstreamUnavailable.into());
        }
        response.extensions_mut().insert(Arc::new(out));
        Ok(response)
    }

    /// Sends a request to this endpoint, dressed as the upstream wants it.
    ///
    /// Dropping the future, and later the response's body, ends the upstream's work.
    ///
    /// # Errors
    /// A fault with `connect_timeout`, `upstream_unreachable` or `upstream_reset`.
    pub async fn send_to(
        &self,
        endpoint: usize,
        mut outgoing: Outgoing,
        body: UpstreamBody,
    ) -> Result<Response<Incoming>, NoResponse> {
        let uri = self.aim(endpoint, &mut outgoing)?;
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = outgoing.headers;
        self.client.request(request).await.map_err(|error| no_response(&error))
    }

    /// The same for a request whose body is there already, as a session's is, by the cheapest way there is.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send_whole(
        &self,
        endpoint: usize,
        mut outgoing: Outgoing,
        body: Bytes,
    ) -> Result<Response<Body>, NoResponse> {
        let Some(direct) = self.direct.as_ref().filter(|_| self.speaks_http1(endpoint)) else {
            let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
            return self.send_to(endpoint, outgoing, body).await.map(|response| response.map(Body::from));
        };
        let uri = self.aim(endpoint, &mut outgoing)?;
        let request = http1::Request::new(outgoing.method, &uri, &outgoing.headers, body);
        direct.send(endpoint, uri, request).await.map(|response| response.map(Body::Direct))
    }

    /// Whether that is known before anything was said.
    fn speaks_http1(&self, endpoint: usize) -> bool {
        let upstream = self.group.upstream();
        upstream.endpoints.get(endpoint).is_some_and(|endpoint| match upstream.protocol {
            Protocol::Auto => endpoint.scheme == Scheme::HTTP,
            Protocol::Http1 => true,
            Protocol::Http2 => false,
        })
    }

    /// Dresses a request for its endpoint, and says where that is.
    fn aim(&self, endpoint: usize, outgoing: &mut Outgoing) -> Result<Uri, NoResponse> {
        let upstream = self.group.upstream();
        let Some(endpoint) = upstream.endpoints.get(endpoint) else {
            return Err(NoResponse { fault: Code::UpstreamUnreachable.into(), sent: false });
        };
        dress::dress(upstream, outgoing);
        target(endpoint, &outgoing.uri).map_err(|error| NoResponse {
            fault: Fault::new(Code::InvalidRequest).cause(error.to_string()),
            sent: false,
        })
    }
}

/// The endpoint's scheme, authority and base path before the caller's path and query.
fn target(endpoint: &Endpoint, uri: &Uri) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme(endpoint.scheme.clone())
        .authority(endpoint.authority.clone())
        .path_and_query(format!("{}{path}", endpoint.base))
        .build()
}

fn no_response(error: &hyper_util::client::legacy::Error) -> NoResponse {
    if error.is_connect() {
        return no_connection(error);
    }
    NoResponse { fault: Fault::new(Code::UpstreamReset).cause(chain(error)), sent: true }
}

fn no_connection(error: &(dyn StdError + 'static)) -> NoResponse {
    let cause = chain(error);
    let mut level = Some(error);
    while let Some(inner) = level {
        if inner.is::<ConnectTimedOut>() {
            return NoResponse { fault: Fault::new(Code::ConnectTimeout).cause(cause), sent: false };
        }
        level = inner.source();
    }
    NoResponse { fault: Fault::new(Code::UpstreamUnreachable).cause(cause), sent: false }
}

/// An error with all its sources, on one line.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// The ways to all upstreams. Routes with the same upstream and connect timeout share a dialler; all diallers of an
/// upstream share what is known about its endpoints.
#[derive(Debug)]
pub struct Upstreams {
    /// As configured, in that order.
    groups: Vec<Arc<Group>>,
    diallers: HashMap<(String, Duration), Arc<Dialler>>,
}

impl Upstreams {
    /// Diallers for everything in `settings`.
    ///
    /// # Errors
    /// When certificates of an upstream cannot be used.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, TlsError> {
        Self { groups: Vec::new(), diallers: HashMap::new() }.next(settings, clock)
    }

    /// The same for other settings. Upstreams that are the same in both go on with what is known about their
    /// endpoints, and with their connections.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn next(&self, settings: &Settings, clock: Clock) -> Result<Self, TlsError> {
        let known = |upstream: &Arc<Upstream>| self.groups.iter().find(|group| group.upstream() == upstream).cloned();
        let group = |upstream| known(upstream).unwrap_or_else(|| Arc::new(Group::new(upstream, clock)));
        let groups: Vec<_> = settings.upstreams.iter().map(group).collect();
        let mut diallers = HashMap::new();
        for route in &settings.routes {
            for upstream in [&route.upstream].into_iter().chain(&route.failover) {
                let group = groups.iter().find(|group| group.upstream().name == upstream.name);
                if let (Some(group), Entry::Vacant(place)) = (group, diallers.entry(key(route, upstream))) {
                    let known = self.diallers.get(place.key()).filter(|dialler| Arc::ptr_eq(dialler.group(), group));
                    place.insert(match known {
                        Some(dialler) => Arc::clone(dialler),
                        None => Arc::new(Dialler::new(group, route.timeouts.connect, settings.http1.direct)?),
                    });
                }
            }
        }
        Ok(Self { groups, diallers })
    }

    /// A dialler, whichever: for a session whose route is gone and that is only to be ended.
    pub fn any(&self) -> Option<&Arc<Dialler>> {
        self.diallers.values().next()
    }

    /// Upstreams that `next` does not have are shown as well: nobody would change it later.
    pub fn forget_all_but(&self, next: &Self) {
        let gone =
            |group: &&Arc<Group>| !next.groups.iter().any(|other| other.upstream().name == group.upstream().name);
        for group in self.groups.iter().filter(gone) {
            metrics::breaker_state(&group.upstream().name, BreakerState::Closed);
        }
    }

    /// The dialler of `route`, which must come from the same settings.
    pub fn of(&self, route: &Route) -> Option<&Arc<Dialler>> {
        self.diallers.get(&key(route, &route.upstream))
    }

    /// The diallers that `route` fails over to, in order.
    pub fn failover_of(&self, route: &Route) -> impl Iterator<Item = &Arc<Dialler>> {
        route.failover.iter().filter_map(|upstream| self.diallers.get(&key(route, upstream)))
    }

    /// One dialler of each upstream that is used.
    fn one_of_each(&self) -> impl Iterator<Item = &Arc<Dialler>> {
        let of = |group: &Arc<Group>| self.diallers.values().find(|dialler| Arc::ptr_eq(dialler.group(), group));
        self.groups.iter().filter_map(of)
    }

    /// Shows the state of all breakers as it is now: it changes with time alone, too.
    pub fn show(&self) {
        for group in &self.groups {
            metrics::breaker_state(&group.upstream().name, group.worst());
        }
    }

    /// Closes connections that waited too long for another request.
    pub fn reap(&self) {
        self.diallers.values().filter_map(|dialler| dialler.direct.as_ref()).for_each(Direct::reap);
    }

    /// All upstreams, for operators.
    pub fn to_json(&self) -> serde_json::Value {
        self.groups.iter().map(|group| group.to_json()).collect()
    }
}

fn key(route: &Route, upstream: &Upstream) -> (String, Duration) {
    (upstream.name.clone(), route.timeouts.connect)
}
