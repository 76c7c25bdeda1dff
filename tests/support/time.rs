//! Paused time beside real sockets.
//!
//! Tokio moves paused time by itself as soon as nothing but timers is left to wait for, and a socket does not count.
//! It does not while a blocking task runs: one is kept parked for the story's life, and is the watchdog meanwhile,
//! because nothing else can tell that a story with paused time waits in vain.
//!
//! Stories with paused time need the current-thread runtime, which `#[tokio::test]` gives.

use std::io::Write as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::Proxy;

/// Real time after which a story with paused time is taken for stuck.
const STUCK: Duration = Duration::from_secs(20);

/// Time stands still while this lives.
#[derive(Debug)]
pub struct Frozen {
    _until: Sender<()>,
}

/// Stops time. Call it first in a story.
pub fn freeze() -> Frozen {
    let (until, parked) = channel::<()>();
    let story = std::thread::current().name().unwrap_or("a story").to_owned();
    tokio::task::spawn_blocking(move || {
        if parked.recv_timeout(STUCK) == Err(RecvTimeoutError::Timeout) {
            // Not by a macro: the test harness would keep what that prints.
            let _ = writeln!(std::io::stderr(), "{story} waits in vain, with time paused");
            std::process::exit(101);
        }
    });
    tokio::time::pause();
    Frozen { _until: until }
}

/// Moves time forward and lets everything that was due happen.
pub async fn advance(proxy: &Proxy, by: Duration) {
    settle(proxy).await;
    tokio::time::advance(by).await;
    settle(proxy).await;
}

/// Lets everything happen that can without time moving. On one thread a round trip over real sockets comes back only
/// after everything that was ready ran; a second and a third one see to what that made ready.
pub async fn settle(proxy: &Proxy) {
    for _ in 0..4 {
        assert_eq!(proxy.admin_get("/healthz").await.status, 200);
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }
}
