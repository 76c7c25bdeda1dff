//! HTTP/2 clients that stop taking a stream.
//!
//! On HTTP/1.1 a client that does not read shows in the socket, and the server's write deadline cuts it. On h2 it can
//! keep one stream's window shut while the socket stays well; hyper then simply stops asking that stream's body for
//! more. So each body notes when it gave its last piece, until it is asked for the next one, and the connection is
//! ended when a note gets too old: the client may come back by id. One coarse ticker serves a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;

/// The bodies of one connection.
#[derive(Debug)]
pub struct Writes {
    clock: Clock,
    bodies: Mutex<Vec<Weak<AtomicU64>>>,
    first: Notify,
}

/// One body's note: when it gave what is not yet known to be taken; 0 if there is nothing.
#[derive(Debug)]
pub(super) struct Written {
    clock: Clock,
    given: Arc<AtomicU64>,
}

impl Writes {
    /// Of a connection without bodies yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, bodies: Mutex::default(), first: Notify::new() }
    }

    /// A note for one more body.
    pub(super) fn watch(&self) -> Written {
        let given = Arc::new(AtomicU64::new(0));
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.retain(|body| body.strong_count() > 0);
        bodies.push(Arc::downgrade(&given));
        self.first.notify_one();
        Written { clock: self.clock, given }
    }

    /// Done when a body was not asked for more for `limit`. Costs nothing before there is a body.
    pub async fn stalled(&self, limit: Duration) {
        self.first.notified().await;
        let mut ticks = tokio::time::interval((limit / 8).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            let now = micros(self.clock.now());
            let limit = micros(limit);
            let late = |body: &Weak<AtomicU64>| {
                let given = body.upgrade().map_or(0, |given| given.load(Ordering::Relaxed));
                given > 0 && now.saturating_sub(given) > limit
            };
            if self.bodies.lock().unwrap_or_else(PoisonError::into_inner).iter().any(late) {
                return;
            }
        }
    }
}

impl Written {
    /// The body was asked for more; `gave`: it had something.
    pub(super) fn asked(&self, gave: bool) {
        let given = if gave { micros(self.clock.now()).max(1) } else { 0 };
        self.given.store(given, Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn ends_within(writes: &Writes, time: Duration) -> bool {
        tokio::time::timeout(time, writes.stalled(LIMIT)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_asked_for_more_is_noticed() {
        let writes = Writes::new(Clock::start());
        let body = writes.watch();
        body.asked(true);
        assert!(!ends_within(&writes, LIMIT).await);
        writes.first.notify_one();
        assert!(ends_within(&writes, LIMIT).await);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_finished_bodies_are_no_stall() {
        let writes = Writes::new(Clock::start());
        let silent = writes.watch();
        silent.asked(true);
        silent.asked(false);
        let finished = writes.watch();
        finished.asked(true);
        drop(finished);
        assert!(!ends_within(&writes, 10 * LIMIT).await);
    }
}
