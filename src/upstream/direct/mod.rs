//! The cheap way to an upstream: connections of HTTP/1.1 without hyper, for the requests of sessions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`http1`] | the protocol, over any stream of bytes |
//! | `socket` | TCP, or TLS over it |
//! | `pool` | connections that wait for another request |
//!
//! It serves endpoints where HTTP/1.1 is known to be spoken: `http://` unless HTTP/2 is configured, and `https://` where
//! `protocol = "http1"`. Everything else is hyper's, and so are upgrades and what passes unread.
//!
//! A request is sent once. Only where a waiting connection turns out to be closed before a byte of it left, another
//! connection is taken, as hyper's pool does: what was sent may have been worked on.

pub mod http1;
mod pool;
mod socket;

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use http::{Response, Uri};
use streamkeeper_session::{Code, Fault};
use tokio::time::Instant;
use tower::ServiceExt as _;

use self::http1::{Failed, Flow, Request};
use self::pool::{Kind, Pool};
use self::socket::Socket;
use super::connect::Connector;
use super::{BoxError, NoResponse, chain, no_connection};

/// The connections of one dialler.
#[derive(Debug)]
pub(super) struct Direct {
    connector: Connector,
    pool: Arc<Pool>,
}

/// Where a connection goes back to.
#[derive(Debug)]
struct Place {
    pool: Weak<Pool>,
    kind: Kind,
}

/// The body of an answer. Read to its end it gives its connection back; dropped before, it ends it.
#[derive(Debug)]
pub struct Body {
    inner: http1::Body<Socket>,
    place: Place,
}

impl Direct {
    pub(super) fn new(connector: Connector) -> Self {
        Self { connector, pool: Arc::default() }
    }

    /// Sends `request` to the endpoint of this number, which is at `uri`.
    ///
    /// # Errors
    /// A fault with `connect_timeout`, `upstream_unreachable` or `upstream_reset`.
    pub(super) async fn send(&self, endpoint: usize, uri: Uri, request: Request) -> Result<Response<Body>, NoResponse> {
        let kind = (endpoint, std::thread::current().id());
        let place = Place { pool: Arc::downgrade(&self.pool), kind };
        while let Some(idle) = self.pool.take(kind, Instant::now()) {
            match http1::exchange(idle, &request).await {
                Err(Failed { untouched: true, .. }) => {}
                answer => return placed(answer, place),
            }
        }
        let connected = self.connector.clone().oneshot(uri).await.map_err(|error| no_connection(&*error))?;
        placed(http1::exchange(Socket::from(connected), &request).await, place)
    }

    /// Closes connections that nobody wanted for too long, or that the upstream closed.
    pub(super) fn reap(&self) {
        self.pool.reap(Instant::now());
    }
}

fn placed(answer: Result<Response<http1::Body<Socket>>, Failed>, place: Place) -> Result<Response<Body>, NoResponse> {
    match answer {
        Ok(response) => Ok(response.map(|inner| Body { inner, place })),
        Err(Failed { why, untouched }) => {
            Err(NoResponse { fault: Fault::new(Code::UpstreamReset).cause(chain(&why)), sent: !untouched })
        }
    }
}

impl Body {
    /// As [`http1::Body::poll_data`].
    pub fn poll_data(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(&[u8])) -> Poll<Flow<BoxError>> {
        self.inner.poll_data(cx, sink).map(|flow| match flow {
            Flow::More => Flow::More,
            Flow::Over => {
                if let (Some(idle), Some(pool)) = (self.inner.into_idle(), self.place.pool.upgrade()) {
                    pool.put(self.place.kind, Instant::now(), idle);
                }
                Flow::Over
            }
            Flow::Broken(why) => Flow::Broken(why.into()),
        })
    }
}
