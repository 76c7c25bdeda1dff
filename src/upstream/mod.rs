//! Connections to upstreams: addresses from the configuration only, TLS always verified, no redirect followed.
//!
//! Not here: whether and when to try again (the session's machine says so) and what an answer means.

mod connect;
pub mod headers;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use streamkeeper_session::{Code, Fault};

use crate::config::{Endpoint, Protocol, Route, Settings, Upstream};
pub use connect::ConnectError;
use connect::{ConnectTimedOut, Connector};

/// Any error of a body.
pub type BoxError = Box<dyn StdError + Send + Sync>;
/// A request body on its way to an upstream.
pub type UpstreamBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long an unused connection is kept.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// What is sent to an upstream, but for its body.
#[derive(Debug, Clone)]
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
    upstream: Arc<Upstream>,
    client: Client<Connector, UpstreamBody>,
    next: AtomicUsize,
    failures: AtomicU32,
}

impl Dialler {
    /// A dialler with its own pool of connections.
    ///
    /// # Errors
    /// When the certificate authorities cannot be loaded.
    pub fn new(upstream: &Arc<Upstream>, connect: Duration) -> Result<Self, ConnectError> {
        let connector = Connector::new(upstream, connect)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(upstream.protocol == Protocol::Http2)
            .build(connector);
        Ok(Self { upstream: Arc::clone(upstream), client, next: AtomicUsize::new(0), failures: AtomicU32::new(0) })
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.upstream.endpoints.len()
    }

    /// Whether the last requests failed: clients are asked to come back later than usual.
    pub fn is_ill(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 1
    }

    /// Notes how a stream or a try ended.
    pub fn note(&self, well: bool) {
        if well {
            self.failures.store(0, Ordering::Relaxed);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends a request. `other_endpoint`: not where the last one went.
    ///
    /// Dropping the future, and later the response's body, ends the upstream's work.
    ///
    /// # Errors
    /// A fault with `connect_timeout`, `upstream_unreachable` or `upstream_reset`.
    pub async fn send(
        &self,
        outgoing: Outgoing,
        body: UpstreamBody,
        other_endpoint: bool,
    ) -> Result<Response<Incoming>, NoResponse> {
        let turn = if other_endpoint {
            self.next.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            self.next.load(Ordering::Relaxed)
        };
        let Some(endpoint) = self.upstream.endpoints.get(turn % self.endpoints().max(1)) else {
            return Err(NoResponse { fault: Code::UpstreamUnreachable.into(), sent: false });
        };
        let request = aim(endpoint, outgoing, body).map_err(|error| NoResponse {
            fault: Fault::new(Code::InvalidRequest).cause(error.to_string()),
            sent: false,
        })?;
        self.client.request(request).await.map_err(|error| no_response(&error))
    }
}

/// Puts the endpoint's scheme, authority and base path before the caller's path and query.
fn aim(endpoint: &Endpoint, outgoing: Outgoing, body: UpstreamBody) -> Result<Request<UpstreamBody>, http::Error> {
    let path = outgoing.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(endpoint.scheme.clone())
        .authority(endpoint.authority.clone())
        .path_and_query(format!("{}{path}", endpoint.base))
        .build()?;
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = outgoing.headers;
    Ok(request)
}

fn no_response(error: &hyper_util::client::legacy::Error) -> NoResponse {
    let cause = chain(error);
    if !error.is_connect() {
        return NoResponse { fault: Fault::new(Code::UpstreamReset).cause(cause), sent: true };
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<ConnectTimedOut>() {
            return NoResponse { fault: Fault::new(Code::ConnectTimeout).cause(cause), sent: false };
        }
        source = inner.source();
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

/// The diallers of all routes. Routes with the same upstream and connect timeout share one.
#[derive(Debug, Default)]
pub struct Upstreams {
    diallers: HashMap<(String, Duration), Arc<Dialler>>,
}

impl Upstreams {
    /// Diallers for everything in `settings`.
    ///
    /// # Errors
    /// When the certificate authorities of an upstream cannot be loaded.
    pub fn new(settings: &Settings) -> Result<Self, ConnectError> {
        let mut diallers = HashMap::new();
        for route in &settings.routes {
            if let Entry::Vacant(place) = diallers.entry((route.upstream.name.clone(), route.timeouts.connect)) {
                place.insert(Arc::new(Dialler::new(&route.upstream, route.timeouts.connect)?));
            }
        }
        Ok(Self { diallers })
    }

    /// The dialler of `route`, which must come from the same settings.
    pub fn of(&self, route: &Route) -> Option<&Arc<Dialler>> {
        self.diallers.get(&(route.upstream.name.clone(), route.timeouts.connect))
    }
}
