//! Two counts over the last while: what a breaker and a retry budget remember.
//!
//! Time is cut into slots, so memory is constant and nothing is allocated. What is counted stays for at least the whole
//! window and is forgotten at most a tenth of it later. Not here: what the counts mean; a clock (`now` comes in, and a
//! `now` that goes backwards counts into the newest slot).

use core::time::Duration;

/// Whole slots in a window; one more is being filled.
const SLOTS: usize = 10;

/// Counts of two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Of all.
    pub(crate) all: u32,
    /// Of those that are marked.
    pub(crate) marked: u32,
}

/// A sliding window over [`Counts`].
#[derive(Debug, Clone)]
pub(crate) struct Window {
    slot_nanos: u128,
    slots: [Counts; SLOTS + 1],
    /// Number of the newest slot since the origin.
    newest: u128,
}

impl Window {
    /// An empty window of this length.
    pub(crate) fn new(length: Duration) -> Self {
        let slot_nanos = (length.as_nanos() / SLOTS as u128).max(1);
        Self { slot_nanos, slots: [Counts::default(); SLOTS + 1], newest: 0 }
    }

    /// Adds to what happens now.
    pub(crate) fn add(&mut self, now: Duration, counts: Counts) {
        self.forget(now);
        if let Some(slot) = self.slots.get_mut(place(self.newest)) {
            slot.all = slot.all.saturating_add(counts.all);
            slot.marked = slot.marked.saturating_add(counts.marked);
        }
    }

    /// Everything that is remembered now.
    pub(crate) fn sum(&mut self, now: Duration) -> Counts {
        self.forget(now);
        self.slots.iter().fold(Counts::default(), |sum, slot| Counts {
            all: sum.all.saturating_add(slot.all),
            marked: sum.marked.saturating_add(slot.marked),
        })
    }

    fn forget(&mut self, now: Duration) {
        let current = (now.as_nanos() / self.slot_nanos).max(self.newest);
        let passed = usize::try_from(current - self.newest).unwrap_or(usize::MAX).min(SLOTS + 1);
        for later in 0..passed {
            if let Some(slot) = self.slots.get_mut(place(current - later as u128)) {
                *slot = Counts::default();
            }
        }
        self.newest = current;
    }
}

/// Where a slot is kept.
fn place(number: u128) -> usize {
    (number % (SLOTS as u128 + 1)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_happened_within_the_window_is_counted_and_nothing_much_older(
            steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..60),
        ) {
            let length = Duration::from_millis(1_000);
            let mut window = Window::new(length);
            let (mut now, mut past) = (Duration::ZERO, Vec::new());
            for (wait, marked) in steps {
                now += Duration::from_millis(wait);
                window.add(now, Counts { all: 1, marked: u32::from(marked) });
                past.push((now, marked));
                let within = |age: Duration| {
                    let recent = past.iter().filter(|(at, _)| now.saturating_sub(*at) <= age);
                    recent.fold((0, 0), |(all, some), (_, marked)| (all + 1, some + u32::from(*marked)))
                };
                let sum = window.sum(now);
                let (least, most) = (within(length), within(length + length / 10));
                prop_assert!(least.0 <= sum.all && sum.all <= most.0, "{sum:?} {least:?} {most:?}");
                prop_assert!(least.1 <= sum.marked && sum.marked <= most.1, "{sum:?} {least:?} {most:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_breaks_nothing() {
        let mut window = Window::new(Duration::ZERO);
        let one = Counts { all: 1, marked: 0 };
        for now in [9, 3, u64::MAX, 0] {
            window.add(Duration::from_secs(now), one);
            assert!(window.sum(Duration::from_secs(now)).all >= 1);
        }
    }
}
