//! Connections of clients: accepting, PROXY header and TLS, HTTP/1.1 and h2, deadlines on every stage, and letting go.

mod proxy_header;
mod transport;

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use transport::{Deadlined, Transport};

use crate::config::Limits;
use crate::front::{Peer, Writes};
use crate::live::{Live, Serving};
use crate::telemetry::metrics;

/// Pause after an accept that failed, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What hyper buffers of one h2 stream for its client; the ring holds the rest.
const H2_SEND_BUFFER: usize = 32 * 1024;

/// Serves the data port until `closing` turns true; then accepts nothing more, and returns when all connections are done.
pub async fn run(live: Arc<Live>, listener: TcpListener, mut closing: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &live) => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (live, watcher, mut closing) = (Arc::clone(&live), graceful.watcher(), closing.clone());
        tokio::spawn(async move {
            metrics::connections(1);
            // The connection keeps the limits of its beginning; each of its requests takes what serves then.
            let serving = live.now();
            let arrival = arrive(&serving, stream, peer);
            let arrived = tokio::select! {
                biased;
                arrived = arrival => arrived,
                _ = closing.wait_for(|closing| *closing) => None,
            };
            if let Some(arrived) = arrived {
                let limits = serving.app.settings.limits;
                drop(serving);
                converse(live, arrived, limits, watcher).await;
            }
            metrics::connections(-1);
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// A connection on which HTTP comes next.
struct Arrived {
    transport: Transport,
    /// The client's address, by the PROXY header where one was believed.
    address: SocketAddr,
}

/// Hears the PROXY header and shakes hands, where these are wanted: both within `limits.header_timeout` of the accept.
async fn arrive(serving: &Serving, mut stream: TcpStream, peer: SocketAddr) -> Option<Arrived> {
    let settings = &serving.app.settings;
    let limits = &settings.limits;
    let options = SockRef::from(&stream);
    let _ = options.set_tcp_nodelay(true);
    let _ = options.set_send_buffer_size(limits.send_buffer);
    let _ = options.set_tcp_user_timeout(Some(limits.write_timeout));
    let introduced = settings.listen.proxy_protocol && settings.listen.believes(peer.ip()) != Some(false);
    if !introduced && serving.tls.is_none() {
        return Some(Arrived { transport: Transport::Plain(stream), address: peer });
    }
    // On the heap: what a handshake needs is not to be carried about for as long as the connection lives.
    let preliminaries = Box::pin(async {
        let said = if introduced { proxy_header::read(&mut stream).await? } else { None };
        let transport = match &serving.tls {
            None => Transport::Plain(stream),
            Some(tls) => Transport::Tls(Box::new(TlsAcceptor::from(Arc::clone(tls)).accept(stream).await?)),
        };
        io::Result::Ok(Arrived { transport, address: said.unwrap_or(peer) })
    });
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

/// Answers the requests of one connection until it ends.
async fn converse(live: Arc<Live>, arrived: Arrived, limits: Limits, watcher: Watcher) {
    let Arrived { transport, address } = arrived;
    let unanswered = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(Writes::new(live.app().clock));
    let tls = matches!(transport, Transport::Tls(_));
    let peer = Peer { address, tls, writes: Arc::clone(&writes) };
    let socket = Deadlined::new(transport, limits.write_timeout, &unanswered);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        live.front().oneshot(request)
    });
    let builder = builder(&limits);
    let connection = watcher.watch(builder.serve_connection_with_upgrades(socket, service).into_owned());
    let ended = tokio::select! {
        ended = connection => ended,
        () = writes.stalled(limits.write_timeout) => {
            metrics::refused("write_timeout");
            Ok(())
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, error = %crate::upstream::chain(&*error), "connection");
        note_refusal(&*error, unanswered.load(Ordering::Relaxed));
    }
}

/// What hyper refuses by itself, and a client that does not read, are limits like all others. `unanswered`: the client
/// had said something; else its connection was idle, and letting it go is no refusal.
fn note_refusal(error: &(dyn StdError + 'static), unanswered: bool) {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return };
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_parse_too_large() {
        metrics::refused("headers");
    } else if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        metrics::refused("write_timeout");
    } else if error.is_timeout() && unanswered {
        metrics::refused("header_timeout");
    }
}

async fn accept(listener: &TcpListener, live: &Live) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // At the limit new connections wait in the kernel's queue.
    let permit = live.place().await?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}
