//! What a ring needs to be a copy of a log that another process writes: to begin in its midst, to take back what was
//! never written there, to pass over what is missing there.
//!
//! Not here: how the other log is read, and who may write to it.

use super::{Record, Ring, RingLimits};

impl<E> Ring<E> {
    /// An empty ring whose first record gets the seq `first_seq`; 0 is read as 1. What was before it counts as evicted
    /// for readers.
    #[must_use]
    pub const fn starting_at(limits: RingLimits, first_seq: u64) -> Self {
        let mut ring = Self::new(limits);
        ring.first = if first_seq == 0 { 1 } else { first_seq };
        ring.next = ring.first;
        ring
    }

    /// Forgets the records from `next_seq` on, so that the next one gets this seq. If it lies before the oldest record
    /// the ring is empty afterwards and begins there.
    ///
    /// Changes nothing if there is no record from `next_seq` on, nor in a sealed log: its end is what everybody was
    /// told.
    pub fn truncate(&mut self, next_seq: u64) {
        let next_seq = next_seq.max(1);
        if self.end.is_some() || next_seq >= self.next {
            return;
        }
        if next_seq <= self.first {
            return self.restart(next_seq);
        }
        let (mut bytes, mut kept) = (0, 0);
        for record in self.iter_from(next_seq).into_iter().flatten() {
            if let Record::Event(entry) = record {
                bytes += entry.body.len() + entry.id.map_or(0, <[u8]>::len);
                kept += usize::from(entry.id.is_some());
            }
        }
        (self.bytes, self.kept) = (self.bytes - bytes, self.kept - kept);
        while let Some(page) = self.chunks.back_mut() {
            if page.first() < next_seq {
                page.truncate(next_seq);
                break;
            }
            self.arena -= page.size();
            self.chunks.pop_back();
        }
        self.next = next_seq;
    }

    /// There is a hole in the log: everything below `seq` is gone, and `seq` comes next. Readers who stand before it
    /// are answered with [`GapReason::Lost`](super::GapReason::Lost), until the ring has evicted a record behind the
    /// hole: from then on the gap before the oldest record is an eviction again, of which the hole is a part.
    ///
    /// Changes nothing if `seq` is not beyond the next one, nor in a sealed log, which has no further records to lose.
    pub fn lose_until(&mut self, seq: u64) {
        if self.end.is_none() && seq > self.next {
            self.restart(seq);
            self.lost_below = seq;
        }
    }

    /// Empties the ring; the next record gets the seq `next`.
    fn restart(&mut self, next: u64) {
        if next < self.first {
            // The hole, if there was one, is not behind the ring any more.
            self.lost_below = 0;
        }
        self.chunks.clear();
        (self.bytes, self.arena, self.kept) = (0, 0, 0);
        (self.first, self.next) = (next, next);
    }
}
