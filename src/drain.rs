//! Going away: unready at once, no new sessions; running streams finish until the timeout; what still runs then gets
//! its terminal event; the process exits.
//!
//! With a shared store clients that come back by themselves are sent to other replicas meanwhile, spread over
//! `drain.spread`; streams that still run at the timeout are given up for another replica to take over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use streamkeeper_session::Code;

use crate::app::App;
use crate::store::{Durability, LiveSession, Owner};

/// How often the drain looks whether all is done.
const LOOK: Duration = Duration::from_millis(50);
/// How long terminal events may take to reach their clients.
const FAREWELL: Duration = Duration::from_secs(2);

/// Drains `app`: returns when every stream has finished, or has been told that it will not.
pub async fn drain(app: &Arc<App>) {
    app.start_draining();
    let timeout = app.settings.drain.timeout;
    tracing::info!(running = running(app).len(), timeout = ?timeout, "draining");
    // Bodies find out that it is time to leave.
    app.store.all().iter().for_each(|session| session.log.update(|_| ()));
    let done = || running(app).is_empty() && in_flight(app) == 0;
    if tokio::time::timeout(timeout, until(done)).await.is_err() {
        let left = running(app);
        if app.store.durability() == Durability::Redis {
            app.store.all().iter().for_each(part);
            tracing::warn!(left = left.len(), "drain timeout: unfinished streams are left to other replicas");
        } else {
            left.iter().for_each(|session| session.stop(Code::Draining.into()));
            tracing::warn!(stopped = left.len(), "drain timeout: streams end unfinished");
        }
    }
    // Bodies under way are given the time to be written.
    let _ = tokio::time::timeout(FAREWELL, until(done)).await;
    app.store.close().await;
}

/// Ends a session's part in this process: its clients here are told, its pump stops without a word to anybody else.
fn part(session: &Arc<LiveSession>) {
    if !session.is_ended() {
        session.log.update(|log| log.parted = Some(Code::Draining));
        session.control.update(|control| control.owner = Owner::Elsewhere);
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The sessions that are read here.
fn running(app: &App) -> Vec<Arc<LiveSession>> {
    let here = |session: &Arc<LiveSession>| session.control.peek(|control| control.owner == Owner::Here);
    app.store.all().into_iter().filter(|session| !session.is_ended() && here(session)).collect()
}

fn in_flight(app: &App) -> usize {
    app.in_flight.load(Ordering::Acquire)
}
