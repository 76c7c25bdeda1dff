//! TLS towards clients, and a certificate of our own towards upstreams.

mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use streamkeeper::live::Unfit;
use streamkeeper::reload::Outcome;
use streamkeeper::tls::TlsError;
use support::client::Connection;
use support::events::{self, data};
use support::pki::{Authority, Issued};
use support::time::{advance, freeze};
use support::{Configured, Event, Gate, Proxy, must, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

const TLS: &str = "[listen]\ntls = { cert = '{folder}/cert.pem', key = '{folder}/key.pem' }\n";

fn before(llm: SocketAddr, more: &str) -> String {
    format!("[[upstreams]]\nname = 'llm'\nendpoints = ['http://{llm}']\n{more}")
}

/// A proxy that is `localhost` by this certificate.
async fn secured(llm: SocketAddr, issued: &Issued) -> Configured {
    Configured::with_files(&before(llm, TLS), &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]).await
}

async fn shake_hands(address: SocketAddr, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    client.connect(ServerName::try_from("localhost").expect("a name"), socket).await
}

fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "localhost").header("accept", "text/event-stream");
    request.body(Full::default()).expect("a request")
}

/// The answer to a GET over HTTP/1.1.
async fn ask(address: SocketAddr, client: &TlsConnector, path: &str) -> http::Response<Incoming> {
    let socket = shake_hands(address, client).await.expect("a certificate to be trusted");
    let (mut send, connection) = http1::handshake(TokioIo::new(socket)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    must("an answer", send.send_request(get(path))).await.expect("an answer")
}

/// The next event of a body; `rest` keeps what came beyond it.
async fn next(body: &mut Incoming, rest: &mut Vec<u8>) -> Option<Event> {
    loop {
        if let Some(event) = events::take(rest) {
            return Some(event);
        }
        let frame = must("a frame", body.frame()).await?.expect("a whole stream");
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

async fn all(mut body: Incoming) -> Vec<Event> {
    let (mut events, mut rest) = (Vec::new(), Vec::new());
    while let Some(event) = next(&mut body, &mut rest).await {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_stream_over_tls_is_the_same_in_both_versions_of_http() {
    let authority = Authority::new();
    let llm = upstream().event("a").event("b").end().start().await;
    let proxy = secured(llm.address, &authority.issue("localhost")).await;

    let reply = ask(proxy.address, &authority.client(&["http/1.1"]), "/chat").await;
    assert_eq!((reply.status().as_u16(), reply.version()), (200, Version::HTTP_11));
    assert_eq!(data(&all(reply.into_body()).await), ["a", "b"]);

    let socket = shake_hands(proxy.address, &authority.client(&["h2", "http/1.1"])).await.expect("a handshake");
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "h2 is preferred");
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("h2");
    tokio::spawn(connection);
    let reply = send.send_request(get("https://localhost/chat")).await.expect("an answer");
    assert_eq!((reply.status().as_u16(), reply.version()), (200, Version::HTTP_2));
    assert_eq!(data(&all(reply.into_body()).await), ["a", "b"]);

    // A client that has never heard of ALPN speaks HTTP/1.1.
    assert_eq!(ask(proxy.address, &authority.client(&[]), "/chat").await.version(), Version::HTTP_11);
    for number in 1..=3 {
        assert_eq!(llm.request(number).header("x-forwarded-proto").as_deref(), Some("https"));
    }
}

#[tokio::test]
async fn a_certificate_rotates_under_live_streams_and_a_broken_one_is_refused() {
    let (old, new) = (Authority::new(), Authority::new());
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = secured(llm.address, &old.issue("localhost")).await;
    let reply = ask(proxy.address, &old.client(&[]), "/chat").await;
    let (mut body, mut rest) = (reply.into_body(), Vec::new());
    assert_eq!(next(&mut body, &mut rest).await.expect("an event").data, "a");

    let issued = new.issue("localhost");
    // Half of a rotation is no pair: nothing changes.
    proxy.put("cert.pem", &issued.cert);
    let outcome = proxy.reload().await;
    assert!(matches!(outcome, Outcome::Unfit(Unfit::Tls(TlsError::Identity { .. }))), "{outcome:?}");
    proxy.put("cert.pem", "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n");
    let outcome = proxy.reload().await;
    assert!(matches!(outcome, Outcome::Unfit(Unfit::Tls(_))), "{outcome:?}");
    shake_hands(proxy.address, &old.client(&[])).await.expect("the old certificate stays");

    proxy.put("cert.pem", &issued.cert);
    proxy.put("key.pem", &issued.key);
    assert!(matches!(proxy.reload().await, Outcome::Taken(_)));
    shake_hands(proxy.address, &new.client(&[])).await.expect("the new certificate");
    shake_hands(proxy.address, &old.client(&[])).await.expect_err("the old one is gone");
    gate.open();
    assert_eq!(next(&mut body, &mut rest).await.expect("an event").data, "b");
    assert_eq!(next(&mut body, &mut rest).await, None, "a clean end");
}

#[tokio::test]
async fn a_certificate_is_read_again_when_its_file_changes() {
    let (old, new) = (Authority::new(), Authority::new());
    let llm = upstream().event("a").end().start().await;
    let issued = old.issue("localhost");
    let files = [("cert.pem", issued.cert.as_str()), ("key.pem", issued.key.as_str())];
    let proxy = Configured::watching(&before(llm.address, TLS), &files).await;
    let issued = new.issue("localhost");
    proxy.put("cert.pem", &issued.cert);
    proxy.put("key.pem", &issued.key);
    let taken = |settings: &streamkeeper::config::Settings| {
        settings.listen.tls.as_ref().is_some_and(|tls| *tls.cert.text == *issued.cert && *tls.key.text == *issued.key)
    };
    proxy.until("the new certificate", taken).await;
    shake_hands(proxy.address, &new.client(&[])).await.expect("the new certificate");
}

#[tokio::test]
async fn tls_is_switched_on_and_off_without_a_restart() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let llm = upstream().event("a").end().start().await;
    let proxy =
        Configured::with_files(&before(llm.address, ""), &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]).await;
    assert_eq!(data(&proxy.get("/chat").events().await.rest().await), ["a"]);
    proxy.change(&before(llm.address, TLS)).await;
    assert_eq!(ask(proxy.address, &authority.client(&[]), "/chat").await.status(), 200);
    proxy.change(&before(llm.address, "")).await;
    assert_eq!(data(&proxy.get("/chat").events().await.rest().await), ["a"]);
}

#[tokio::test]
async fn what_is_no_handshake_is_hung_up_on_and_hurts_nobody() {
    let authority = Authority::new();
    let llm = upstream().event("a").end().start().await;
    let proxy = secured(llm.address, &authority.issue("localhost")).await;
    let hello_that_lies: &[u8] = &[22, 3, 1, 0, 5, 1, 255, 255, 255, 0];
    for garbage in
        [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", hello_that_lies, &[0; 1000], &[0xff; 1000], &[22, 3, 3, 255, 255]]
    {
        let mut socket = TcpStream::connect(proxy.address).await.expect("it listens");
        let _ = socket.write_all(garbage).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let end = must("the proxy to hang up", socket.read_to_end(&mut answer)).await;
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        assert!(!answer.starts_with(b"HTTP"), "no HTTP in the clear");
    }
    assert_eq!(ask(proxy.address, &authority.client(&[]), "/chat").await.status(), 200);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let _frozen = freeze();
    let folder = tempfile::tempdir().expect("a folder");
    let issued = Authority::new().issue("localhost");
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file");
        folder.path().join(name)
    };
    let (cert, key) = (file("cert.pem", &issued.cert), file("key.pem", &issued.key));
    let toml = format!("[listen]\ntls = {{ cert = '{}', key = '{}' }}\n", cert.display(), key.display());
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, &toml).await;
    let silent = Connection::open(proxy.address).await;
    let mut halting = Connection::open(proxy.address).await;
    halting.write([22, 3, 1, 2, 0]).await;
    advance(&proxy, Duration::from_millis(9_990)).await;
    assert!(halting.try_write([1]).await, "its time is not up");
    assert_eq!(halting.surplus(), None);
    advance(&proxy, Duration::from_millis(20)).await;
    assert_eq!((silent.until_closed().await, halting.until_closed().await), (vec![], vec![]));
    assert_eq!(proxy.metric("stream_limit_refusals_total", &[("name", "header_timeout")]).await, 2.0);
}

/// An upstream that answers nobody without a certificate of this authority.
async fn demanding(authority: &Authority) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let tls = authority.demanding_server(&authority.issue("localhost"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = tls.accept(socket).await else { continue };
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: a\n\n";
            let _ = socket.write_all(answer).await;
            let _ = socket.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_demands_a_certificate_gets_ours() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address = demanding(&authority).await;
    let port = address.port();
    let text = |more: &str| {
        format!(
            "[[upstreams]]\nname = 'llm'\nendpoints = ['https://localhost:{port}']\nprotocol = 'http1'\n\
             ca = '{{folder}}/ca.pem'\n{more}\n[[routes]]\nupstream = 'llm'\nretry = {{ attempts = 1 }}\n"
        )
    };
    let with = "client_cert = { cert = '{folder}/cert.pem', key = '{folder}/key.pem' }";
    let (ours, wrong) = (authority.issue("proxy"), stranger.issue("proxy"));
    let files = [("ca.pem", authority.pem.as_str()), ("cert.pem", &wrong.cert), ("key.pem", &wrong.key)];
    let proxy = Configured::with_files(&text(""), &files).await;
    let status = || async { proxy.get("/chat").header("accept", "text/event-stream").send().await.status };
    assert_eq!(status().await, 502, "without a certificate");
    proxy.change(&text(with)).await;
    assert_eq!(status().await, 502, "with one that nobody vouches for");
    proxy.put("cert.pem", &ours.cert);
    proxy.put("key.pem", &ours.key);
    assert!(matches!(proxy.reload().await, Outcome::Taken(_)), "a file that changed is a configuration that changed");
    assert_eq!(data(&proxy.get("/chat").events().await.rest().await), ["a"]);
    proxy.put("key.pem", &wrong.key);
    assert!(matches!(proxy.reload().await, Outcome::Unfit(Unfit::Tls(TlsError::Identity { .. }))));
    assert_eq!(data(&proxy.get("/chat").events().await.rest().await), ["a"], "the old pair stays");
}
