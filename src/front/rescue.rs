//! Errors become answers, here alone: a status, the standard error as JSON in the client's dialect, and the headers
//! that SDKs look at before they try again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use streamkeeper_session::{Code, ErrorEvent, Fault};
use tower::ServiceExt as _;

use super::telemetry::RequestId;
use super::{Answer, AnswerBody, Next, Refused};
use crate::app::App;
use crate::dialect::{Dialect as _, GenericDialect};

/// Stops the retries of the SDKs of OpenAI and Anthropic.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Answers what the layers below refuse.
pub(super) async fn rescue(app: Arc<App>, request: Request<Incoming>, next: Next<Request<Incoming>>) -> Answer {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    match next.oneshot(request).await {
        Ok(answer) => answer,
        Err(refused) => answer(&app, refused, &id),
    }
}

fn answer(app: &App, refused: Refused, request_id: &str) -> Answer {
    let Refused { fault, dialect, answer } = refused;
    if let Some((status, headers, body)) = answer.map(|answer| *answer) {
        let mut answer = Response::new(AnswerBody::whole(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        return answer;
    }
    let wait = app.come_back_in();
    // An unknown session and a foreign one get the same bytes.
    let request_id = if fault.code == Code::SessionNotFound { "" } else { request_id };
    let error = ErrorEvent::new(&fault, request_id, wait, app.settings.telemetry.development);
    let body = match dialect {
        Some(dialect) => dialect.error_body(&error),
        None => GenericDialect::new(crate::config::Generic::default()).error_body(&error),
    };
    respond(&fault, wait, body)
}

fn respond(fault: &Fault, wait: Duration, body: Bytes) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(body));
    *answer.status_mut() = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !fault.recoverable {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if matches!(fault.status, 429 | 503) {
        let seconds = fault.retry_after.unwrap_or(wait).as_millis().div_ceil(1000).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    answer
}
