//! How long to wait before the next try, and a small reproducible source of jitter.
//!
//! "Full jitter": the wait is uniform between nothing and an exponentially growing ceiling, which
//! spreads a crowd of clients better than a fixed wait with a little noise (M. Brooker, "Exponential
//! Backoff And Jitter", AWS Architecture Blog, 2015). Nothing here reads a clock or draws randomness:
//! the caller brings the random word, so the same seed gives the same trace.
//!
//! [`Seed`] is for jitter and simulation only. Session ids need a cryptographic generator.

use core::time::Duration;

/// Full-jitter exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling of the first wait.
    pub base: Duration,
    /// No wait is longer, however many tries came before.
    pub max: Duration,
}

impl Backoff {
    /// The largest wait after `attempt` earlier waits: `min(max, base * 2^attempt)`.
    ///
    /// A ceiling beyond `u64::MAX` nanoseconds, about 584 years, is cut to that.
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        Duration::from_nanos(self.ceiling_nanos(attempt))
    }

    /// The wait itself: uniform in `[0, ceiling(attempt)]` for a uniform `random`. The first wait
    /// has `attempt` 0.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        // Scaling by a widening multiplication: no modulo bias worth the name, and no division.
        let choices = u128::from(self.ceiling_nanos(attempt)) + 1;
        Duration::from_nanos(((u128::from(random) * choices) >> 64) as u64)
    }

    fn ceiling_nanos(&self, attempt: u32) -> u64 {
        let grown = match self.base.as_nanos() {
            0 => 0,
            base => 1_u128.checked_shl(attempt).and_then(|factor| base.checked_mul(factor)).unwrap_or(u128::MAX),
        };
        u64::try_from(grown.min(self.max.as_nanos())).unwrap_or(u64::MAX)
    }
}

/// SplitMix64: a 64-bit state, one addition and a finalizer per word.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Every value is a good start.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next word, uniform over all of `u64`.
    #[allow(clippy::should_implement_trait, reason = "an endless source has no None to iterate to")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRY: Backoff = Backoff { base: Duration::from_millis(250), max: Duration::from_secs(10) };

    #[test]
    fn the_ceiling_doubles_until_it_meets_the_maximum() {
        let ceilings: Vec<u128> = (0..8).map(|attempt| RETRY.ceiling(attempt).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(RETRY.ceiling(u32::MAX), RETRY.max);
    }

    #[test]
    fn the_whole_range_is_used_and_nothing_beyond_it() {
        assert_eq!(RETRY.delay(3, 0), Duration::ZERO);
        assert_eq!(RETRY.delay(3, u64::MAX / 2 + 1), Duration::from_secs(1));
        assert_eq!(RETRY.delay(3, u64::MAX), Duration::from_secs(2));
    }

    #[test]
    fn a_thousand_waits_fill_each_tenth_of_the_range_about_evenly() {
        let mut seed = Seed::new(7);
        let mut tenths = [0_u32; 10];
        for _ in 0..1_000 {
            let share = RETRY.delay(9, seed.next()).as_nanos() * 10 / (RETRY.max.as_nanos() + 1);
            tenths[share as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..140).contains(count)), "{tenths:?}");
    }

    #[test]
    fn the_seed_gives_the_published_words() {
        let mut seed = Seed::new(1_234_567);
        let words = [seed.next(), seed.next(), seed.next()];
        assert_eq!(words, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let trace = |start| {
            let mut seed = Seed::new(start);
            (0..64).map(|attempt| RETRY.delay(attempt, seed.next())).collect::<Vec<_>>()
        };
        assert_eq!(trace(42), trace(42));
        assert_ne!(trace(42), trace(43));
    }

    proptest! {
        #[test]
        fn no_input_breaks_the_bounds(
            base in (any::<u64>(), 0_u32..1_000_000_000),
            max in (any::<u64>(), 0_u32..1_000_000_000),
            attempt: u32, small in 0_u32..70, random: u64,
        ) {
            let backoff = Backoff { base: Duration::new(base.0, base.1), max: Duration::new(max.0, max.1) };
            for attempt in [attempt, small] {
                let delay = backoff.delay(attempt, random);
                prop_assert!(delay <= backoff.ceiling(attempt));
                prop_assert!(backoff.ceiling(attempt) <= backoff.max);
                prop_assert!(backoff.ceiling(attempt) <= backoff.ceiling(attempt.saturating_add(1)));
            }
        }
    }
}
