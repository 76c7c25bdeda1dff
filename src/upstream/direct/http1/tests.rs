//! Answers as bytes, in all kinds of pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Body, Broken, Flow, Request, exchange};

/// A connection on which these pieces come, each with one read, and then the end.
#[derive(Debug, Default)]
struct Pieces {
    coming: VecDeque<Vec<u8>>,
    written: Vec<u8>,
    /// How many more bytes can be written; then writing stops, or fails.
    room: Option<usize>,
    write_fails: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(mut piece) = this.coming.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                this.coming.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let taken = bytes.len().min(this.room.unwrap_or(usize::MAX));
        if taken == 0 {
            return if this.write_fails { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) } else { Poll::Pending };
        }
        this.written.extend_from_slice(&bytes[..taken]);
        this.room = this.room.map(|room| room - taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An answer as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    whole: bool,
    reusable: bool,
}

fn request(method: Method) -> Request {
    Request::new(method, &Uri::from_static("http://a.example/"), &HeaderMap::new(), Bytes::from_static(b"{}"))
}

/// All of a body; whether it is whole; the connection afterwards.
fn read_out(mut body: Body<Pieces>) -> (Vec<u8>, bool, Option<Pieces>) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut whole = Vec::new();
    loop {
        match body.poll_data(&mut cx, &mut |data| whole.extend_from_slice(data)) {
            Poll::Ready(Flow::More) => {}
            Poll::Ready(Flow::Over) => return (whole, true, body.into_idle()),
            Poll::Ready(Flow::Broken(_)) => return (whole, false, body.into_idle()),
            Poll::Pending => panic!("pieces are there, or the end is"),
        }
    }
}

fn read(method: Method, pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Answer, Broken> {
    let io = Pieces { coming: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), ..Pieces::default() };
    let answer = exchange(io, &request(method)).now_or_never().expect("nothing to wait for");
    let (head, body) = answer.map_err(|failed| failed.why)?.into_parts();
    let (body, whole, idle) = read_out(body);
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, whole, reusable: idle.is_some() })
}

fn at_once(bytes: impl AsRef<[u8]>) -> Answer {
    read(Method::POST, [bytes.as_ref().to_vec()]).expect("a head")
}

/// `200 OK` with these header lines and this rest.
fn ok(lines: &str, rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{rest}")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn a_body_ends_where_its_head_says() {
    for (name, answer, body) in [
        ("chunks", ok(CHUNKED, "3\r\nabc\r\n00a;x=\"y\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789"),
        ("blanks after a size", ok(CHUNKED, "1 \t\r\na\r\n0 ;\r\n\r\n"), "a"),
        ("trailers", ok(CHUNKED, "1\r\na\r\n0\r\nx-sum: 1\r\ny: 2\r\n\r\n"), "a"),
        (
            "chunked is last",
            ok("transfer-encoding: gzip\r\ntransfer-encoding: x , CHUNKED\r\n", "1\r\na\r\n0\r\n\r\n"),
            "a",
        ),
        ("chunked is not last", ok("transfer-encoding: chunked, gzip\r\n", "1\r\na"), "1\r\na"),
        ("chunks beat a length", ok(&format!("content-length: 1\r\n{CHUNKED}"), "2\r\nab\r\n0\r\n\r\n"), "ab"),
        ("a length", ok("content-length: 3\r\n", "abc"), "abc"),
        ("one length said thrice", ok("content-length: 3, 3\r\ncontent-length: 03\r\n", "abc"), "abc"),
        ("no length", ok("", "abc"), "abc"),
        ("a length of none", ok("content-length: 0\r\n", ""), ""),
        ("204", "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n".to_owned(), ""),
        ("304", format!("HTTP/1.1 304 Same\r\n{CHUNKED}\r\n"), ""),
        ("101", format!("HTTP/1.1 101 Switch\r\n{CHUNKED}\r\n"), ""),
        ("1.0", "HTTP/1.0 200 OK\r\n\r\nabc".to_owned(), "abc"),
    ] {
        let read = at_once(answer);
        assert_eq!((String::from_utf8_lossy(&read.body).as_ref(), read.whole), (body, true), "{name}");
    }
    let head = read(Method::HEAD, [ok("content-length: 7\r\n", "").into_bytes()]).unwrap();
    assert_eq!((head.body.len(), head.whole, head.reusable), (0, true, true));
}

#[test]
fn a_body_that_breaks_off_is_not_whole_and_what_came_before_is_given() {
    for (name, answer, body) in [
        ("in a length", ok("content-length: 4\r\n", "abc"), "abc"),
        ("in a chunk", ok(CHUNKED, "4\r\nabc"), "abc"),
        ("in a size", ok(CHUNKED, "1\r\na\r\n1"), "a"),
        ("before the last chunk", ok(CHUNKED, "1\r\na\r\n"), "a"),
        ("in the last chunk", ok(CHUNKED, "1\r\na\r\n0\r\n"), "a"),
        ("in a trailer", ok(CHUNKED, "1\r\na\r\n0\r\nx: 1\r\n"), "a"),
        ("a bare line feed after a size", ok(CHUNKED, "1\na\r\n"), ""),
        ("a bare line feed after a chunk", ok(CHUNKED, "1\r\na\n0\r\n\r\n"), "a"),
        ("a bare line feed in an extension", ok(CHUNKED, "1;a\nb\r\na\r\n0\r\n\r\n"), ""),
        ("a bare line feed at the end", ok(CHUNKED, "1\r\na\r\n0\r\n\n"), "a"),
        ("a chunk longer than its size", ok(CHUNKED, "1\r\nab\r\n0\r\n\r\n"), "a"),
        ("no size", ok(CHUNKED, "1\r\na\r\n\r\n"), "a"),
        ("a sign", ok(CHUNKED, "+1\r\na\r\n"), ""),
        ("0x", ok(CHUNKED, "0x1\r\na\r\n"), ""),
        ("digits after a blank", ok(CHUNKED, "1 1\r\na\r\n"), ""),
        ("a size beyond 64 bits", ok(CHUNKED, "1\r\na\r\n10000000000000000\r\nb"), "a"),
        ("endless extensions", ok(CHUNKED, &format!("1;{}\r\na\r\n", "x".repeat(16 * 1024))), ""),
        ("endless trailers", ok(CHUNKED, &format!("0\r\nx: {}\r\n\r\n", "x".repeat(16 * 1024))), ""),
        ("too many trailers", ok(CHUNKED, &format!("0\r\n{}\r\n", "x: 1\r\n".repeat(101))), ""),
        ("trailers that are no fields", ok(CHUNKED, "0\r\nx y: 1\r\n\r\n"), ""),
    ] {
        let read = at_once(answer);
        let expected = (body, false, false);
        assert_eq!((String::from_utf8_lossy(&read.body).as_ref(), read.whole, read.reusable), expected, "{name}");
    }
}

#[test]
fn a_head_that_cannot_be_trusted_is_none() {
    let long = ok(&format!("x: {}\r\n", "x".repeat(64 * 1024)), "");
    let many = ok(&"x: 1\r\n".repeat(101), "");
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        &ok("content-length: 1\r\ncontent-length: 2\r\n", "a"),
        &ok("content-length: 1, 2\r\n", "a"),
        &ok("content-length: +1\r\n", "a"),
        &ok("content-length: \r\n", "a"),
        &ok("content-length: 18446744073709551616\r\n", "a"),
        &ok("x y: 1\r\n", ""),
        &ok(" x: 1\r\n", ""),
        &ok("x: 1\r\n folded\r\n", ""),
        &long,
        &many,
    ] {
        assert!(read(Method::POST, [answer.as_bytes().to_vec()]).is_err(), "{answer}");
    }
}

#[test]
fn heads_of_1xx_are_skipped_wherever_they_are_cut() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
    for cut in 0..answer.len() {
        let (before, after) = answer.split_at(cut);
        let read = read(Method::POST, [before.to_vec(), after.to_vec()]).expect("a head");
        assert_eq!((read.status, read.headers.len(), &*read.body, read.whole), (200, 1, &b"a"[..], true), "{cut}");
    }
}

#[test]
fn a_connection_serves_another_request_after_a_whole_answer_that_does_not_say_otherwise() {
    for (answer, reusable) in [
        (ok("content-length: 1\r\n", "a"), true),
        (ok(CHUNKED, "0\r\n\r\n"), true),
        ("HTTP/1.1 204 No\r\n\r\n".to_owned(), true),
        ("HTTP/1.0 200 OK\r\nconnection: x, Keep-Alive\r\ncontent-length: 1\r\n\r\na".to_owned(), true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na".to_owned(), false),
        (ok("connection: keep-alive\r\nconnection: x, CLOSE\r\ncontent-length: 1\r\n", "a"), false),
        (ok("", "a"), false),
        (ok(&format!("content-length: 11\r\n{CHUNKED}"), "1\r\na\r\n0\r\n\r\n"), false),
        (ok("content-length: 1\r\n", "ab"), false),
        (ok(CHUNKED, "0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), false),
        ("HTTP/1.1 204 No\r\n\r\nx".to_owned(), false),
        ("HTTP/1.1 101 Switch\r\n\r\n".to_owned(), false),
    ] {
        let read = at_once(&answer);
        assert_eq!((read.whole, read.reusable), (true, reusable), "{answer}");
    }
}

#[test]
fn many_small_chunks_come_as_one_piece() {
    let io = Pieces { coming: [ok(CHUNKED, "").into_bytes()].into(), ..Pieces::default() };
    let answer = exchange(io, &request(Method::POST)).now_or_never().unwrap().unwrap();
    let mut body = answer.into_body();
    let chunks: String = (0..1000).map(|n| format!("{:x}\r\n{n}\r\n", n.to_string().len())).collect();
    body.io().coming.push_back(chunks.into_bytes());
    let mut pieces = Vec::new();
    let flow = body.poll_data(&mut Context::from_waker(Waker::noop()), &mut |data| pieces.push(data.to_vec()));
    assert!(matches!(flow, Poll::Ready(Flow::More)));
    let numbers: String = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(pieces, [numbers.into_bytes()]);
}

#[test]
fn an_upstream_may_answer_before_it_has_the_request() {
    let head = request(Method::POST).head.len();
    for write_fails in [false, true] {
        let coming = [ok("content-length: 1\r\n", "a").into_bytes()].into();
        let io = Pieces { coming, room: Some(head + 1), write_fails, ..Pieces::default() };
        let answer = exchange(io, &request(Method::POST)).now_or_never().unwrap().unwrap();
        let (body, whole, idle) = read_out(answer.into_body());
        assert_eq!((&*body, whole), (&b"a"[..], true));
        assert!(idle.is_none(), "the upstream waits for the rest of a request there");
    }
}

#[test]
fn the_rest_of_a_request_follows_while_its_answer_is_read() {
    let head = request(Method::POST).head.len();
    let coming = [ok("content-length: 2\r\n", "").into_bytes(), b"a".to_vec(), b"b".to_vec()].into();
    let io = Pieces { coming, room: Some(head + 1), ..Pieces::default() };
    let mut body = exchange(io, &request(Method::POST)).now_or_never().unwrap().unwrap().into_body();
    body.io().room = None;
    let (body, whole, idle) = read_out(body);
    assert_eq!((&*body, whole), (&b"ab"[..], true));
    assert!(idle.expect("all was sent").written.ends_with(b"\r\n\r\n{}"));
}

#[test]
fn a_request_of_which_nothing_left_is_known_as_such() {
    for (room, untouched) in [(0, true), (1, false)] {
        let io = Pieces { room: Some(room), write_fails: true, ..Pieces::default() };
        let failed = exchange(io, &request(Method::POST)).now_or_never().unwrap().unwrap_err();
        assert_eq!(failed.untouched, untouched);
    }
}

#[test]
fn a_silent_body_is_small() {
    assert!(size_of::<Body<tokio::net::TcpStream>>() <= 120, "{}", size_of::<Body<tokio::net::TcpStream>>());
}

/// The same, but for what follows a whole answer: where it has not come yet, nobody can know of it (the pool looks
/// again before it lends a connection).
fn answer(pieces: impl IntoIterator<Item = Vec<u8>>) -> Option<Answer> {
    read(Method::POST, pieces).ok().map(|answer| Answer { reusable: false, ..answer })
}

/// Bytes in pieces that end where `cuts` say.
fn cut(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No\r\n",
        "transfer-encoding: chunked\r\n",
        "content-length: 3\r\n",
        "content-length: 4\r\n",
        "connection: close\r\n",
        "\r\n",
        "\n",
        "\r",
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        "5;x=y\r\nhello\r\n",
        "x: y\r\n",
        "a",
        ";",
        "0",
        " ",
        "\u{e9}",
    ])
}

proptest! {
    #[test]
    fn the_pieces_make_no_difference(
        lines in prop::collection::vec(token(), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = format!("HTTP/1.1 200 OK\r\n{}", lines.concat()).into_bytes();
        let whole = answer([bytes.clone()]);
        prop_assert_eq!(answer(cut(&bytes, &cuts)), whole.clone());
        prop_assert_eq!(answer(bytes.chunks(1).map(<[u8]>::to_vec)), whole);
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error(
        head in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..5),
    ) {
        let bytes = if head { [ok(CHUNKED, "").as_bytes(), &bytes].concat() } else { bytes };
        let whole = answer([bytes.clone()]);
        prop_assert_eq!(answer(cut(&bytes, &cuts)), whole);
    }
}
