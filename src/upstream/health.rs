//! Active checks: each endpoint of an upstream that wants them is asked at its interval whether it is alive.
//!
//! An endpoint that does not answer in time, or with a 5xx, is left alone like one whose breaker is open, until a check
//! finds it alive. Not here: what requests find out by themselves (`group`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt as _, Empty};
use tokio::task::JoinSet;

use super::{Dialler, Outgoing, Upstreams};
use crate::config::Health;

/// Starts the checks of all upstreams. They end when the set is dropped.
pub fn watch(upstreams: &Upstreams) -> JoinSet<()> {
    let mut checks = JoinSet::new();
    for dialler in upstreams.one_of_each() {
        let Some(health) = dialler.group().upstream().health.clone() else { continue };
        for endpoint in 0..dialler.endpoints() {
            checks.spawn(check(Arc::clone(dialler), endpoint, health.clone()));
        }
    }
    checks
}

async fn check(dialler: Arc<Dialler>, endpoint: usize, health: Health) {
    loop {
        let alive = is_alive(&dialler, endpoint, &health.path, health.interval).await;
        dialler.group().set_alive(endpoint, alive);
        tokio::time::sleep(health.interval).await;
    }
}

async fn is_alive(dialler: &Dialler, endpoint: usize, path: &str, patience: Duration) -> bool {
    let Ok(uri) = Uri::try_from(path) else { return false };
    let outgoing = Outgoing { method: Method::GET, uri, headers: HeaderMap::new() };
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let answer = tokio::time::timeout(patience, dialler.send_to(endpoint, outgoing, body)).await;
    matches!(answer, Ok(Ok(response)) if !response.status().is_server_error())
}
