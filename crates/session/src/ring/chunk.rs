//! One page of the arena: record bytes from the front, their ends from the back.
//!
//! The idea is the slotted page of database storage engines: payload grows upward, a table of
//! four-byte slots grows downward, and the page is full where they meet. So a record costs four
//! bytes beside its payload (eight with an upstream id), one page is one allocation, and the record
//! at a given index is found without a scan.
//!
//! ```text
//! | record 0 | record 1 | record 2 |   free   | slot 2 | slot 1 | slot 0 |
//!                                  ^ used
//! ```
//!
//! A slot holds the end of its record; the start is the end of the one before. Its top bit says that
//! the record opens with a `u32` length and the bytes of the id its upstream gave it. A page decides
//! nothing about limits and eviction: that is the ring's.

use super::Entry;

/// Bytes of one slot.
const SLOT: usize = 4;

/// Bytes of the length in front of a kept id.
const ID_LEN: usize = 4;

/// The bit of a slot that marks a record with a kept id.
const KEPT: u32 = 1 << 31;

/// No page is larger, so that an end always fits beside the bit.
const PAGE_MAX: usize = (KEPT - 1) as usize;

/// A page and the records in it.
pub(super) struct Chunk {
    /// Seq of the record at index 0.
    first: u64,
    page: Box<[u8]>,
    used: u32,
    count: u32,
}

/// A record that has been found in its page.
pub(super) struct Found<'a> {
    pub(super) id: Option<&'a [u8]>,
    pub(super) body: &'a [u8],
    /// Where the next record starts.
    pub(super) end: u32,
}

impl Found<'_> {
    /// Bytes of payload: body and id.
    pub(super) fn payload(&self) -> usize {
        self.body.len() + self.id.map_or(0, <[u8]>::len)
    }
}

/// Bytes of page that a record takes, or nothing if no page can hold it.
pub(super) fn need(body: &[u8], id: Option<&[u8]>) -> Option<usize> {
    let id = id.map_or(0, |id| ID_LEN.saturating_add(id.len()));
    body.len().checked_add(id)?.checked_add(SLOT).filter(|need| *need <= PAGE_MAX)
}

impl Chunk {
    /// An empty page of `size` bytes whose first record will have the seq `first`.
    pub(super) fn new(first: u64, size: usize) -> Self {
        Self { first, page: vec![0; size.min(PAGE_MAX)].into_boxed_slice(), used: 0, count: 0 }
    }

    /// The same page without its records, for others from the seq `first` on.
    pub(super) fn emptied(self, first: u64) -> Self {
        Self { first, used: 0, count: 0, ..self }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Seq after the last record.
    pub(super) fn next(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes of the page, free ones as well.
    pub(super) fn size(&self) -> usize {
        self.page.len()
    }

    /// Bytes that are free.
    pub(super) fn slack(&self) -> usize {
        self.page.len() - self.used as usize - self.count as usize * SLOT
    }

    /// Copies a record in. The caller has made sure that `need` fits into `slack`.
    pub(super) fn append(&mut self, body: &[u8], id: Option<&[u8]>) {
        debug_assert!(need(body, id).is_some_and(|need| need <= self.slack()), "the record must fit");
        let mut end = self.used as usize;
        if let Some(id) = id {
            end = self.put(end, &(id.len() as u32).to_le_bytes());
            end = self.put(end, id);
        }
        end = self.put(end, body);
        let mark = if id.is_some() { KEPT } else { 0 };
        self.used = end as u32;
        self.write_slot(self.count, self.used | mark);
        self.count += 1;
    }

    /// The record at `index`, whose start the caller knows from the record before.
    pub(super) fn read(&self, index: u32, start: u32) -> Option<Found<'_>> {
        let slot = self.slot(index)?;
        let end = slot & !KEPT;
        let bytes = self.page.get(start as usize..end as usize)?;
        if slot & KEPT == 0 {
            return Some(Found { id: None, body: bytes, end });
        }
        let (len, rest) = bytes.split_first_chunk::<ID_LEN>()?;
        let (id, body) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        Some(Found { id: Some(id), body, end })
    }

    /// Index and start of the record at `seq`, for [`read`](Self::read). `None` outside the page.
    pub(super) fn locate(&self, seq: u64) -> Option<(u32, u32)> {
        let index = u32::try_from(seq.checked_sub(self.first)?).ok()?;
        Some((index, self.start(index)?))
    }

    /// The newest record at or after `from` that carries `id`.
    pub(super) fn find_kept(&self, id: &[u8], from: u64) -> Option<u64> {
        let oldest = u32::try_from(from.saturating_sub(self.first)).ok()?;
        let index = (oldest..self.count).rev().find(|&index| {
            let found = self.start(index).and_then(|start| self.read(index, start));
            found.is_some_and(|found| found.id == Some(id))
        })?;
        Some(self.first + u64::from(index))
    }

    /// The same records from seq `from` on, in a page that is exactly full.
    pub(super) fn trimmed(&self, from: u64) -> Self {
        let mut exact = Self::new(self.first, 0);
        let Some((skip, start)) = self.locate(from.max(self.first)) else {
            return exact;
        };
        let live = self.page.get(start as usize..self.used as usize).unwrap_or_default();
        let kept = self.count - skip;
        exact = Self::new(self.first + u64::from(skip), live.len() + kept as usize * SLOT);
        exact.used = exact.put(0, live) as u32;
        exact.count = kept;
        for index in 0..kept {
            // Ends move down by what was cut off; the marks stay as they are.
            exact.write_slot(index, self.slot(skip + index).unwrap_or_default() - start);
        }
        exact
    }

    /// Forgets the records from seq `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        if let Some((index, start)) = self.locate(from) {
            (self.count, self.used) = (index, start);
        }
    }

    /// Where the record at `index` starts. `None` if there is none.
    fn start(&self, index: u32) -> Option<u32> {
        match index {
            _ if index >= self.count => None,
            0 => Some(0),
            _ => self.slot(index - 1).map(|slot| slot & !KEPT),
        }
    }

    /// The slot of a record that exists.
    fn slot(&self, index: u32) -> Option<u32> {
        if index >= self.count {
            return None;
        }
        let (head, _) = self.page.split_at_checked(self.page.len() - index as usize * SLOT)?;
        head.last_chunk::<SLOT>().map(|slot| u32::from_le_bytes(*slot))
    }

    fn write_slot(&mut self, index: u32, slot: u32) {
        let at = self.page.len() - (index as usize + 1) * SLOT;
        self.put(at, &slot.to_le_bytes());
    }

    /// Copies `bytes` to `at` and says where they end.
    fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        let end = at + bytes.len();
        match self.page.get_mut(at..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => debug_assert!(false, "the bytes must fit"),
        }
        end
    }
}

/// Reads the records of a row of pages one after the other, without a lookup per record.
pub(super) struct Walk<'a> {
    page: Option<&'a Chunk>,
    rest: std::collections::vec_deque::Iter<'a, Chunk>,
    index: u32,
    start: u32,
}

impl<'a> Walk<'a> {
    /// Starts at `seq`, which `pages` hold from their first page on, or at their end.
    pub(super) fn new(mut pages: std::collections::vec_deque::Iter<'a, Chunk>, seq: u64) -> Self {
        let page = pages.next();
        let (index, start) = page.and_then(|page| page.locate(seq)).unwrap_or_default();
        Self { page, rest: pages, index, start }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let page = self.page?;
            if let Some(found) = page.read(self.index, self.start) {
                let seq = page.first + u64::from(self.index);
                self.index += 1;
                self.start = found.end;
                return Some(Entry { seq, id: found.id, body: found.body });
            }
            *self = Self { page: self.rest.next(), rest: self.rest.clone(), index: 0, start: 0 };
        }
    }
}
