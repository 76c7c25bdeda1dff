//! An upstream as the program uses it: where it is, how it is treated, and what requests to it carry.

use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue};
use streamkeeper_session::BreakerPlan;

use super::pem::{Identity, Pem};

/// A named group of equivalent endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Unique name; a metric label.
    pub name: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Which HTTP version to speak.
    pub protocol: Protocol,
    /// Certificate authorities instead of the system's.
    pub ca: Option<Pem>,
    /// Who this is to the upstream, where that asks for a certificate.
    pub client_cert: Option<Identity>,
    /// When an endpoint is left alone, and for how long.
    pub breaker: BreakerPlan,
    /// How much of the load may be retries.
    pub retry_budget: Budget,
    /// Names of the upstreams to turn to when this one cannot answer; a route may name others.
    pub failover: Vec<String>,
    /// Sent instead of the caller's credentials.
    pub credential: Option<Credential>,
    /// Set on every request, over what the caller sent. Secret values are marked sensitive, so they do not print.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Under which names this upstream knows the models.
    pub models: Models,
    /// How endpoints are asked whether they are alive; `None`: they are not.
    pub health: Option<Health>,
}

/// A share of requests that may be retries, and a few beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Retries for each request, 0.0 to 1.0.
    pub ratio: f64,
    /// Retries in ten seconds beside those.
    pub floor: u32,
}

/// A credential of this proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The header it goes into.
    pub header: HeaderName,
    /// The header's whole value; marked sensitive, so it does not print.
    pub value: HeaderValue,
}

/// Which model an upstream is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models {
    /// By the caller's name for it; looked at first.
    pub named: Vec<(String, String)>,
    /// For all others; `None` leaves them as they are.
    pub any: Option<String>,
}

/// An active check of every endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked for, below the endpoint's base.
    pub path: String,
    /// Check → next check; also how long one may take.
    pub interval: Duration,
}

/// One base URL: requests go to `scheme://authority` + `base` + the caller's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and optional port, never user information.
    pub authority: Authority,
    /// Path prefix put before the caller's path, without a trailing slash; empty for none.
    pub base: String,
    /// Its share of the load beside others of its priority, from 1.
    pub weight: u32,
    /// Lower ones first; a higher one is used only while no lower one is available.
    pub priority: u32,
}

impl Endpoint {
    /// Whether both are the same place.
    pub fn is_at(&self, other: &Self) -> bool {
        (&self.scheme, &self.authority, &self.base) == (&other.scheme, &other.authority, &other.base)
    }
}

/// HTTP version spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// ALPN decides on https (h2 or HTTP/1.1); HTTP/1.1 on http.
    Auto,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 always; on http with prior knowledge.
    Http2,
}
