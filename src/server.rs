//! Connections of clients: accepting, HTTP/1.1 and h2, deadlines on every stage, and letting go.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::Limits;
use crate::front::{Front, Peer, Writes};
use crate::telemetry::metrics;

/// Pause after an accept that failed, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What hyper buffers of one h2 stream for its client; the ring holds the rest.
const H2_SEND_BUFFER: usize = 32 * 1024;

/// Serves the data port until `closing` turns true; then accepts nothing more, and returns when all connections are done.
pub async fn run(app: Arc<App>, front: Front, listener: TcpListener, mut closing: watch::Receiver<bool>) {
    let builder = builder(&app.settings.limits);
    let permits = Arc::new(Semaphore::new(app.settings.limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let unanswered = Arc::new(AtomicBool::new(false));
        let socket = Deadlined::new(stream, app.settings.limits.write_timeout, &unanswered);
        let writes = Arc::new(Writes::new(app.clock));
        let from = Peer { address: peer, writes: Arc::clone(&writes) };
        let connection = serve(&app.settings.limits, &builder, front.clone(), socket, from);
        let connection = graceful.watch(connection.into_owned());
        let limit = app.settings.limits.write_timeout;
        tokio::spawn(async move {
            metrics::connections(1);
            let ended = tokio::select! {
                ended = connection => ended,
                () = writes.stalled(limit) => {
                    metrics::refused("write_timeout");
                    Ok(())
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, error = %crate::upstream::chain(&*error), "connection");
                note_refusal(&*error, unanswered.load(Ordering::Relaxed));
            }
            metrics::connections(-1);
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
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

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // At the limit new connections wait in the kernel's queue.
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
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

fn serve<'a>(
    limits: &Limits,
    builder: &'a Builder<TokioExecutor>,
    front: Front,
    socket: Deadlined,
    peer: Peer,
) -> hyper_util::server::conn::auto::UpgradeableConnection<
    'a,
    Deadlined,
    impl hyper::service::Service<
        Request<Incoming>,
        Response = crate::front::Answer,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + 'static,
    TokioExecutor,
> {
    let options = SockRef::from(socket.inner.inner());
    let _ = options.set_tcp_nodelay(true);
    let _ = options.set_send_buffer_size(limits.send_buffer);
    let _ = options.set_tcp_user_timeout(Some(limits.write_timeout));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        front.clone().oneshot(request)
    });
    builder.serve_connection_with_upgrades(socket, service)
}

/// A socket on which a write that makes no progress for too long is an error: a client that does not read is let go,
/// and may come back by id.
struct Deadlined {
    inner: TokioIo<TcpStream>,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Something was read since the last write.
    unanswered: Arc<AtomicBool>,
}

impl Deadlined {
    fn new(stream: TcpStream, limit: Duration, unanswered: &Arc<AtomicBool>) -> Self {
        Self { inner: TokioIo::new(stream), limit, stalled: None, unanswered: Arc::clone(unanswered) }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Read for Deadlined {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if read.is_ready() {
            self.unanswered.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl Write for Deadlined {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        self.unanswered.store(false, Ordering::Relaxed);
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.unanswered.store(false, Ordering::Relaxed);
        self.watch(cx, written)
    }
}
