//! Time and chance, handed in from one place so that tests can pause the one and seed the other.

use std::sync::Mutex;
use std::time::Duration;

use streamkeeper_session::Seed;
use tokio::time::Instant;

/// A monotonic clock: durations since the process began. It stands still where tokio's time is paused.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the origin.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant `at` after the origin, for timers.
    pub fn instant(&self, at: Duration) -> Instant {
        self.origin + at
    }
}

/// Where session ids, keys and jitter come from.
#[derive(Debug)]
pub enum Entropy {
    /// The operating system's generator.
    System,
    /// A fixed trace, for tests only.
    Seeded(Mutex<Seed>),
}

impl Entropy {
    /// A fixed trace from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(Seed::new(seed)))
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        match self {
            // Without randomness no session may begin: ids would be guessable.
            Self::System => {
                getrandom::u64().unwrap_or_else(|error| panic!("the system's random generator failed: {error}"))
            }
            Self::Seeded(seed) => seed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next(),
        }
    }

    /// 128 random bits.
    pub fn u128(&self) -> u128 {
        (u128::from(self.u64()) << 64) | u128::from(self.u64())
    }
}
