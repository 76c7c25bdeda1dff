//! Every request has an id: the caller's if it is fit to be one, else ours.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::HeaderValue;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::Answer;
use crate::app::App;
use crate::upstream::headers::REQUEST_ID;

const MAX_LEN: usize = 128;

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// Gives the request its id and puts it on the answer.
pub(super) async fn identify(
    app: Arc<App>,
    mut request: Request<Incoming>,
    next: BoxCloneSyncService<Request<Incoming>, Answer, Infallible>,
) -> Answer {
    let id = callers(request.headers()).unwrap_or_else(|| format!("{:032x}", app.entropy.u128()));
    request.extensions_mut().insert(RequestId(id.clone()));
    let started = app.clock.now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match next.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    tracing::debug!(
        request_id = %id, %method, path, status = answer.status().as_u16(),
        ms = u64::try_from((app.clock.now().saturating_sub(started)).as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    answer
}

/// The caller's own id, if it is short and printable: it goes into logs and events.
fn callers(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fit = !id.is_empty() && id.len() <= MAX_LEN && id.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(id: &str) -> HeaderMap {
        [(REQUEST_ID, HeaderValue::from_str(id).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_callers_id_is_kept_if_it_is_fit_to_be_one() {
        assert_eq!(callers(&with("req-42")).as_deref(), Some("req-42"));
        assert_eq!(callers(&with("two words")), None);
        assert_eq!(callers(&with(&"x".repeat(129))), None);
        assert_eq!(callers(&HeaderMap::new()), None);
    }
}
