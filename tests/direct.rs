//! The requests of sessions over HTTP/1.1 without hyper: what an upstream's framing can be, and when its connection is
//! used again. Answers cut anywhere and malformed ones are unit tests beside the code; hyper's own way is tested here
//! by the same stories where both must do the same.

mod support;

use std::time::Duration;

use support::events::data;
use support::pki::Authority;
use support::time::{advance, freeze};
use support::{Configured, Event, Gate, Proxy, Request, Script, Upstream, must, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const DIRECT: &str = "";
const HYPERS: &str = "[http1]\ndirect = false\n";
const SECOND: Duration = Duration::from_secs(1);
const TRIED_ONCE: &str = "[[routes]]\nafter_partial = []\nretry = { attempts = 1 }\n";

/// A head of an event stream with these header lines, and this after it.
fn raw(lines: &str, rest: &str) -> Script {
    upstream().raw(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{lines}\r\n{rest}"))
}

/// What an EventSource gets.
async fn stream(request: Request) -> Vec<Event> {
    request.header("accept", "text/event-stream").events().await.rest().await
}

#[tokio::test]
async fn a_connection_whose_stream_is_whole_serves_the_next_one() {
    let whole = upstream().event("a").event("b").end();
    let until_close = raw("", "data: c\n\n").cut();
    let llm = whole.clone().then(whole.clone()).then(until_close).then(whole).start().await;
    let proxy = Proxy::before(&llm, DIRECT).await;
    for (request, expected, connections) in
        [(1, &["a", "b"][..], 1), (2, &["a", "b"], 1), (3, &["c"], 1), (4, &["a", "b"], 2)]
    {
        assert_eq!(data(&stream(proxy.get("/run")).await), expected, "{request}");
        assert_eq!(llm.connections(), connections, "{request}");
    }
}

#[tokio::test]
async fn a_head_in_pieces_after_others_and_chunks_cut_anywhere_are_one_stream() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\
        content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9;x=1\r\ndata: a\n\n\r\n8\r\ndata: bc\r\n\
        2\r\n\n\n\r\n0\r\nx-sum: 1\r\n\r\n";
    for cut in (1..answer.len()).step_by(3) {
        let (gate, (before, after)) = (Gate::new(), answer.split_at(cut));
        let llm = upstream().raw(before).gate(&gate).raw(after).start().await;
        let proxy = Proxy::before(&llm, DIRECT).await;
        let reading = tokio::spawn(async move { (data(&stream(proxy.get("/run")).await).join(" "), proxy) });
        gate.reached().await;
        gate.release();
        let (read, _proxy) = must("the stream", reading).await.expect("no panic");
        assert_eq!(read, "a bc", "cut after {cut}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_is_whole() {
    for way in [DIRECT, HYPERS] {
        let llm = raw("", "data: a\n\ndata: b\n\n").cut().start().await;
        let proxy = Proxy::before(&llm, way).await;
        assert_eq!(data(&stream(proxy.get("/run")).await), ["a", "b"], "{way}");
    }
}

#[tokio::test]
async fn framing_that_is_wrong_ends_a_stream_with_one_error() {
    for way in [DIRECT, HYPERS] {
        for (lines, rest) in [
            ("transfer-encoding: chunked\r\n", "9\r\ndata: a\n\n\r\nx\r\n"),
            ("transfer-encoding: chunked\r\n", "9\r\ndata: a\n\n--"),
            ("transfer-encoding: chunked\r\n", "9\r\ndata: a\n\n\r\n5\r\nda"),
            ("content-length: 100\r\n", "data: a\n\n"),
        ] {
            let llm = raw(lines, rest).cut().start().await;
            let proxy = Proxy::before(&llm, &format!("{way}{TRIED_ONCE}")).await;
            let events = stream(proxy.get("/run")).await;
            assert_eq!(events.len(), 2, "{way} {rest:?}: {events:?}");
            assert_eq!(events[0].data, "a");
            assert!(events[1].data.contains("upstream_reset"), "{way} {rest:?}: {events:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_a_reset_and_so_is_none() {
    for way in [DIRECT, HYPERS] {
        for answer in ["HTTP/9 200\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", ""]
        {
            let llm = upstream().raw(answer).cut().start().await;
            let proxy = Proxy::before(&llm, &format!("{way}{TRIED_ONCE}")).await;
            let reply = proxy.get("/run").header("accept", "text/event-stream").send().await;
            assert_eq!(reply.status, 502, "{way} {answer:?}");
            assert!(reply.text().await.contains("upstream_reset"), "{way} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_stops_its_stream_ends_the_upstreams_work() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, DIRECT).await;
    let mut reply = proxy.get("/run").header("accept", "text/event-stream").events().await;
    let session = reply.session();
    reply.event().await;
    assert_eq!(proxy.session("DELETE", &session).send().await.status, 204);
    llm.closed().await;
    assert_eq!(data(&stream_of_another(&proxy, &llm).await), ["a"]);
}

/// The first event of another stream, which has a connection of its own.
async fn stream_of_another(proxy: &Proxy, llm: &Upstream) -> Vec<Event> {
    let before = llm.connections();
    let mut reply = proxy.get("/run").header("accept", "text/event-stream").events().await;
    let events = reply.take(1).await;
    assert_eq!(llm.connections(), before + 1);
    events
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    let (closed, mut closings) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.expect("the proxy");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut request).await.expect("a request"), 0);
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\ndata: a\n\n";
            socket.write_all(answer.as_bytes()).await.expect("the proxy reads");
            // It says that it would serve another request, and goes away.
            socket.shutdown().await.expect("a connection");
            closed.send(socket).expect("the story waits");
        }
    });
    let proxy = Proxy::at(&[address], TRIED_ONCE).await;
    for _ in 0..2 {
        assert_eq!(data(&stream(proxy.get("/run")).await), ["a"]);
        must("the upstream to close", closings.recv()).await.expect("it serves twice");
        // The runtime hears of it before the next request, as this round trip is heard of.
        assert_eq!(proxy.admin_get("/healthz").await.status, 200);
    }
    must("the upstream", serving).await.expect("both requests came on connections of their own");
}

#[tokio::test]
async fn a_connection_that_nobody_wants_for_a_minute_is_closed() {
    let _frozen = freeze();
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, DIRECT).await;
    for (wait, connections) in [(59 * SECOND, 1), (61 * SECOND, 2)] {
        assert_eq!(data(&stream(proxy.get("/run")).await), ["a"]);
        advance(&proxy, wait).await;
        assert_eq!(data(&stream(proxy.get("/run")).await), ["a"]);
        assert_eq!(llm.connections(), connections, "after {wait:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_before_it_is_read_gets_the_refusal() {
    for way in [DIRECT, HYPERS] {
        let llm = upstream().early().answer(413, "application/json", "{\"too\":\"large\"}").start().await;
        let proxy = Proxy::before(&llm, way).await;
        let body = format!("{{\"stream\":true,\"messages\":[],\"x\":\"{}\"}}", "x".repeat(6 * 1024 * 1024));
        let reply = proxy.post("/v1/chat/completions").json(&body).send().await;
        assert_eq!(reply.status, 413, "{way}");
        assert_eq!(reply.text().await, "{\"too\":\"large\"}");
    }
}

#[tokio::test]
async fn an_upstream_in_tls_that_speaks_http1_is_read_directly_and_its_connection_used_again() {
    let authority = Authority::new();
    let acceptor = authority.demanding_server(&authority.issue("localhost"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let port = listener.local_addr().expect("its address").port();
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("the proxy");
        let mut tls = acceptor.accept(socket).await.expect("a certificate that is trusted");
        for _ in 0..3 {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(tls.read_buf(&mut request).await.expect("a request"), 0);
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            for part in [head, "9\r\ndata: a\n\n", "\r\n9\r\ndata: b\n\n\r\n0\r\n\r\n"] {
                tls.write_all(part.as_bytes()).await.expect("the proxy reads");
                tls.flush().await.expect("the proxy reads");
            }
        }
    });
    let us = authority.issue("us");
    let toml = format!(
        "[[upstreams]]\nname = 'llm'\nendpoints = ['https://localhost:{port}']\nprotocol = 'http1'\nca = '{{folder}}/ca.pem'\n\
         client_cert = {{ cert = '{{folder}}/cert.pem', key = '{{folder}}/key.pem' }}\n"
    );
    let files = [("ca.pem", &*authority.pem), ("cert.pem", &*us.cert), ("key.pem", &*us.key)];
    let proxy = Configured::with_files(&toml, &files).await;
    for _ in 0..3 {
        assert_eq!(data(&stream(proxy.get("/run")).await), ["a", "b"]);
    }
    must("the upstream", serving).await.expect("one connection for all");
}
