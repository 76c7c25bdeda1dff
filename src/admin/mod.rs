//! The operators' port: health, metrics, live sessions, upstreams. It shows no event, no header and no secret.
//!
//! Off loopback every path but the two health checks needs the bearer token.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;

use crate::app::App;

type Answer = Response<Full<Bytes>>;

/// Serves the admin port until it is dropped.
pub async fn run(app: Arc<App>, metrics: PrometheusHandle, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let (app, metrics) = (Arc::clone(&app), metrics.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = answer(&app, &metrics, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(app_header_timeout());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

const fn app_header_timeout() -> std::time::Duration {
    std::time::Duration::from_secs(10)
}

fn answer<B>(app: &App, metrics: &PrometheusHandle, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "read only\n");
    }
    match path {
        "/healthz" => return text(StatusCode::OK, "ok\n"),
        "/readyz" if app.is_draining() => return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => return text(StatusCode::OK, "ready\n"),
        _ => {}
    }
    if !authorized(app, request) {
        let mut answer = text(StatusCode::UNAUTHORIZED, "send the admin token as: authorization: Bearer …\n");
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    match path {
        "/metrics" => {
            app.store.sweep(app.clock.now());
            app.upstreams.show();
            text(StatusCode::OK, metrics.render())
        }
        "/api/sessions" => {
            let sessions: Vec<_> = app.store.all().iter().map(|session| app.state_of(session)).collect();
            json(&json!({ "draining": app.is_draining(), "sessions": sessions }))
        }
        "/api/upstreams" => json(&json!({ "upstreams": app.upstreams.to_json() })),
        _ => match path.strip_prefix("/api/sessions/").and_then(|id| one(app, id)) {
            Some(state) => json(&state),
            None => text(StatusCode::NOT_FOUND, "try /metrics, /healthz, /readyz, /api/sessions or /api/upstreams\n"),
        },
    }
}

fn one(app: &App, id: &str) -> Option<serde_json::Value> {
    let id = id.parse().ok()?;
    app.store.all().iter().find(|session| session.id == id).map(|session| app.state_of(session))
}

/// Compares in constant time, so that the token cannot be guessed byte by byte.
fn authorized<B>(app: &App, request: &Request<B>) -> bool {
    let Some(token) = &app.settings.admin.token else { return true };
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    sent.is_some_and(|sent| {
        app.keyed.fingerprint(&[sent.as_bytes()]) == app.keyed.fingerprint(&[token.expose().as_bytes()])
    })
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
