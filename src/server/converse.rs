//! One connection: hyper reads its requests and writes its answers, but for event streams over HTTP/1.x. For such an
//! answer the socket is taken from hyper before a byte of it is written, and given back when the stream is whole and
//! another request may follow.
//!
//! Source: RFC 9112 section 9.3; RFC 9113 section 3.4 (the preface).

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::Presence;
use super::head::{self, Terms};
use super::stream::{Bounds, Stream};
use super::telling::tell;
use super::transport::{Deadlined, Doings, Transport};
use crate::config::Limits;
use crate::front::{Answer, AnswerBody, Events, Peer, Writes};
use crate::live::Live;
use crate::telemetry::metrics;

/// What a client begins with that speaks HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for what a client says first; most heads fit.
const FIRST_READ: usize = 1024;
/// What hyper buffers of one h2 stream for its client; the ring holds the rest.
const H2_SEND_BUFFER: usize = 32 * 1024;

/// A connection on which HTTP comes next.
pub(super) struct Connection {
    pub(super) live: Arc<Live>,
    pub(super) transport: Transport,
    /// The client's address, by the PROXY header where one was believed.
    pub(super) address: SocketAddr,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) presence: Presence,
}

/// Finds out which version of HTTP a new connection speaks, and speaks it.
pub(super) async fn converse(mut connection: Connection) {
    let timeout = connection.live.now().app.settings.limits.header_timeout;
    let mut said = BytesMut::new();
    let first = tokio::select! {
        biased;
        first = tokio::time::timeout(timeout, first_words(&mut connection.transport, &mut said)) => first,
        _ = connection.closing.wait_for(|closing| *closing) => return,
    };
    match first {
        Ok(Ok(is_h2)) => speak(connection, said.freeze(), is_h2).await,
        Ok(Err(error)) => tracing::debug!(peer = %connection.address, %error, "connection"),
        // Who has said nothing was refused nothing.
        Err(_) if said.is_empty() => {}
        Err(_) => metrics::refused("header_timeout"),
    }
}

/// Lets hyper answer requests until the connection ends, one is answered after `closing` has turned true, or an answer
/// is taken: that is a task of its own, for what hyper needs is many times what a stream needs. `said`: what the client
/// has sent already.
pub(super) async fn speak(connection: Connection, said: Bytes, is_h2: bool) {
    let Connection { live, transport, address, mut closing, presence } = connection;
    // What serves now has the say until an answer is taken.
    let (limits, direct) = {
        let settings = &live.now().app.settings;
        (settings.limits, settings.http1.direct)
    };
    let doings = Arc::new(Doings::default());
    let writes = Arc::new(Writes::new(live.app().clock));
    let tls = matches!(transport, Transport::Tls(_));
    let peer = Peer { address, tls, writes: Arc::clone(&writes), unread: Arc::default() };
    let socket = Deadlined::new(transport, said, limits.write_timeout, &doings);
    let spoken = if is_h2 {
        speak_h2(&live, socket, peer, &limits, &writes, &mut closing).await.map(|()| None)
    } else {
        speak_h1(&live, (socket, &doings), peer, &limits, direct, &mut closing).await
    };
    match spoken {
        Ok(None) => {}
        Ok(Some((transport, stream))) => {
            tell(stream, Connection { live, transport, address, closing, presence });
        }
        Err(error) => {
            tracing::debug!(peer = %address, error = %crate::upstream::chain(&error), "connection");
            note_refusal(&error, doings.unanswered());
        }
    }
}

/// Whether the client speaks HTTP/2. `said`: all that it has said so far.
async fn first_words(transport: &mut Transport, said: &mut BytesMut) -> io::Result<bool> {
    loop {
        let known = said.len().min(PREFACE.len());
        if known == PREFACE.len() || said.get(..known) != PREFACE.get(..known) {
            return Ok(said.starts_with(PREFACE));
        }
        said.reserve(FIRST_READ);
        if transport.read_buf(said).await? == 0 {
            return Ok(false);
        }
    }
}

/// Where a service leaves an answer that is not to be hyper's.
type Slot = Arc<Mutex<Option<(Response<()>, Events, Terms)>>>;

async fn speak_h1(
    live: &Arc<Live>,
    (socket, doings): (Deadlined, &Doings),
    peer: Peer,
    limits: &Limits,
    direct: bool,
    closing: &mut watch::Receiver<bool>,
) -> hyper::Result<Option<(Transport, Stream)>> {
    let slot = Slot::default();
    let service = {
        let (live, slot) = (Arc::clone(live), Arc::clone(&slot));
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let terms = Terms::of(&request).filter(|_| direct);
            let unread = Arc::clone(&peer.unread);
            unread.store(!request.body().is_end_stream(), Ordering::Relaxed);
            request.extensions_mut().insert(peer.clone());
            let (answering, slot) = (live.front().oneshot(request), Arc::clone(&slot));
            async move {
                let answer = answering.await?;
                match terms.filter(|_| !unread.load(Ordering::Relaxed)) {
                    Some(terms) => leave(answer, terms, &slot).await,
                    None => Ok(answer),
                }
            }
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(8192));
    let mut connection = builder.serve_connection(socket, service).with_upgrades();
    let mut is_closing = false;
    {
        let mut closing = pin!(closing.wait_for(|closing| *closing));
        let spoken = poll_fn(|cx| {
            if !is_closing && closing.as_mut().poll(cx).is_ready() {
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match Pin::new(&mut connection).poll(cx) {
                // What goes before the stream has to be out: with hyper's buffer it would be lost.
                Poll::Pending if !doings.unwritten() && lock(&slot).is_some() => Poll::Ready(None),
                spoken => spoken.map(Some),
            }
        });
        if let Some(spoken) = spoken.await {
            return spoken.map(|()| None);
        }
    }
    // The service waits for ever now; with the connection it goes away.
    let (Some(parts), Some((answer, events, mut terms))) = (connection.into_parts(), lock(&slot).take()) else {
        return Ok(None);
    };
    terms.keep_alive &= !is_closing;
    let (transport, unheard) = parts.io.into_parts();
    // Copied, for what hyper read lies in a buffer of 8 KiB, and is nothing most of the time.
    let said = [parts.read_buf, unheard].concat();
    let head = head::write(&answer.into_parts().0, terms, SystemTime::now());
    let bounds = Bounds { pause: limits.write_timeout, said: limits.header_bytes };
    Ok(Some((transport, Stream::new(events, terms, head, said, bounds))))
}

/// Leaves an event stream in the slot, and waits for ever; any other answer is hyper's.
async fn leave(answer: Answer, terms: Terms, slot: &Slot) -> Result<Answer, Infallible> {
    let (head, body) = answer.into_parts();
    match body.into_events() {
        Ok(events) => {
            *lock(slot) = Some((Response::from_parts(head, ()), events, terms));
            pending().await
        }
        Err(body) => Ok(Response::from_parts(head, body)),
    }
}

async fn speak_h2(
    live: &Arc<Live>,
    socket: Deadlined,
    peer: Peer,
    limits: &Limits,
    writes: &Writes,
    closing: &mut watch::Receiver<bool>,
) -> hyper::Result<()> {
    let live = Arc::clone(live);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        live.front().oneshot(request)
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(30));
    let mut connection = pin!(builder.serve_connection::<_, _, AnswerBody>(socket, service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = writes.stalled(limits.write_timeout) => {
            metrics::refused("write_timeout");
            return Ok(());
        }
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// What hyper refuses by itself, and a client that does not read, are limits like all others. `unanswered`: the client
/// had said something; else its connection was idle, and letting it go is no refusal.
fn note_refusal(error: &hyper::Error, unanswered: bool) {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_parse_too_large() {
        metrics::refused("headers");
    } else if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        metrics::refused("write_timeout");
    } else if error.is_timeout() && unanswered {
        metrics::refused("header_timeout");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
