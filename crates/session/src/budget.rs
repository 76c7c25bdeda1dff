//! How much of an upstream's load may be retries: a share of its requests, and a few more, so that an ill upstream is
//! not stormed by everybody's second and third tries at once.
//!
//! Pure: `now` comes in. Not here: what counts as a retry, and what happens to whoever gets none (the pump says so, the
//! machine gives up). Source: retry budgets as in Finagle and Envoy; a share of the traffic instead of a count for each
//! request bounds the amplification whatever the number of requests is.

use core::time::Duration;

use crate::window::{Counts, Window};

/// The time over which requests and retries are compared.
const WINDOW: Duration = Duration::from_secs(10);

/// A retry budget of one upstream.
///
/// A retry is allowed if with it the last ten seconds have at most `floor + ratio × requests` of them; the requests are
/// those of the last ten (at most eleven) seconds.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    ratio: f64,
    floor: u32,
    /// All: requests. Marked: retries.
    window: Window,
}

impl RetryBudget {
    /// A full budget. `ratio`: retries for each request, 0.0 to 1.0; `floor`: retries in ten seconds beside them.
    pub fn new(ratio: f64, floor: u32) -> Self {
        Self { ratio, floor, window: Window::new(WINDOW) }
    }

    /// A request is sent for the first time.
    pub fn request(&mut self, now: Duration) {
        self.window.add(now, Counts { all: 1, marked: 0 });
    }

    /// Whether one more retry is allowed now; if so it is spent.
    pub fn spend(&mut self, now: Duration) -> bool {
        let allowed = self.left(now) > 0;
        if allowed {
            self.window.add(now, Counts { all: 0, marked: 1 });
        }
        allowed
    }

    /// How many retries are allowed now.
    pub fn left(&mut self, now: Duration) -> u32 {
        let Counts { all, marked } = self.window.sum(now);
        // Rounded down; a float too large for the type saturates.
        let share = (f64::from(all) * self.ratio) as u32;
        self.floor.saturating_add(share).saturating_sub(marked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_quiet_upstream_has_its_floor_and_it_comes_back() {
        let mut budget = RetryBudget::new(0.2, 3);
        budget.request(MS(0));
        let granted = (0..10).filter(|_| budget.spend(MS(5))).count();
        assert_eq!((granted, budget.left(MS(9_999))), (3, 0));
        assert_eq!(budget.left(MS(11_100)), 3);
    }

    #[test]
    fn requests_earn_their_share() {
        let mut budget = RetryBudget::new(0.2, 0);
        (0..4).for_each(|_| budget.request(MS(0)));
        assert!(!budget.spend(MS(0)));
        budget.request(MS(1));
        assert!(budget.spend(MS(1)) && !budget.spend(MS(1)));
    }

    proptest! {
        #[test]
        fn no_retry_is_allowed_beyond_the_budget(
            ratio in 0.0..1.0_f64, floor in 0_u32..5,
            steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..120),
        ) {
            let mut budget = RetryBudget::new(ratio, floor);
            let (mut now, mut requests, mut retries) = (Duration::ZERO, Vec::new(), Vec::new());
            for (wait, retry) in steps {
                now += MS(wait / 10);
                if !retry {
                    budget.request(now);
                    requests.push(now);
                } else if budget.spend(now) {
                    retries.push(now);
                    let since = |times: &[Duration], age| times.iter().filter(|at| now - **at <= age).count();
                    let most = f64::from(floor) + ratio * since(&requests, WINDOW + WINDOW / 10) as f64;
                    prop_assert!(since(&retries, WINDOW) as f64 <= most);
                }
            }
        }
    }
}
