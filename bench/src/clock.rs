//! The run's clock: nanoseconds since the run began. The upstream stamps with it and the clients read it, in
//! one process, so that a latency is one subtraction.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
pub(crate) type Nanos = u64;

/// A copy of it tells the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    base: Instant,
}

impl Clock {
    /// Starts at zero.
    pub(crate) fn start() -> Self {
        Self { base: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Nanos {
        nanos(self.base.elapsed())
    }

    /// Blocks the calling thread until `at`; returns at once if that is over.
    pub(crate) fn sleep_until(&self, at: Nanos) {
        let now = self.now();
        if at > now {
            std::thread::sleep(Duration::from_nanos(at - now));
        }
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
