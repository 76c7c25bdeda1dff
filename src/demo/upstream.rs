//! The demo's upstream: a listener on HTTP/1.1 that answers like an OpenAI-compatible service and fails on request.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | a stream or one JSON; fails as `?fault=` or `x-demo-fault` says |
//! | `GET /v1/models` | the one model |
//! | `POST /demo/runs/{run}/kill`, `…/stall`, `…/resume` | acts on the generation whose request had `x-demo-run: {run}` |
//! | `POST /demo/answer` | `{"prompt"}` → `{"text","words"}`: what the answer is, for a page that checks itself |
//! | `GET /demo/hello` | `{"proxied"}`: whether a proxy stands in front |
//! | `GET /`, `/demo/page.css`, … | the page |
//!
//! Not for the open network: no credentials, no quotas. It belongs on loopback, behind the proxy.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER};
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::chat::{self, Ask};
use super::faults::{Fault, FirstTries, Script};
use super::play::{Answer, Broken};
use super::runs::{self, Runs, Signal};
use super::{assets, text};

/// Largest request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// Most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Failures of `accept` in a row after which the listener is given up.
const MAX_ACCEPT_FAILURES: u32 = 50;

type Body = UnsyncBoxBody<Bytes, Broken>;
/// `Err` is an answer too: the refusal.
type Answered = Result<Response<Body>, Box<Response<Body>>>;

/// What all requests share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) runs: Runs,
    tries: FirstTries,
}

/// Serves the demo's upstream on `listener` until `shutdown` is ready.
///
/// On shutdown nothing more is accepted and open connections are dropped at once: whoever wants running streams to
/// finish drains the proxy in front first.
///
/// # Errors
///
/// When accepting connections fails many times in a row.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) -> std::io::Result<()> {
    let shared = Arc::new(Shared::default());
    // Dropping the set at the end aborts what is still in it.
    let mut connections = JoinSet::new();
    let mut failures = 0;
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                // Words are small and late: Nagle's algorithm would glue them together. Failing to set it is harmless.
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream, Arc::clone(&shared)));
            }
            Err(error) if failures >= MAX_ACCEPT_FAILURES => return Err(error),
            Err(_) => {
                failures += 1;
                // Out of descriptors, mostly: let some be closed.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // An error here is a client that left or a break that was asked for: both are this upstream's daily work.
    let _ = served.await;
}

/// Answers one request.
pub(super) async fn respond<B>(shared: &Shared, request: Request<B>) -> Response<Body>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let read = head.method == Method::GET || head.method == Method::HEAD;
    let post = head.method == Method::POST;
    let answered = match path {
        "/v1/chat/completions" if post => complete(shared, &head.headers, head.uri.query(), body).await,
        "/demo/answer" if post => compare(body).await,
        "/v1/chat/completions" | "/demo/answer" => Err(not_allowed("POST")),
        "/v1/models" if read => Ok(reply(StatusCode::OK, &chat::models())),
        "/demo/hello" if read => Ok(hello(&head.headers)),
        "/v1/models" | "/demo/hello" => Err(not_allowed("GET, HEAD")),
        _ => match (path.strip_prefix("/demo/runs/"), assets::find(path)) {
            (Some(control), _) if post => steer(&shared.runs, control),
            (Some(_), _) => Err(not_allowed("POST")),
            (None, Some(asset)) if read => Ok(embedded(&asset)),
            (None, Some(_)) => Err(not_allowed("GET, HEAD")),
            (None, None) => Err(refuse(StatusCode::NOT_FOUND, "there is nothing at this path")),
        },
    };
    answered.unwrap_or_else(|refusal| *refusal)
}

/// `POST /v1/chat/completions`.
async fn complete<B>(shared: &Shared, headers: &HeaderMap, query: Option<&str>, body: B) -> Answered
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let ask = Ask::parse(&collect(body).await?).map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?;
    let run = match headers.get("x-demo-run").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(name)) if runs::is_name(name) => Some(name),
        Some(_) => {
            return Err(refuse(StatusCode::BAD_REQUEST, "x-demo-run: 1 to 64 letters, digits, '-' or '_'"));
        }
    };
    let mut script = script(headers, query)?;
    if script.once && !shared.tries.is_first(try_key(headers, &ask, script.fault)) {
        script.fault = None;
    }
    match script.fault {
        Some(Fault::ServerError) => {
            let error = chat::error("The demo upstream failed, as it was asked to.", "server_error", None);
            return Err(Box::new(reply(StatusCode::INTERNAL_SERVER_ERROR, &error)));
        }
        Some(Fault::RateLimited) => return Err(Box::new(rate_limited())),
        // Until the client gives up: hyper then drops this future.
        Some(Fault::Hang) => std::future::pending::<()>().await,
        _ => {}
    }
    if !ask.stream {
        return Ok(reply(StatusCode::OK, &ask.whole()));
    }
    let answer = Answer::new(ask.events(), script, shared.runs.enter(run));
    let mut response = Response::new(answer.boxed_unsync());
    insert(&mut response, CONTENT_TYPE, "text/event-stream; charset=utf-8");
    insert(&mut response, CACHE_CONTROL, "no-cache");
    Ok(response)
}

/// The script of the query, else of the header, else none.
fn script(headers: &HeaderMap, query: Option<&str>) -> Result<Script, Box<Response<Body>>> {
    let bad = |message: &str| refuse(StatusCode::BAD_REQUEST, message);
    let asked = query.unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("fault="));
    let text = match (asked, headers.get("x-demo-fault")) {
        (Some(value), _) => percent_decode(value).ok_or_else(|| bad("fault: broken percent-encoding"))?,
        (None, Some(value)) => value.to_str().map_err(|_| bad("x-demo-fault: not ASCII"))?.to_owned(),
        (None, None) => return Ok(Script::default()),
    };
    text.parse().map_err(|error: super::faults::BadScript| bad(&error.to_string()))
}

/// What makes two requests tries of the same thing: the request id, which a proxy keeps over its retries; without
/// one, the prompt.
fn try_key(headers: &HeaderMap, ask: &Ask, fault: Option<Fault>) -> u64 {
    let mut key = format!("{fault:?}\n").into_bytes();
    match headers.get("x-request-id") {
        Some(id) => key.extend([b"id\n", id.as_bytes()].concat()),
        None => key.extend([b"prompt\n", ask.prompt.as_bytes()].concat()),
    }
    text::fnv1a(&key)
}

/// `POST /demo/runs/{run}/{verb}`; `control` is what follows `/demo/runs/`.
fn steer(runs: &Runs, control: &str) -> Answered {
    let (run, verb) = control.split_once('/').unwrap_or((control, ""));
    let Some(signal) = Signal::from_verb(verb) else {
        return Err(refuse(StatusCode::NOT_FOUND, "use kill, stall or resume"));
    };
    if !runs.tell(run, signal) {
        return Err(refuse(StatusCode::NOT_FOUND, "no such run is being told"));
    }
    Ok(reply(StatusCode::OK, &json!({"run": run, "told": verb})))
}

/// `POST /demo/answer`.
async fn compare<B>(body: B) -> Answered
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body: Value = serde_json::from_slice(&collect(body).await?).unwrap_or_default();
    let Some(prompt) = body.get("prompt").and_then(Value::as_str) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "'prompt' must be a string"));
    };
    let text = text::answer(prompt);
    Ok(reply(StatusCode::OK, &json!({"text": text, "words": text::words(&text)})))
}

/// `GET /demo/hello`: a proxy tells its upstream for whom it asks.
fn hello(headers: &HeaderMap) -> Response<Body> {
    let proxied = ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name));
    reply(StatusCode::OK, &json!({"proxied": proxied}))
}

async fn collect<B>(body: B) -> Result<Bytes, Box<Response<Body>>>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB"))
        }
        Err(_) => Err(refuse(StatusCode::BAD_REQUEST, "the body could not be read")),
    }
}

fn percent_decode(value: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = whole(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    insert(&mut response, CONTENT_TYPE, "application/json");
    insert(&mut response, CACHE_CONTROL, "no-store");
    response
}

fn refuse(status: StatusCode, message: &str) -> Box<Response<Body>> {
    Box::new(reply(status, &chat::error(message, "invalid_request_error", None)))
}

fn not_allowed(allow: &'static str) -> Box<Response<Body>> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "this path does not know the method");
    insert(&mut response, ALLOW, allow);
    response
}

fn rate_limited() -> Response<Body> {
    let error = chat::error("Rate limit reached, as asked for.", "requests", Some("rate_limit_exceeded"));
    let mut response = reply(StatusCode::TOO_MANY_REQUESTS, &error);
    insert(&mut response, RETRY_AFTER, "1");
    response
}

fn embedded(asset: &assets::Asset) -> Response<Body> {
    let mut response = whole(Bytes::from_static(asset.body.as_bytes()));
    insert(&mut response, CONTENT_TYPE, asset.kind);
    insert(&mut response, CACHE_CONTROL, "no-cache");
    insert(&mut response, CONTENT_SECURITY_POLICY, assets::POLICY);
    insert(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    insert(&mut response, REFERRER_POLICY, "no-referrer");
    response
}

fn whole(bytes: Bytes) -> Response<Body> {
    Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

fn insert(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
