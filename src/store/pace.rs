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
    /// An event was appended that takes so many bytes of the ring.
    pub fn appended(&self, bytes: usize) {
        self.events.set(self.events.get().saturating_add(1));
        self.bytes.set(self.bytes.get().saturating_add(capped(bytes)));
    }

    /// Events that no reader may have seen, and their bytes.
    pub fn unseen(&self) -> (u32, u32) {
        (self.events.get(), self.bytes.get())
    }

    /// Whether there is so much more unseen than `before` that readers should have a turn.
    pub fn is_a_piece_more_than<E>(&self, before: (u32, u32), ring: &Ring<E>) -> bool {
        is_a_piece(self.events.get() - before.0, self.bytes.get() - before.1, ring)
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

    /// Whether the next piece could overtake the foremost reader.
    pub fn is_far_behind<E>(&self, ring: &Ring<E>) -> bool {
        is_a_piece(self.events.get(), self.bytes.get(), ring)
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

/// Half of the events that a ring keeps, or a quarter of its bytes: two pieces fit into it, and an event of half its bytes
/// that ends one of them.
fn is_a_piece<E>(events: u32, bytes: u32, ring: &Ring<E>) -> bool {
    let RingLimits { max_events, max_bytes } = ring.limits();
    let reached = |count: u32, most: usize| usize::try_from(count).is_ok_and(|count| count >= most.max(1));
    reached(events, max_events / 2) || reached(bytes, max_bytes / 4)
}

fn capped(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}
