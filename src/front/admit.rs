//! Who is let in at all. The permit lives in the response body, so a stream counts until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HOST;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use streamkeeper_session::{Code, Fault};
use tower::ServiceExt as _;

use super::{Answer, Next, Peer, Refused};
use crate::app::App;
use crate::telemetry::metrics;

/// A request being answered. Draining waits until there is none.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// One more in `count`, until it is dropped.
    pub fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Checks the `Host`, refuses tunnels, and counts the request.
pub(super) async fn admit(
    app: Arc<App>,
    request: Request<Incoming>,
    next: Next<Request<Incoming>>,
) -> Result<Answer, Refused> {
    let hosts = &app.settings.listen.hosts;
    if !hosts.is_empty()
        && !host(&request).is_some_and(|host| hosts.iter().any(|known| known.eq_ignore_ascii_case(&host)))
    {
        metrics::refused("hosts");
        let message = "This host name is not served here; the operator can add it to listen.hosts.";
        return Err(Fault::new(Code::InvalidRequest).message(message).into());
    }
    if request.method() == Method::CONNECT {
        let message = "This proxy opens no tunnels; upstreams come from its configuration only.";
        return Err(Fault::new(Code::InvalidRequest).status(405).message(message).into());
    }
    let permit = InFlight::enter(&app.in_flight);
    let h2 = request.version() == Version::HTTP_2;
    let written = request.extensions().get::<Peer>().filter(|_| h2).map(|peer| peer.writes.watch());
    let answer = next.oneshot(request).await?;
    Ok(answer.map(|body| body.holding(permit).noting(written)))
}

/// The host a request names, without its port.
pub(super) fn host<B>(request: &Request<B>) -> Option<String> {
    let named = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or(named)?;
    let authority: http::uri::Authority = host.parse().ok()?;
    Some(authority.host().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_without_its_port() {
        let request = Request::builder().header(HOST, "App.Example:8080").body(()).unwrap();
        assert_eq!(host(&request).as_deref(), Some("app.example"));
    }
}
