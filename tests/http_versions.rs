//! HTTP/2 and TLS: the same streams, whatever carries them.

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::events::{self, data};
use support::time::{advance, freeze};
use support::{Event, Gate, Proxy, must, upstream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// An HTTP/2 connection to the proxy, by prior knowledge.
async fn h2(proxy: &Proxy) -> SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(proxy.address).await.unwrap();
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    send
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("http://app.example{path}")).header("accept", "text/event-stream")
}

fn empty(request: http::request::Builder) -> Request<Full<Bytes>> {
    request.body(Full::default()).unwrap()
}

/// The next event of an HTTP/2 body; `rest` keeps what came beyond it.
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
async fn an_http2_client_streams_leaves_and_comes_back_on_one_connection() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut client = h2(&proxy).await;
    let reply = client.send_request(empty(get("/chat"))).await.unwrap();
    assert_eq!((reply.status().as_u16(), reply.version()), (200, Version::HTTP_2));
    assert_eq!(reply.headers()["content-type"], "text/event-stream; charset=utf-8");
    assert!(!reply.headers().contains_key("connection") && !reply.headers().contains_key("transfer-encoding"));
    let mut body = reply.into_body();
    let a = next(&mut body, &mut Vec::new()).await.unwrap();
    drop(body);
    let again = client.send_request(empty(get("/chat").header("last-event-id", a.id()))).await.unwrap();
    gate.open();
    assert_eq!(data(&all(again.into_body()).await), ["b"]);
    assert_eq!(llm.requests(), 1);
    assert_eq!(llm.request(1).header("x-forwarded-host").as_deref(), Some("app.example"));
}

#[tokio::test]
async fn a_stream_reset_by_an_http2_client_counts_as_its_leaving() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ndetach = { mode = 'cancel' }").await;
    let mut client = h2(&proxy).await;
    let mut body = client.send_request(empty(get("/chat"))).await.unwrap().into_body();
    next(&mut body, &mut Vec::new()).await.unwrap();
    drop(body);
    llm.closed().await;
}

#[tokio::test]
async fn a_stream_that_an_http2_client_takes_nothing_of_ends_its_connection() {
    const EVENTS: usize = 2000;
    let _frozen = freeze();
    let llm = upstream().events((0..EVENTS).map(|n| format!("{n:04}{}", "x".repeat(1000)))).end().start().await;
    let proxy = Proxy::before(&llm, "[session]\nmax_bytes = '16MiB'\n[limits]\nwrite_timeout = '32s'").await;
    let socket = TcpStream::connect(proxy.address).await.unwrap();
    let mut narrow = http2::Builder::new(TokioExecutor::new());
    let handshake = narrow.initial_stream_window_size(1000).handshake(TokioIo::new(socket));
    let (mut client, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let reply = client.send_request(empty(get("/chat"))).await.unwrap();
    let session = reply.headers()["streamkeeper-session"].to_str().unwrap().to_owned();
    while proxy.state(&session).await["state"] != "finished" {}
    advance(&proxy, Duration::from_secs(31)).await;
    assert_eq!(proxy.state(&session).await["attached"], 1);
    advance(&proxy, Duration::from_secs(5)).await;
    assert_eq!(proxy.state(&session).await["attached"], 0);
    must("the end of the connection", connection).await.unwrap().ok();
    drop(reply);
    let again =
        h2(&proxy).await.send_request(empty(get("/chat").header("last-event-id", format!("{session}.0.1")))).await;
    assert_eq!(all(again.unwrap().into_body()).await.len(), EVENTS - 1);
}

#[tokio::test]
async fn many_streams_and_calls_share_one_http2_connection() {
    let answers = |seen: &support::Seen| match seen.path.as_str() {
        "/echo" => upstream().answer(200, "text/plain", &seen.headers.len().to_string()),
        path => upstream().events([path, "b", "c"]).end(),
    };
    let llm = support::Upstream::by(answers).await;
    let proxy = Proxy::before(&llm, "").await;
    let client = h2(&proxy).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..50 {
        let mut client = client.clone();
        asked.spawn(async move {
            let path = format!("/chat/{n}");
            let reply = client.send_request(empty(get(&path))).await.unwrap();
            assert_eq!(data(&all(reply.into_body()).await), [path.as_str(), "b", "c"]);
            let upload = Request::post("http://app.example/echo").body(Full::from(vec![b'x'; 200_000])).unwrap();
            assert_eq!(client.send_request(upload).await.unwrap().status(), 200);
        });
    }
    while let Some(done) = must("all of them", asked.join_next()).await {
        done.unwrap();
    }
    assert_eq!(llm.requests(), 100);
}

/// What a hyper upstream saw of one request, and the body it answers with.
type Asked = (http::request::Parts, Sender<Bytes>);

/// Answers each request on `socket` with an event stream that the test writes.
async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: UnboundedSender<Asked>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (sender, body) = Channel::<Bytes, Infallible>::new(8);
        let _ = seen.send((request.into_parts().0, sender));
        let body: BoxBody<Bytes, Infallible> = body.boxed();
        async move { Response::builder().header("content-type", "text/event-stream").body(body) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

/// A hyper upstream, behind TLS if there is an acceptor.
async fn hyper_upstream(tls: Option<TlsAcceptor>) -> (SocketAddr, UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, asked) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, seen) = (tls.clone(), seen.clone());
            tokio::spawn(async move {
                match tls {
                    None => serve(socket, seen).await,
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            serve(socket, seen).await;
                        }
                    }
                }
            });
        }
    });
    (address, asked)
}

#[tokio::test]
async fn an_upstream_may_speak_http2_without_tls() {
    let (address, mut asked) = hyper_upstream(None).await;
    let toml = "[[upstreams]]\nprotocol = 'http2'\n[[routes]]\ndetach = { mode = 'cancel' }";
    let proxy = Proxy::at(&[address], toml).await;
    let llm = async {
        let (head, mut sender) = must("a request", asked.recv()).await.unwrap();
        assert_eq!((head.version, head.uri.path()), (Version::HTTP_2, "/chat"));
        sender.send_data("data: a\n\n".into()).await.unwrap();
        sender
    };
    let (mut reply, mut sender) = tokio::join!(proxy.get("/chat").events(), llm);
    assert_eq!(reply.event().await.data, "a");
    drop(reply);
    // The proxy resets the stream: what is written for it has no taker any more.
    must("the proxy to let go", async { while sender.send_data(": on\n".into()).await.is_ok() {} }).await;
}

/// A certificate authority and a server that it vouches for by this name.
fn authority(name: &str) -> (String, TlsAcceptor) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (pem, TlsAcceptor::from(Arc::new(config)))
}

/// A file of this test's own.
fn pem_file(name: &str, pem: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pem).unwrap();
    path
}

/// A proxy before `https://localhost`, trusting the authority in `ca`.
async fn before_tls(address: SocketAddr, ca: &Path, protocol: &str) -> Proxy {
    let toml = format!("[[upstreams]]\nprotocol = '{protocol}'\nca = '{}'", ca.display());
    let url = format!("https://localhost:{}", address.port());
    Proxy::start(support::proxy::settings(&[url], &toml)).await
}

#[tokio::test]
async fn an_upstream_behind_tls_is_trusted_by_the_configured_authority_in_the_version_it_prefers() {
    let (pem, tls) = authority("localhost");
    let ca = pem_file("trusted.pem", &pem);
    let (address, mut asked) = hyper_upstream(Some(tls)).await;
    for (protocol, version) in [("auto", Version::HTTP_2), ("http1", Version::HTTP_11), ("http2", Version::HTTP_2)] {
        let proxy = before_tls(address, &ca, protocol).await;
        let llm = async {
            let (head, mut sender) = must("a request", asked.recv()).await.unwrap();
            assert_eq!(head.version, version, "{protocol}");
            sender.send_data("data: a\n\n".into()).await.unwrap();
        };
        let (reply, ()) = tokio::join!(proxy.get("/chat").events(), llm);
        assert_eq!(data(&reply.rest().await), ["a"], "{protocol}");
    }
}

#[tokio::test]
async fn an_upstream_that_nobody_vouches_for_is_never_asked() {
    let (_, stranger) = authority("localhost");
    let (pem, elsewhere) = authority("elsewhere.example");
    let ca = pem_file("other.pem", &pem);
    for tls in [stranger, elsewhere] {
        let (address, mut asked) = hyper_upstream(Some(tls)).await;
        let proxy = before_tls(address, &ca, "auto").await;
        let stream = proxy.get("/chat").header("accept", "text/event-stream").send().await;
        assert_eq!((stream.status, &stream.json().await["code"]), (502, &"upstream_unreachable".into()));
        assert_eq!(proxy.get("/models").send().await.status, 502);
        assert!(asked.try_recv().is_err());
    }
}
