//! Any bytes in any pieces as an upstream's answer: our client reads what hyper's client reads, and takes the same answers
//! for whole.
//!
//! Input: one byte that picks the method, one that picks the cuts, then what the upstream sends before it closes the
//! connection. The module is taken in by its path: it needs nothing of the proxy.
//!
//! What differs on purpose:
//! - Trailers are read and checked, but not given to anybody.
//! - A head may have 64 KiB; hyper takes about 400 KiB. (No input here is that long.)
//! - hyper keeps the two largest lengths for itself, so that it cannot read a `content-length` beyond 2^64 - 3.
//! - A connection whose answer names both a length and a coding is not used again. (Only one answer is read here.)
#![no_main]

// Only a part of the module is used here.
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../src/upstream/direct/http1/mod.rs"]
mod http1;

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, response};
use http_body_util::{BodyExt as _, Full};
use http1::Flow;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use streamkeeper_sse::oracle::cut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};

/// An answer as somebody read it.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    whole: bool,
}

impl Answer {
    fn new(head: response::Parts, body: Vec<u8>, whole: bool) -> Self {
        Self { status: head.status.as_u16(), version: head.version, headers: head.headers, body, whole }
    }
}

/// Waits for a request, answers with `pieces`, and closes the connection.
async fn upstream(mut io: DuplexStream, pieces: &[&[u8]]) {
    let mut request = [0; 512];
    if !matches!(io.read(&mut request).await, Ok(1..)) {
        return;
    }
    for piece in pieces {
        if io.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = io.shutdown().await;
    while matches!(io.read(&mut request).await, Ok(1..)) {}
}

async fn ours(io: DuplexStream, method: Method) -> Option<Answer> {
    let uri = Uri::from_static("http://a.example/");
    let request = http1::Request::new(method, &uri, &HeaderMap::new(), Bytes::from_static(b"{}"));
    let (head, mut body) = http1::exchange(io, &request).await.ok()?.into_parts();
    let mut read = Vec::new();
    loop {
        match poll_fn(|cx| body.poll_data(cx, &mut |data| read.extend_from_slice(data))).await {
            Flow::More => {}
            Flow::Over => return Some(Answer::new(head, read, true)),
            Flow::Broken(_) => return Some(Answer::new(head, read, false)),
        }
    }
}

async fn hypers(io: DuplexStream, method: Method) -> Option<Answer> {
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.expect("no I/O yet");
    let connection = tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri("/").header("host", "a.example");
    let request = request.body(Full::new(Bytes::from_static(b"{}"))).expect("a request");
    let answer = match send.send_request(request).await {
        Err(_) => None,
        Ok(response) => {
            let (head, mut body) = response.into_parts();
            let (mut read, mut whole) = (Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            Some(Answer::new(head, read, whole))
        }
    };
    connection.abort();
    answer
}

/// Whether hyper cannot read a length that we can.
fn is_too_long_for_hyper(answer: &Answer) -> bool {
    let lengths = answer.headers.get_all("content-length").iter().filter_map(|value| value.to_str().ok());
    lengths.flat_map(|value| value.split(',')).any(|value| value.trim().parse::<u64>().is_ok_and(|n| n > u64::MAX - 2))
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime without I/O");
}

fn read<F: Future<Output = Option<Answer>>>(pieces: &[&[u8]], by: impl FnOnce(DuplexStream) -> F) -> Option<Answer> {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(4096);
            tokio::join!(by(near), upstream(far, pieces)).0
        })
    })
}

fuzz_target!(|input: &[u8]| {
    let [method, seed, bytes @ ..] = input else { return };
    let method = if method % 8 == 7 { Method::HEAD } else { Method::POST };
    let pieces = cut(bytes, u64::from(*seed));
    let ours = read(&pieces, |io| ours(io, method.clone()));
    let hypers = read(&pieces, |io| hypers(io, method.clone()));
    if hypers.is_none() && ours.as_ref().is_some_and(is_too_long_for_hyper) {
        return;
    }
    assert_eq!(ours, hypers);
});
