//! Going away: unready at once, no new sessions; running streams finish until the timeout; what still runs then gets
//! its terminal event; the process exits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use streamkeeper_session::Code;

use crate::app::App;

/// How often the drain looks whether all is done.
const LOOK: Duration = Duration::from_millis(50);
/// How long terminal events may take to reach their clients.
const FAREWELL: Duration = Duration::from_secs(2);

/// Drains `app`: returns when every stream has finished, or has been told that it will not.
pub async fn drain(app: &Arc<App>) {
    app.start_draining();
    let timeout = app.settings.drain.timeout;
    tracing::info!(running = running(app), timeout = ?timeout, "draining");
    if tokio::time::timeout(timeout, until(|| running(app) == 0 && in_flight(app) == 0)).await.is_err() {
        let stopped = stop_all(app);
        tracing::warn!(stopped, "drain timeout: streams end unfinished");
    }
    // Bodies under way are given the time to be written.
    let _ = tokio::time::timeout(FAREWELL, until(|| running(app) == 0 && in_flight(app) == 0)).await;
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(LOOK).await;
    }
}

fn running(app: &App) -> usize {
    app.store.all().iter().filter(|session| !session.is_ended()).count()
}

fn in_flight(app: &App) -> usize {
    app.in_flight.load(Ordering::Acquire)
}

fn stop_all(app: &App) -> usize {
    let running: Vec<_> = app.store.all().into_iter().filter(|session| !session.is_ended()).collect();
    for session in &running {
        session.stop(Code::Draining.into());
    }
    running.len()
}
