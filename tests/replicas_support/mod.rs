//! What the stories about many replicas share: real processes, a real Redis, an upstream whose every answer can be
//! checked, clients that come back, and judges who read what they took.
//!
//! ```text
//! let fleet = Fleet::of(2, "").await;
//! let rider = fleet.rider(&Talk::plain(60, 40)).cut_at([10, 30]).ride(other());
//! rider.told().await.must_be_whole();
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`process`] | a child process: signals, its end, its log; free ports |
//! | [`redis`] | a `redis-server` of its own and a client of a few lines |
//! | [`line`] | a line to a server that can be cut, stand still or be slow |
//! | [`talk`] | one answer, known beforehand: numbered, continued or neither |
//! | [`service`] | the upstream: many talks at once, paced |
//! | [`fleet`] | replicas before one service and one Redis |
//! | [`rider`] | a client that comes back until its answer is whole |
//! | [`judge`] | whole, a prefix, or told what is missing |
//!
//! Nothing here is told by the clock: whoever waits, waits for a condition, and a deadline only ends a story that
//! would never end.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "every story uses another part of this")]

pub mod fleet;
pub mod judge;
pub mod line;
pub mod process;
pub mod redis;
pub mod rider;
pub mod service;
pub mod talk;

use std::time::{Duration, Instant};

pub use fleet::{Fleet, Replica};
pub use line::Line;
pub use redis::{Redis, Word};
pub use rider::{End, Moment, Rider, Riding, Told, anywhere, at, other};
pub use service::{Answering, Asked, Hold, Service};
pub use talk::{Kind, Talk};

/// How long a story waits for something that must happen. Only a broken proxy ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until `look` says yes; says what was waited for if it never does.
pub async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A small generator (xorshift), so that a story's chances can be had again.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The chances of this number.
    pub fn of(seed: usize) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}
