//! The operators' port: a page, and what it shows as JSON; health; metrics. It shows no event, no header and no secret.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /healthz`, `/readyz` | 200; `/readyz` is 503 while the process goes away |
//! | `GET /metrics` | for Prometheus |
//! | `GET /api/sessions?limit=&state=&find=` | the newest sessions (100, at most 1000), counts over all |
//! | `GET /api/sessions/{id}` | one session with its time line |
//! | `DELETE /api/sessions/{id}` | ends it; 204 |
//! | `GET /api/upstreams` | endpoints, breakers, retries that are left |
//! | `GET /api/config` | every key with the value in force, secrets as stars |
//! | `GET /api/version` | version, commit, time since the start |
//!
//! `gate` says who may; `api` and `assets` hold the answers.

mod api;
mod assets;
mod gate;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;

use crate::app::App;
use crate::live::Live;
use crate::telemetry;

type Answer = Response<Full<Bytes>>;

/// New or idle connection → the next request's headers complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin port until it is dropped.
pub async fn run(live: Arc<Live>, metrics: PrometheusHandle, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (live, metrics) = (Arc::clone(&live), metrics.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request: Request<Incoming>| {
                let (app, metrics) = (live.app(), metrics.clone());
                async move { Ok::<_, Infallible>(answer(&app, &metrics, &request).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer<B>(app: &App, metrics: &PrometheusHandle, request: &Request<B>) -> Answer {
    let mut answer = open_to_all(app, request);
    if answer.is_none() {
        answer = match gate::may_read(app, request) {
            Ok(()) => behind_the_gate(app, metrics, request).await,
            Err(refusal) => Some(refused(refusal)),
        };
    }
    let mut answer = answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "there is nothing here; see /\n"));
    assets::protect(answer.headers_mut());
    answer
}

/// What holds no data. A health check may not know the token, and the page has to be there to ask for it.
fn open_to_all<B>(app: &App, request: &Request<B>) -> Option<Answer> {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let stops = *request.method() == Method::DELETE && path.starts_with("/api/sessions/");
        return (!stops).then(not_allowed);
    }
    match path {
        "/healthz" => Some(text(StatusCode::OK, "ok\n")),
        "/readyz" if app.is_draining() => Some(text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")),
        "/readyz" => Some(text(StatusCode::OK, "ready\n")),
        path => assets::find(path).map(|(media, text)| respond(StatusCode::OK, media, text.into())),
    }
}

async fn behind_the_gate<B>(app: &App, metrics: &PrometheusHandle, request: &Request<B>) -> Option<Answer> {
    let path = request.uri().path();
    if let Some(id) = path.strip_prefix("/api/sessions/") {
        let session = api::find(app, id)?;
        if *request.method() != Method::DELETE {
            return Some(json(&api::session(app, &session)));
        }
        if let Err(refusal) = gate::may_change(request.headers()) {
            return Some(refused(refusal));
        }
        api::stop(app, &session).await;
        return Some(text(StatusCode::NO_CONTENT, ""));
    }
    Some(match path {
        "/metrics" => {
            app.store.sweep(app.clock.now());
            app.upstreams.show();
            telemetry::metrics::process(&telemetry::process::Usage::now());
            text(StatusCode::OK, telemetry::metrics::render(metrics))
        }
        "/api/sessions" => json(&api::sessions(app, &api::Wanted::read(request.uri().query()))),
        "/api/upstreams" => json(&json!({ "upstreams": app.upstreams.to_json() })),
        "/api/config" => json(&api::config(app)),
        "/api/version" => json(&api::version(app)),
        _ => return None,
    })
}

fn refused((status, why): gate::Refusal) -> Answer {
    let mut answer = text(status, why);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn not_allowed() -> Answer {
    let told = "sessions can be stopped (DELETE /api/sessions/{id}); all else is read only\n";
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, told);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn json(value: &serde_json::Value) -> Answer {
    respond(StatusCode::OK, "application/json", value.to_string().into())
}

fn respond(status: StatusCode, media: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
