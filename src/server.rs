//! Connections of clients: accepting, PROXY header and TLS, HTTP, deadlines on every stage, and letting go.
//!
//! | module | what it holds |
//! |---|---|
//! | `proxy_header` | who a load balancer says the client is |
//! | `converse` | one connection: hyper, and the streams that are taken from it |
//! | `telling` | an event stream over HTTP/1.x: who writes it, and when |
//! | `stream`, `head` | how it is written to the socket |
//! | `transport` | that socket, plain or in TLS |

mod converse;
mod head;
mod proxy_header;
mod stream;
mod telling;
mod transport;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::live::{Live, Serving};
use crate::telemetry::metrics;
use crate::workers::{Place, Workers};
use converse::{Connection, converse};
use transport::Transport;

/// Pause after an accept that failed, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the data port until `closing` turns true; then accepts nothing more, and returns when all connections are done.
pub async fn run(live: Arc<Live>, listener: TcpListener, workers: Arc<Workers>, mut closing: watch::Receiver<bool>) {
    // Every connection holds one end; when the other has nobody to hear from, all are done.
    let (running, mut done) = mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &live) => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (live, closing, running) = (Arc::clone(&live), closing.clone(), running.clone());
        workers.serve(move |place| {
            let presence = Presence::new(permit, place, running);
            serve(live, stream, peer, closing, presence)
        });
    }
    drop((listener, running));
    done.recv().await;
}

/// That there is this connection: it counts as long as this is.
struct Presence {
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
    _running: mpsc::Sender<Infallible>,
}

impl Presence {
    fn new(permit: OwnedSemaphorePermit, place: Option<Place>, running: mpsc::Sender<Infallible>) -> Self {
        metrics::connections(1);
        Self { _permit: permit, _place: place, _running: running }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        metrics::connections(-1);
    }
}

/// Serves one connection.
async fn serve(
    live: Arc<Live>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
    mut closing: watch::Receiver<bool>,
    presence: Presence,
) {
    let arrived = tokio::select! {
        biased;
        arrived = arrive(live.now(), stream, peer) => arrived,
        _ = closing.wait_for(|closing| *closing) => None,
    };
    if let Some((transport, address)) = arrived {
        converse(Connection { live, transport, address, closing, presence }).await;
    }
}

/// Hears the PROXY header and shakes hands, where these are wanted: both within `limits.header_timeout` of the accept.
async fn arrive(
    serving: Arc<Serving>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
) -> Option<(Transport, SocketAddr)> {
    let mut stream = TcpStream::from_std(stream).ok()?;
    let settings = &serving.app.settings;
    let limits = &settings.limits;
    let options = SockRef::from(&stream);
    let _ = options.set_tcp_nodelay(true);
    let _ = options.set_send_buffer_size(limits.send_buffer);
    let _ = options.set_tcp_user_timeout(Some(limits.write_timeout));
    let introduced = settings.listen.proxy_protocol && settings.listen.believes(peer.ip()) != Some(false);
    if !introduced && serving.tls.is_none() {
        return Some((Transport::Plain(stream), peer));
    }
    let preliminaries = async {
        let said = if introduced { proxy_header::read(&mut stream).await? } else { None };
        let transport = match &serving.tls {
            None => Transport::Plain(stream),
            Some(tls) => Transport::Tls(Box::new(TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?)),
        };
        io::Result::Ok((transport, said.unwrap_or(peer)))
    };
    match tokio::time::timeout(limits.header_timeout, preliminaries).await {
        Ok(Ok(arrived)) => Some(arrived),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection refused");
            None
        }
        Err(_) => {
            metrics::refused("header_timeout");
            None
        }
    }
}

/// The next connection, and its place. It belongs to no runtime yet.
async fn accept(
    listener: &TcpListener,
    live: &Live,
) -> Option<(std::net::TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // At the limit new connections wait in the kernel's queue.
    let permit = live.place().await?;
    let accepted = listener.accept().await;
    match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
