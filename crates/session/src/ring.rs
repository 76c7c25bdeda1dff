//! The bounded log of one session: what was said, in order, and how it ended.
//!
//! Records are copied into pages of the ring's own (see `chunk`), never kept as slices of somebody's
//! read buffer: a slice of 200 bytes would pin the whole buffer. Pages start small and grow with the
//! ring, so that a session which says little costs little; a page is freed as soon as its last
//! record is gone. The ring numbers its records densely, from 1 unless it is a copy of a log that another process
//! writes (see `copy`), and nobody else does.
//!
//! It is not a queue: reading removes nothing, and every reader brings its own position. It knows
//! no clock, no lock and nobody's wire format; waiting for more is [`Tail`](crate::Tail)'s part, which
//! also describes how eviction, gaps and sealing fit together.

mod chunk;
mod copy;
mod gap;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

use chunk::{Chunk, Walk, need};
pub use gap::{Gap, GapReason};

/// The smallest page, in bytes. A session of a few short events fits into one.
const PAGE_LEAST: usize = 512;

/// The largest page, in bytes, unless one record needs more. From 16 KiB on jemalloc spreads allocations over one more
/// page of memory than they need, a quarter of that size.
const PAGE_MOST: usize = 8 * 1024;

/// How much a ring may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    /// Most records at one time. The newest is kept in any case, so 0 means 1.
    pub max_events: usize,
    /// Most bytes of bodies and kept ids at one time. One record above it is kept alone.
    pub max_bytes: usize,
}

/// A bounded log of records that ends, once, with an `E`.
pub struct Ring<E> {
    limits: RingLimits,
    /// Seq of the oldest live record; `next` if there is none.
    first: u64,
    /// Seq that the next record gets, or the position of the seal.
    next: u64,
    /// Live payload.
    bytes: usize,
    /// Size of all pages together.
    arena: usize,
    /// Live records with a kept id, so that rings without any never search for one.
    kept: usize,
    /// Records that made room for others.
    evicted: u64,
    /// The records below this one are lost; 0 if none are.
    lost_below: u64,
    /// Oldest page first; none of them is empty of live records.
    chunks: VecDeque<Chunk>,
    end: Option<E>,
}

/// One live record, borrowed from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its place in the log; the first record has 1.
    pub seq: u64,
    /// The id its upstream gave it, if that was kept.
    pub id: Option<&'a [u8]>,
    /// Its bytes, as pushed.
    pub body: &'a [u8],
}

/// What stands at a position of the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a, E> {
    /// Something that was said.
    Event(Entry<'a>),
    /// The end: always the last record, and there is only one.
    Sealed(&'a E),
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The log has its end already.
    #[error("the log is sealed")]
    Sealed,
    /// Body and id are larger than any page can be, 2 GiB.
    #[error("the record is larger than a page can be")]
    TooLarge,
    /// The numbers are used up. Only a copy gets there, if what it copies says so.
    #[error("the log has no further number")]
    Exhausted,
}

impl<E> Ring<E> {
    /// An empty ring. It owns no heap until the first push.
    #[must_use]
    pub const fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            first: 1,
            next: 1,
            bytes: 0,
            arena: 0,
            kept: 0,
            evicted: 0,
            lost_below: 0,
            chunks: VecDeque::new(),
            end: None,
        }
    }

    /// Copies one record in and returns its seq, after evicting as many of the oldest as the limits
    /// ask for.
    ///
    /// # Errors
    /// [`PushError`]; the ring is then as it was.
    pub fn push(&mut self, body: &[u8], kept_id: Option<&[u8]>) -> Result<u64, PushError> {
        if self.end.is_some() {
            return Err(PushError::Sealed);
        }
        let after = self.next.checked_add(1).ok_or(PushError::Exhausted)?;
        let need = need(body, kept_id).ok_or(PushError::TooLarge)?;
        let payload = body.len() + kept_id.map_or(0, <[u8]>::len);
        while !self.is_empty() && !self.has_room(payload) {
            self.evict_oldest();
        }
        if self.chunks.back().is_none_or(|page| page.slack() < need) {
            self.open_page(need);
        }
        if let Some(page) = self.chunks.back_mut() {
            page.append(body, kept_id);
        }
        self.bytes += payload;
        self.kept += usize::from(kept_id.is_some());
        let seq = std::mem::replace(&mut self.next, after);
        Ok(seq)
    }

    /// Ends the log. `false` if it has an end already, which then stays: the first one wins.
    pub fn seal(&mut self, end: E) -> bool {
        let open = self.end.is_none();
        self.end.get_or_insert(end);
        open
    }

    /// How the log ended, if it did.
    #[must_use]
    pub const fn end(&self) -> Option<&E> {
        self.end.as_ref()
    }

    /// The record at position `seq`; `Ok(None)` if it has not been said yet. Position 0, "nothing
    /// seen", is read as 1. The seal stands at [`next_seq`](Self::next_seq).
    ///
    /// # Errors
    /// A [`Gap`] with [`Evicted`](GapReason::Evicted) from `seq` to the last event gone, or with
    /// [`Lost`](GapReason::Lost) if that one was [lost](Self::lose_until); or, for a position after
    /// the next one, with [`Epoch`](GapReason::Epoch) over the events that the asker claims and this
    /// log never had.
    pub fn get(&self, seq: u64) -> Result<Option<Record<'_, E>>, Gap> {
        self.iter_from(seq).map(|mut records| records.next())
    }

    /// The records from position `seq` on, the seal last. Finds the place once and then walks.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn iter_from(&self, seq: u64) -> Result<Iter<'_, E>, Gap> {
        let seq = seq.max(1);
        if seq < self.first {
            let reason = if self.first == self.lost_below { GapReason::Lost } else { GapReason::Evicted };
            return Err(Gap { from: seq, to: self.first - 1, reason });
        }
        if seq > self.next {
            return Err(Gap { from: self.next, to: seq - 1, reason: GapReason::Epoch });
        }
        // Most readers stand at the live end, so the last page is tried before the search.
        let last = self.chunks.len().saturating_sub(1);
        let page = match self.chunks.back() {
            _ if seq == self.next => self.chunks.len(),
            Some(page) if page.first() <= seq => last,
            _ => self.chunks.partition_point(|page| page.next() <= seq),
        };
        Ok(Iter { walk: Walk::new(self.chunks.range(page..), seq), end: self.end.as_ref() })
    }

    /// Seq of the newest live record that carries this upstream id. Searches the ring: for readers
    /// that come back, not for every event.
    #[must_use]
    pub fn find_kept(&self, id: &[u8]) -> Option<u64> {
        if self.kept == 0 {
            return None;
        }
        self.chunks.iter().rev().find_map(|page| page.find_kept(id, self.first))
    }

    /// Whether an asker at position `seq` has had everything there will ever be: the log is sealed
    /// and `seq` is the seal's own position, or the one after it.
    #[must_use]
    pub fn seen_all(&self, seq: u64) -> bool {
        self.end.is_some() && seq.checked_sub(self.next).is_some_and(|beyond| beyond <= 1)
    }

    /// Seq of the oldest live record; that of the next one if there is none.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.first
    }

    /// Seq that the next record gets; once sealed, the position of the seal.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next
    }

    /// Number of live records, the seal not counted.
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.next - self.first) as usize
    }

    /// Whether no record is live.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// What it keeps at most.
    #[must_use]
    pub const fn limits(&self) -> RingLimits {
        self.limits
    }

    /// Live payload: bytes of bodies and kept ids.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of heap that the ring owns, payload and everything beside it, for a budget above many
    /// rings. What an `E` owns is not counted.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.arena + self.chunks.capacity() * size_of::<Chunk>()
    }

    /// How many records made room for others since the beginning. Grows only; what was before a ring
    /// that [starts later](Self::starting_at), was cut off, or was lost is not counted.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Gives memory back: first the slack, then the oldest pages with all they hold, until
    /// [`footprint`](Self::footprint) is at most `footprint` bytes. Returns how many records went.
    pub fn shrink_to(&mut self, footprint: usize) -> u64 {
        let before = self.first;
        if self.footprint() > footprint {
            self.compact();
        }
        while self.footprint() > footprint && !self.is_empty() {
            let page_end = self.chunks.front().map_or(self.next, Chunk::next);
            while self.first < page_end {
                self.evict_oldest();
            }
            self.drop_spare();
            self.chunks.shrink_to_fit();
        }
        self.first - before
    }

    /// Gives back what the pages at both ends do not use. Worth it once, after sealing; before that,
    /// the next push opens a page.
    pub fn compact(&mut self) {
        self.drop_spare();
        self.trim(0);
        self.trim(self.chunks.len().saturating_sub(1));
        self.chunks.shrink_to_fit();
    }

    fn has_room(&self, payload: usize) -> bool {
        self.len() < self.limits.max_events && self.bytes.saturating_add(payload) <= self.limits.max_bytes
    }

    fn evict_oldest(&mut self) {
        let spare = self.has_spare();
        let Some(page) = self.chunks.get(usize::from(spare)) else {
            return;
        };
        let found = page.locate(self.first).and_then(|(index, start)| page.read(index, start));
        if let Some(found) = found {
            self.bytes -= found.payload();
            self.kept -= usize::from(found.id.is_some());
        }
        let page_end = page.next();
        self.first += 1;
        self.evicted += 1;
        // A page whose last record went stays in front, to be filled again; there is one such page at most.
        if spare && page_end <= self.first {
            self.drop_front();
        }
    }

    /// Whether the page in front has no live record.
    fn has_spare(&self) -> bool {
        self.chunks.front().is_some_and(|page| page.next() <= self.first)
    }

    fn drop_spare(&mut self) {
        if self.has_spare() {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) -> Option<Chunk> {
        let page = self.chunks.pop_front()?;
        self.arena -= page.size();
        Some(page)
    }

    /// Appends a page in which a record that takes `need` bytes fits.
    ///
    /// A page is a quarter of the arena so far and at most a sixteenth of the limit, so that one
    /// dying page in front and one filling page behind stay small against the payload. A record
    /// above half a page gets its own, of its exact size.
    fn open_page(&mut self, need: usize) {
        if let Some(page) = self.chunks.back()
            && page.slack() > page.size() / 8
        {
            self.trim(self.chunks.len() - 1);
        }
        let spare = if self.has_spare() { self.drop_front() } else { None };
        let most = power_of_two_within(self.limits.max_bytes / 16).clamp(PAGE_LEAST, PAGE_MOST);
        let usual = power_of_two_within(self.arena / 4).clamp(PAGE_LEAST, most);
        let size = if need > usual / 2 { need } else { usual };
        self.arena += size;
        self.chunks.push_back(match spare {
            Some(page) if page.size() == size => page.emptied(self.next),
            _ => Chunk::new(self.next, size),
        });
    }

    /// Moves the live records of a page into one that they fill exactly.
    fn trim(&mut self, at: usize) {
        let Some(page) = self.chunks.get_mut(at) else {
            return;
        };
        if page.slack() == 0 && page.first() >= self.first {
            return;
        }
        let before = page.size();
        *page = page.trimmed(self.first);
        self.arena = self.arena - before + page.size();
    }
}

/// The largest power of two that is at most `size`, the sizes that allocators do not round up.
const fn power_of_two_within(size: usize) -> usize {
    match size.checked_ilog2() {
        Some(log) => 1 << log,
        None => 0,
    }
}

impl<E: fmt::Debug> fmt::Debug for Ring<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Positions and sizes only: bodies are other people's prompts and answers.
        f.debug_struct("Ring")
            .field("first_seq", &self.first)
            .field("next_seq", &self.next)
            .field("bytes", &self.bytes)
            .field("footprint", &self.footprint())
            .field("end", &self.end)
            .finish()
    }
}

/// Records in order, the seal last; from [`Ring::iter_from`].
pub struct Iter<'a, E> {
    walk: Walk<'a>,
    end: Option<&'a E>,
}

impl<'a, E> Iterator for Iter<'a, E> {
    type Item = Record<'a, E>;

    fn next(&mut self) -> Option<Record<'a, E>> {
        match self.walk.next() {
            Some(entry) => Some(Record::Event(entry)),
            None => self.end.take().map(Record::Sealed),
        }
    }
}
