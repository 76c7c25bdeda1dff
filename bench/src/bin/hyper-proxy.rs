//! A minimal streaming proxy of hyper 1 and hyper-util, as one would write it in an afternoon: every request goes to one
//! upstream, every answer comes back as it is. The yardstick for what hyper itself costs; no part of Streamkeeper.
//!
//! `streamkeeper-bench-hyper LISTEN UPSTREAM THREADS`, both addresses as `host:port`.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::http::uri::{Authority, Scheme};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpSocket;

type Failed = Box<dyn Error + Send + Sync>;
type Upstream = Client<HttpConnector, Incoming>;
type Answer = Response<Either<Incoming, Empty<Bytes>>>;

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream), Some(threads)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: streamkeeper-bench-hyper LISTEN UPSTREAM THREADS".into());
    };
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.parse()?).enable_all().build()?;
    runtime.block_on(serve(listen.parse()?, upstream.parse()?))
}

async fn serve(listen: SocketAddr, upstream: Authority) -> Result<(), Failed> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(4096)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        let service = service_fn(move |request| forward(client.clone(), upstream.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        // What breaks shows at both ends, which check it.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn forward(client: Upstream, upstream: Authority, mut request: Request<Incoming>) -> Result<Answer, Infallible> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(upstream));
    let answer = match Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            client.request(request).await.ok()
        }
        Err(_) => None,
    };
    Ok(answer.map_or_else(refused, |answer| answer.map(Either::Left)))
}

fn refused() -> Answer {
    let mut answer = Response::new(Either::Right(Empty::new()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
