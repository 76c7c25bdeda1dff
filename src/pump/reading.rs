//! From the bytes of one upstream stream to events in the session's log.
//!
//! Reads whatever is ready, up to what one read takes, and appends it under one lock: readers are woken once, whatever
//! piled up. Half an event is never appended. A stream that flows allocates nothing here, and one that is silent holds
//! no buffer, unless clients have to catch up with what was read of it. Not here: what to do about failures
//! ([`super::Pump`] asks the machine).

use std::cell::Cell;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use streamkeeper_session::{Code, Fault};
use streamkeeper_sse::{DecodeError, Decoder, Finish, Item, Items, Limits, write_body, write_comment, write_retry};

use super::inflate::{Inflate, inflated};
use super::overlap::{Judged, Overlap};
use crate::clock::Clock;
use crate::config::Ids;
use crate::dialect::{CleanEnd, Meaning, Reader, Tolerance};
use crate::store::{LiveSession, Log, Numbering};
use crate::telemetry::metrics;
use crate::upstream::direct::http1::Flow;
use crate::upstream::{Body, chain};

/// What is read in one go. Then those who read the session have a turn: a busy upstream must not fill the ring over the
/// heads of clients that would keep up.
const WAKE_BYTES: usize = 64 * 1024;
/// Preamble events held back at most; more count as content.
const PREAMBLE_EVENTS: usize = 16;
/// Comment and retry lines kept between two events; keep-alives of a silent upstream are not worth more.
const COMMENT_BYTES: usize = 1024;
/// A thread's buffer for records is given back if it grew beyond this.
const RECORD_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where records are put together: one buffer for all streams of a thread.
    static RECORD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What one wake brought.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// When, on the process's clock.
    pub(super) at: Duration,
    /// Events read, the held-back ones included.
    pub(super) events: u64,
    /// Bytes read, after decompression.
    pub(super) bytes: usize,
    /// Some event is part of the answer.
    pub(super) content: bool,
    /// Clients are so far behind that the next piece may overtake them.
    behind: bool,
    /// The stream is over.
    pub(super) over: Option<Result<(), Fault>>,
}

/// One upstream stream.
pub(super) struct Reading {
    body: Body,
    /// Boxed: hardly any stream needs one.
    inflate: Option<Box<Inflate>>,
    decoder: Decoder,
    lines: Lines,
    /// Bytes since somebody else had a turn.
    taken: usize,
    /// Clients may have to catch up before more is read.
    behind: bool,
    /// What was read and waits for them.
    rest: Option<Box<Rest>>,
}

/// Bytes that were read and not looked at, and how the stream ended after them.
struct Rest {
    bytes: Vec<u8>,
    ended: Option<Result<(), Fault>>,
}

/// What turns events into records of the log.
struct Lines {
    reader: Box<dyn Reader>,
    tolerance: Tolerance,
    ids: Ids,
    /// Comment and retry lines that wait for their event; while there are bytes to read, the record they become part of.
    record: Vec<u8>,
    preamble: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The last id the upstream gave.
    last_kept: Option<Vec<u8>>,
    /// What a resumed stream may say again.
    overlap: Overlap,
}

impl Reading {
    pub(super) fn new(
        body: Body,
        inflate: Option<Box<Inflate>>,
        limits: Limits,
        reader: Box<dyn Reader>,
        tolerance: Tolerance,
        ids: Ids,
        overlap: Overlap,
    ) -> Self {
        let lines =
            Lines { reader, tolerance, ids, record: Vec::new(), preamble: Vec::new(), last_kept: None, overlap };
        Self { body, inflate, decoder: Decoder::new(limits), lines, taken: 0, behind: false, rest: None }
    }

    /// The last id the upstream gave on this stream.
    pub(super) fn last_kept(&self) -> Option<&[u8]> {
        self.lines.last_kept.as_deref()
    }

    /// What is left of the body, once the answer is whole.
    pub(super) fn into_body(self) -> Body {
        self.body
    }

    /// Whether more is read only once clients have caught up, if they have not already.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Waits for bytes and appends what they hold, under one lock as a rule; for clients that are far behind, too: then
    /// the session's control wakes.
    pub(super) fn poll_batch(&mut self, cx: &mut Context<'_>, session: &LiveSession, clock: Clock) -> Poll<Batch> {
        if self.taken >= WAKE_BYTES {
            self.taken = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.behind && session.awaits_readers() {
            return Poll::Pending;
        }
        let mut batch = Batch::default();
        let ended = match self.rest.take() {
            Some(rest) => {
                let Rest { bytes, ended } = *rest;
                batch.at = clock.now();
                let left = self.lines.take_in(self.decoder.feed(&bytes), session, &mut batch);
                self.end_after(last(&bytes, left).to_vec(), ended)
            }
            None => ready!(self.poll_body(cx, session, clock, &mut batch)),
        };
        self.behind = batch.behind;
        if batch.over.is_none() {
            let whole = self.lines.reader.is_whole();
            batch.over = ended.map(|end| match end {
                Err(_) if whole => Ok(()),
                end => end.and_then(|()| self.clean_end()),
            });
        }
        Poll::Ready(batch)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        session: &LiveSession,
        clock: Clock,
        batch: &mut Batch,
    ) -> Poll<Option<Result<(), Fault>>> {
        let Self { body, inflate, decoder, lines, .. } = self;
        let compressed = inflate.is_some();
        let (mut unread, mut spoiled) = (Vec::new(), None);
        let flow = body.poll_data(cx, &mut |data| {
            batch.at = clock.now();
            let given = inflated(inflate.as_deref_mut(), data, &mut |plain| {
                batch.bytes += plain.len();
                let mut left = lines.take_in(decoder.feed(plain), session, batch);
                // A few bytes may have been millions: those are not kept, and may overtake clients.
                while compressed && left > 0 {
                    left = lines.take_in(decoder.feed(last(plain, left)), session, batch);
                }
                unread.extend_from_slice(last(plain, left));
            });
            spoiled = given.err();
        });
        self.taken += batch.bytes;
        let ended = match (spoiled, flow) {
            (_, Poll::Pending) => {
                self.taken = 0;
                return Poll::Pending;
            }
            (Some(fault), _) => Some(Err(fault)),
            (None, Poll::Ready(Flow::More)) => None,
            (None, Poll::Ready(Flow::Over)) => Some(Ok(())),
            (None, Poll::Ready(Flow::Broken(error))) => {
                Some(Err(Fault::new(Code::UpstreamReset).cause(chain(&*error))))
            }
        };
        if batch.at.is_zero() {
            batch.at = clock.now();
        }
        Poll::Ready(self.end_after(unread, ended))
    }

    /// The end, if nothing is left `unread` before it; else both are kept.
    fn end_after(&mut self, unread: Vec<u8>, ended: Option<Result<(), Fault>>) -> Option<Result<(), Fault>> {
        if unread.is_empty() {
            return ended;
        }
        self.rest = Some(Box::new(Rest { bytes: unread, ended }));
        None
    }

    /// Half an event at the end is dropped, as WHATWG says; whether something is missing, the dialect knows.
    fn clean_end(&mut self) -> Result<(), Fault> {
        let partial = self.decoder.finish() == Finish::Partial;
        match self.lines.reader.clean_end() {
            CleanEnd::Complete => Ok(()),
            CleanEnd::Unmarked => {
                tracing::warn!(partial, "the answer is whole, but the upstream left out the terminator of its stream");
                Ok(())
            }
            CleanEnd::Truncated => Err(Code::UpstreamTruncated.into()),
        }
    }
}

impl Lines {
    /// Appends what `items` give, piece by piece, with a turn for clients after each. Returns how many bytes at the end
    /// have to wait for them.
    fn take_in(&mut self, mut items: Items<'_>, session: &LiveSession, batch: &mut Batch) -> usize {
        loop {
            let more = session.log.update(|log| {
                let more = self.decode(&mut items, log, batch);
                log.last_event = Some(batch.at);
                batch.behind = log.pace.is_far_behind(&log.ring);
                more
            });
            if !more {
                return 0;
            }
            if batch.behind && session.awaits_readers() {
                return items.stop();
            }
        }
    }

    /// Appends what `items` give, in the thread's buffer. `true`: there may be more, but whoever reads the log is to have
    /// a turn.
    fn decode(&mut self, items: &mut Items<'_>, log: &mut Log, batch: &mut Batch) -> bool {
        if batch.over.is_some() {
            return false;
        }
        let mut record = RECORD.take();
        record.extend_from_slice(&self.record);
        self.record = record;
        let more = self.read(items, log, batch);
        let mut record = std::mem::take(&mut self.record);
        self.record = record.as_slice().to_vec();
        record.clear();
        record.shrink_to(RECORD_BYTES);
        RECORD.set(record);
        more
    }

    fn read(&mut self, items: &mut Items<'_>, log: &mut Log, batch: &mut Batch) -> bool {
        // Only so much at once that nobody who keeps up is overtaken.
        let before = log.pace.unseen();
        while let Some(item) = items.next() {
            match item {
                Ok(Item::Event(event)) => {
                    batch.events += 1;
                    let meaning = self.reader.read(&event);
                    self.take(meaning, event.name, event.data, event.id, log, batch);
                }
                Ok(Item::Comment(text)) if self.tolerance.comments && self.record.len() < COMMENT_BYTES => {
                    write_comment(text, &mut self.record);
                }
                Ok(Item::Retry(ms)) if self.tolerance.retry && self.record.len() < COMMENT_BYTES => {
                    write_retry(ms, &mut self.record)
                }
                Ok(Item::Field { name, value }) => {
                    batch.over = self.reader.field(name, value).map(|fault| Err(*fault));
                }
                Ok(Item::Comment(_) | Item::Retry(_)) => {}
                Err(DecodeError::LineTooLong { .. } | DecodeError::EventTooLarge { .. }) => {
                    batch.over = Some(Err(Code::EventTooLarge.into()));
                }
            }
            if batch.over.is_some() {
                return false;
            }
            if log.pace.is_a_piece_more_than(before, &log.ring) {
                return true;
            }
        }
        false
    }

    fn take(
        &mut self,
        meaning: Meaning,
        name: &[u8],
        data: &[u8],
        id: Option<&[u8]>,
        log: &mut Log,
        batch: &mut Batch,
    ) {
        match meaning {
            Meaning::Skip => {}
            Meaning::Preamble if self.preamble.len() < PREAMBLE_EVENTS => {
                self.encode(name, data);
                self.preamble.push((self.record.as_slice().to_vec(), id.map(<[u8]>::to_vec)));
                self.record.clear();
            }
            Meaning::Content | Meaning::Preamble => {
                self.encode(name, data);
                self.append(id, false, log, batch);
            }
            Meaning::Filler => {
                let content = batch.content;
                self.encode(name, data);
                self.append(id, false, log, batch);
                batch.content = content;
            }
            Meaning::Replace(event) => {
                self.encode(event.name.as_bytes(), event.data.as_bytes());
                self.append(id, false, log, batch);
            }
            Meaning::Done => {
                self.encode(name, data);
                self.append(id, true, log, batch);
                batch.over.get_or_insert(Ok(()));
            }
            Meaning::Error(fault) => batch.over = Some(Err(*fault)),
        }
    }

    fn encode(&mut self, name: &[u8], data: &[u8]) {
        metrics::utf8_repairs(write_body(name, data, &mut self.record));
    }

    fn append(&mut self, id: Option<&[u8]>, last: bool, log: &mut Log, batch: &mut Batch) {
        let first_id = self.preamble.iter().find_map(|(_, id)| id.as_deref()).or(id);
        if log.numbering == Numbering::Open {
            log.numbering = numbering(self.ids, self.tolerance, first_id.is_some());
        }
        for (record, id) in std::mem::take(&mut self.preamble) {
            self.push(&record, id.as_deref(), false, log, batch);
        }
        let record = std::mem::take(&mut self.record);
        self.push(&record, id, last, log, batch);
        self.record = record;
        self.record.clear();
    }

    fn push(&mut self, record: &[u8], id: Option<&[u8]>, last: bool, log: &mut Log, batch: &mut Batch) {
        if batch.over.is_some() {
            return;
        }
        let kept = id.filter(|_| log.numbering == Numbering::Kept);
        match self.overlap.judge(&log.ring, kept, record, last) {
            Judged::New => {}
            Judged::Repeated => return,
            Judged::Contradicts => {
                let fault =
                    Fault::new(Code::UpstreamReset).cause("the upstream began anew where it should have resumed");
                batch.over = Some(Err(fault));
                return;
            }
        }
        if let Some(id) = kept {
            let last = self.last_kept.get_or_insert_default();
            last.clear();
            last.extend_from_slice(id);
        }
        batch.content = true;
        // A sealed log takes nothing more: the session was ended while these bytes were on their way.
        if log.ring.push(record, kept).is_ok() {
            log.pace.appended(record.len() + kept.map_or(0, <[u8]>::len));
        }
    }
}

/// The last `count` bytes.
fn last(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(count)..).unwrap_or_default()
}

/// Who numbers the events, seen from the first one.
pub(super) fn numbering(ids: Ids, tolerance: Tolerance, upstream_numbers: bool) -> Numbering {
    match ids {
        _ if !tolerance.ids => Numbering::Off,
        Ids::Off => Numbering::Off,
        Ids::Issue => Numbering::Issued,
        Ids::Keep => Numbering::Kept,
        Ids::Auto if upstream_numbers => Numbering::Kept,
        Ids::Auto => Numbering::Issued,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_stream_is_small() {
        assert!(size_of::<Body>() <= 144, "{}", size_of::<Body>());
        assert!(size_of::<Reading>() <= 400, "{}", size_of::<Reading>());
    }
}
