//! Streams to sockets that take what they like, and hyper's client as the judge of what arrives.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Waker;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use streamkeeper_session::{Code, End, SessionId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::clock::Entropy;
use crate::config;
use crate::principal::Keyed;
use crate::server::head;
use crate::store::{LiveSession, Numbering, Origin, Phase};

const PAUSE: Duration = Duration::from_secs(30);
const BOUNDS: Bounds = Bounds { pause: PAUSE, said: 4096 };
const CHUNKED: Terms = Terms { framing: Framing::Chunked, keep_alive: true };

/// A session that has said nothing, on this wire.
fn session(dialect: &str) -> Arc<LiveSession> {
    let text = "[[upstreams]]\nname = 'llm'\nendpoints = ['http://127.0.0.1:1']\n";
    let route = config::parse(text, &config::env::Process).unwrap().routes.remove(0);
    let origin = Origin {
        id: SessionId::from_random(1),
        principal: Keyed::new(&Entropy::seeded(1)).principal(&http::HeaderMap::new(), &[]),
        request_id: "r1".to_owned(),
        fingerprint: 0,
        dialect: crate::dialect::by_name(dialect, &route).unwrap(),
        route,
        note: None,
        started: Duration::ZERO,
    };
    let limits = config::Session { max_events: 1000, max_bytes: 1 << 20, retention: PAUSE };
    let session = Arc::new(LiveSession::new(origin, limits));
    session.log.update(|log| (log.phase, log.numbering) = (Phase::Open, Numbering::Off));
    session
}

fn say(session: &LiveSession, body: &[u8]) {
    session.log.update(|log| log.ring.push(body, None).unwrap());
}

fn end(session: &LiveSession, failed: bool) {
    let end = if failed { End::Failed(Box::new(Code::UpstreamReset.into())) } else { End::Completed };
    session.log.update(|log| assert!(log.ring.seal(end)));
}

/// The stream of `session` from its first event on, behind a head of a few bytes.
fn stream(session: &Arc<LiveSession>) -> Stream {
    Stream::new(Events::of(session), CHUNKED, b"HEAD\r\n".to_vec(), Vec::new(), BOUNDS)
}

/// A socket that writes down what it is asked to do.
#[derive(Default)]
struct Socket {
    writes: Vec<String>,
    /// It holds back what it was given, as TLS does when its own socket is full.
    holds: bool,
    /// What its client says.
    says: usize,
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let some = self.says.min(buffer.remaining());
        self.says -= some;
        buffer.put_slice(&vec![b'x'; some]);
        if some == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.push(String::from_utf8(data.to_vec()).unwrap());
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn poll(&mut self, stream: &mut Stream) -> Poll<io::Result<Outcome>> {
        stream.poll(&mut Context::from_waker(Waker::noop()), Waker::noop(), self)
    }
}

#[test]
fn what_is_there_goes_out_with_the_head_and_then_in_one_write_per_wake() {
    let session = session("generic");
    say(&session, b"data: a\n");
    say(&session, b"data: b\n");
    let (mut stream, mut socket) = (stream(&session), Socket::default());
    assert!(socket.poll(&mut stream).is_pending());
    assert_eq!(socket.writes, ["HEAD\r\n12\r\ndata: a\n\ndata: b\n\n\r\n"]);
    for event in [&b"data: c\n"[..], b"data: d\n", b"data: e\n"] {
        say(&session, event);
    }
    assert!(socket.poll(&mut stream).is_pending());
    say(&session, b"data: f\n");
    end(&session, false);
    assert!(matches!(socket.poll(&mut stream), Poll::Ready(Ok(Outcome::Whole))));
    assert_eq!(socket.writes[1..], ["1b\r\ndata: c\n\ndata: d\n\ndata: e\n\n\r\n", "9\r\ndata: f\n\n\r\n0\r\n\r\n"]);
}

#[test]
fn a_head_does_not_wait_for_events() {
    let session = session("generic");
    let (mut stream, mut socket) = (stream(&session), Socket::default());
    assert!(socket.poll(&mut stream).is_pending());
    assert_eq!(socket.writes, ["HEAD\r\n"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_that_ended_do_not_add_up() {
    let session = session("generic");
    say(&session, b"data: a\n");
    let (mut stream, mut socket) = (stream(&session), Socket { holds: true, ..Socket::default() });
    for _ in 0..3 {
        assert!(socket.poll(&mut stream).is_pending());
        tokio::time::advance(PAUSE * 2 / 3).await;
        socket.holds = false;
        assert!(socket.poll(&mut stream).is_pending());
        say(&session, b"data: a\n");
        socket.holds = true;
    }
    assert!(socket.poll(&mut stream).is_pending());
    tokio::time::advance(PAUSE + Duration::from_millis(1)).await;
    let Poll::Ready(Err(error)) = socket.poll(&mut stream) else { panic!("a client that takes nothing is let go") };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_client_that_talks_without_end_is_not_listened_to_without_end() {
    let session = session("generic");
    let (mut stream, mut socket) = (stream(&session), Socket { says: 1 << 20, ..Socket::default() });
    assert!(socket.poll(&mut stream).is_pending());
    end(&session, false);
    assert!(matches!(socket.poll(&mut stream), Poll::Ready(Ok(Outcome::Whole))));
    let said = stream.into_said();
    assert!((BOUNDS.said..BOUNDS.said + 512).contains(&said.len()), "{}", said.len());
    assert_eq!(said.len() + socket.says, 1 << 20, "nothing is lost");
}

fn framed(data: &[u8], piece: Piece) -> Vec<u8> {
    let mut buffer = vec![0; SIZE_LINE];
    buffer.extend_from_slice(data);
    let start = frame(&mut buffer, piece);
    buffer.split_off(start)
}

#[test]
fn a_piece_is_one_chunk() {
    assert_eq!(framed(b"data: 1\n\n", Piece::Some), b"9\r\ndata: 1\n\n\r\n");
    let long = vec![b'x'; 0xabcd];
    let whole = framed(&long, Piece::Some);
    assert!(whole.starts_with(b"abcd\r\nxxx") && whole.ends_with(b"xxx\r\n"), "{}", whole.len());
    assert_eq!(whole.len(), 4 + 2 + long.len() + 2);
}

#[test]
fn the_last_piece_ends_the_body_in_the_same_write() {
    assert_eq!(framed(b":\n", Piece::Last), b"2\r\n:\n\r\n0\r\n\r\n");
    assert_eq!(framed(b"", Piece::Last), b"0\r\n\r\n");
}

#[test]
fn a_body_that_is_broken_off_has_no_end() {
    assert_eq!(framed(b":\n", Piece::LastThenBreak), b"2\r\n:\n\r\n");
    assert_eq!(framed(b"", Piece::LastThenBreak), b"");
}

/// A socket that takes as much at a time as `takes` says, again and again; 0 is a pause.
struct Moody {
    inner: DuplexStream,
    takes: Vec<usize>,
    at: usize,
}

impl AsyncRead for Moody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Moody {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let take = self.takes[self.at % self.takes.len()];
        self.at += 1;
        if take == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(cx, &data[..data.len().min(take)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a client got: the body, and whether it was whole.
type Got = (Vec<u8>, bool);

async fn ask(send: &mut SendRequest<Empty<Bytes>>) -> Got {
    let request = Request::get("/").header("host", "a").body(Empty::new()).unwrap();
    let mut body = send.send_request(request).await.unwrap().into_body();
    let mut got = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => got.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (got, false),
        }
    }
    (got, true)
}

/// Answers one request with what `session` says; `true` if the connection can be used again. `said`: what was heard of
/// the next request.
async fn tell(session: &Arc<LiveSession>, terms: Terms, socket: &mut Moody, said: &mut Vec<u8>) -> bool {
    while !said.ends_with(b"\r\n\r\n") {
        assert_ne!(socket.read_buf(said).await.unwrap(), 0, "a request");
    }
    let (parts, ()) = Response::new(()).into_parts();
    let head = head::write(&parts, terms, std::time::SystemTime::UNIX_EPOCH);
    let mut stream = Stream::new(Events::of(session), terms, head, Vec::new(), BOUNDS);
    match poll_fn(|cx| stream.poll(cx, &cx.waker().clone(), socket)).await.unwrap() {
        Outcome::Whole => *said = stream.into_said().to_vec(),
        Outcome::Ended => socket.shutdown().await.unwrap(),
        Outcome::Broken => {}
    }
    terms.keep_alive && !session.log.peek(|log| log.ring.end().is_some_and(|end| end.fault().is_some()))
}

proptest! {
    /// The whole crate is needed for a stream, so that this is no fuzz target.
    #[test]
    fn hyper_reads_what_was_said_and_how_it_ended(
        events in prop::collection::vec((prop_oneof![0..40_usize, 0..4000_usize, 60_000..70_000_usize], 0..3_usize), 0..12),
        takes in prop::collection::vec(prop_oneof![1..20_usize, 1..3000_usize, Just(0), Just(usize::MAX)], 1..8),
        capacity in prop_oneof![64..512_usize, Just(65_536)],
        (chunked, keep_alive, failed) in any::<(bool, bool, bool)>(),
    ) {
        prop_assume!(takes.iter().any(|take| *take > 0));
        let terms = Terms {
            framing: if chunked { Framing::Chunked } else { Framing::Close },
            keep_alive: chunked && keep_alive,
        };
        // Clients of Gemini's wire notice a failure only if the connection breaks.
        let session = session("gemini");
        let bodies: Vec<Vec<u8>> = events.iter().map(|(size, _)| [b"data: ", &vec![b'x'; *size][..], b"\n"].concat()).collect();
        let wanted: Vec<u8> = bodies.iter().flat_map(|body| [&body[..], b"\n"].concat()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let got: Vec<Got> = runtime.block_on(async {
            let (near, far) = tokio::io::duplex(capacity);
            let pump = async {
                for (body, (_, pauses)) in bodies.iter().zip(&events) {
                    say(&session, body);
                    for _ in 0..*pauses {
                        tokio::task::yield_now().await;
                    }
                }
                end(&session, failed);
            };
            let server = async {
                let mut socket = Moody { inner: near, takes, at: 0 };
                let mut said = Vec::new();
                if tell(&session, terms, &mut socket, &mut said).await {
                    tell(&session, terms, &mut socket, &mut said).await;
                }
            };
            let client = async {
                let (mut send, connection) = handshake(TokioIo::new(far)).await.unwrap();
                let connection = tokio::spawn(connection);
                let mut got = vec![ask(&mut send).await];
                // After a stream that is whole the connection is as new.
                if send.ready().await.is_ok() {
                    got.push(ask(&mut send).await);
                }
                drop(send);
                let _ = connection.await;
                got
            };
            tokio::join!(pump, server, client).2
        });
        let whole = !(failed && chunked);
        let times = if terms.keep_alive && whole { 2 } else { 1 };
        prop_assert_eq!(got, vec![(wanted, whole); times]);
    }
}
