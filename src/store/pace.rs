//! How far the clients of one session are behind what was read from its upstream, so that a ring does not overtake those
//! who keep up as well as their network lets them: a plain proxy would not have read on either.
//!
//! It looks at the foremost client alone: one that lags behind another is overtaken, as a slow one holds up nobody. And
//! only clients of this process count; nobody waits where there are none.

use std::cell::Cell;

use streamkeeper_session::{Ring, RingLimits};

use crate::telemetry::metrics;

/// See the module. Lies in the log, behind its lock; readers, who only look at the log, note here how far they are.
/// Counts stop at their type's end: a ring of half that has no need of this.
#[derive(Debug, Default)]
pub struct Pace {
    /// Events that came since some reader had all.
    events: Cell<u32>,
    /// Their bytes.
    bytes: Cell<u32>,
    /// Who reads the upstream waits.
    awaited: Cell<bool>,
}

impl Pace {
    /// So many events were appended, of so many bytes.
    pub fn appended(&self, events: u64, bytes: usize) {
        self.events.set(self.events.get().saturating_add(capped(events)));
        self.bytes.set(self.bytes.get().saturating_add(capped(bytes)));
    }

    /// A reader that wants `cursor` next is the only one now.
    pub fn alone<E>(&self, ring: &Ring<E>, cursor: u64) {
        let events = ring.next_seq().saturating_sub(cursor);
        self.events.set(capped(events));
        self.bytes.set(if events > 0 { capped(ring.bytes()) } else { 0 });
    }

    /// A reader wants `cursor` next. Returns whether somebody waited for that: its control is to be woken.
    pub fn read<E>(&self, ring: &Ring<E>, cursor: u64) -> bool {
        if cursor < ring.next_seq() {
            return false;
        }
        self.events.set(0);
        self.bytes.set(0);
        self.awaited.replace(false)
    }

    /// Whether the next append, of half a ring at most, could overtake the foremost reader.
    pub fn is_far_behind<E>(&self, ring: &Ring<E>) -> bool {
        let RingLimits { max_events, max_bytes } = ring.limits();
        let reached = |count: u32, most: usize| usize::try_from(count).is_ok_and(|count| count >= (most / 2).max(1));
        reached(self.events.get(), max_events) || reached(self.bytes.get(), max_bytes)
    }

    /// The same for one who waits then.
    pub(super) fn awaits<E>(&self, ring: &Ring<E>) -> bool {
        let far = self.is_far_behind(ring);
        if !self.awaited.replace(far) && far {
            metrics::held();
        }
        far
    }
}

fn capped(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}
