//! Active checks: each endpoint of an upstream that wants them is asked at its interval whether it is alive.
//!
//! An endpoint that does not answer in time, or with a 5xx, is left alone like one whose breaker is open, until a check
//! finds it alive. Not here: what requests find out by themselves (`group`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt as _, Empty};
use tokio::task::JoinSet;

use super::{Dialler, Group, Outgoing, Upstreams};
use crate::config::Health;

/// The checks that run now. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Checks(Vec<(Arc<Group>, JoinSet<()>)>);

impl Checks {
    /// Starts the checks of all `upstreams` but those that run already, and ends all others.
    pub fn follow(&mut self, upstreams: &Upstreams) {
        let mut before = std::mem::take(&mut self.0);
        for dialler in upstreams.one_of_each() {
            let runs = before.iter().position(|(group, _)| Arc::ptr_eq(group, dialler.group()));
            self.0.push(match runs {
                Some(place) => before.swap_remove(place),
                None => (Arc::clone(dialler.group()), checks(dialler)),
            });
        }
    }
}

fn checks(dialler: &Arc<Dialler>) -> JoinSet<()> {
    let mut checks = JoinSet::new();
    let Some(health) = dialler.group().upstream().health.clone() else { return checks };
    for endpoint in 0..dialler.endpoints() {
        checks.spawn(check(Arc::clone(dialler), endpoint, health.clone()));
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
