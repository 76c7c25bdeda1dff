//! The body of an event stream to one client: replay, then the live tail, then the end. The first client and one that
//! comes back read the same way.
//!
//! Everything that is ready goes out in one piece per wake, written where the caller wants it: into the buffer of a
//! socket (`server/stream`), or into a frame of hyper's. The injection rules that hold for every dialect live here:
//! an id and a retry hint only inside a block that has data, the hint once per connection and again with a failure;
//! a keep-alive of one line; a gap signal without an id; nothing after the end; the hint of a process that goes away in
//! the next block.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use streamkeeper_session::{Code, End, ErrorEvent, EventIdPrefix, Fault, Follower, Gap, Record, Splice, Stand};
use streamkeeper_sse::{KEEP_ALIVE, write_id, write_retry};
use tokio::time::{Instant, Sleep};

use crate::clock::Clock;
use crate::dialect::{KeepAlive, Moment, Tolerance};
use crate::store::{Attached, LiveSession, Log, Mark, Numbering};
use crate::telemetry::metrics;
use crate::upstream::BoxError;

/// From the last piece to the break of the connection.
const LEAVE: Duration = Duration::from_millis(50);
/// What one piece holds, give or take an event: all that one read of an upstream can bring, with ids beside it.
pub(crate) const PIECE: usize = 128 * 1024;

/// How a client's stream is written.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// The retry hint in the first block, in milliseconds.
    pub(super) hint: Option<u64>,
    /// The retry hint in a block that reports a failure, in milliseconds.
    pub(super) ill_hint: Option<u64>,
    /// Silence → keep-alive.
    pub(super) heartbeat: Option<Duration>,
    /// The process's.
    pub(super) clock: Clock,
    /// When to come back, as errors say it.
    pub(super) wait: Duration,
    /// Errors may carry inner causes.
    pub(super) development: bool,
    /// How it leaves when this process goes away; `None`: it stays until its stream ends.
    pub(super) leave: Option<Box<Leave>>,
}

/// How a client that comes back by itself is sent to another replica.
#[derive(Debug, Clone)]
pub(super) struct Leave {
    /// Turns true when this process begins to go away. The session's log wakes the body then.
    pub(super) draining: Arc<AtomicBool>,
    /// From then on to the close.
    pub(super) after: Duration,
    /// The retry hint in the next block, in milliseconds.
    pub(super) hint: Option<u64>,
    /// The body ends; else the connection is broken off.
    pub(super) clean: bool,
}

/// What became of asking for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It was written; there may be more.
    Some,
    /// It was written, and is all there is: who waits for news will be woken.
    All,
    /// What was written now, if anything, is the last.
    Last,
    /// As [`Last`](Self::Last); the connection is to be broken off, because the client would not notice else.
    LastThenBreak,
}

/// What a look at the session brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collected {
    Nothing,
    Some,
    /// And there will be no more before the session's next news.
    All,
}

/// The stream of one client.
pub(crate) struct EventBody {
    follower: Follower<Log>,
    writer: Writer,
    heartbeat: Option<Heartbeat>,
    /// Before a break: what was said needs time to leave, because a server drops what it has not yet written.
    leaving: Option<Pin<Box<Sleep>>>,
    /// When the client is sent to another replica.
    parting: Option<Pin<Box<Sleep>>>,
}

/// Turns records into the client's bytes.
struct Writer {
    /// The seq wanted next.
    cursor: u64,
    /// Events below it were there before the client came: they are replayed.
    replay_until: u64,
    replayed: u64,
    prefix: EventIdPrefix,
    /// The epoch of the last event written, which is the prefix's.
    epoch: u32,
    tolerance: Tolerance,
    manner: Manner,
    gap: Option<Box<Gap>>,
    attached: Attached,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// All is said; the body ends.
    Ended,
    /// All is said; the connection is broken off, because this dialect's clients would not notice else.
    Aborting,
}

struct Heartbeat {
    line: &'static [u8],
    timer: Pin<Box<Sleep>>,
}

impl EventBody {
    /// From `cursor` (a seq) on; `gap` is signalled first; what is there already counts as replay if `resumed`.
    pub(super) fn new(attached: Attached, cursor: u64, gap: Option<Gap>, resumed: bool, manner: Manner) -> Self {
        let session = Arc::clone(attached.session());
        let tolerance = session.dialect.tolerance();
        let line = match tolerance.keep_alive {
            KeepAlive::Comment => KEEP_ALIVE,
            KeepAlive::BlankLine => b"\n",
        };
        let alone = session.control.peek(|control| control.readers <= 1);
        let (next, epoch) = session.log.peek(|log| {
            if alone {
                log.pace.alone(&log.ring, cursor);
            }
            (log.ring.next_seq(), log.epochs.of(cursor.saturating_sub(1).max(1)))
        });
        let replay_until = if resumed { next } else { 0 };
        let heartbeat = manner.heartbeat.map(|every| Heartbeat { line, timer: Box::pin(tokio::time::sleep(every)) });
        let writer = Writer {
            cursor,
            replay_until,
            replayed: 0,
            prefix: EventIdPrefix::new(session.id, epoch),
            epoch,
            tolerance,
            manner,
            gap: gap.map(Box::new),
            attached,
            state: State::Open,
        };
        Self { follower: session.log.follow(), writer, heartbeat, leaving: None, parting: None }
    }

    /// All that `session` says, without anything else.
    #[cfg(test)]
    pub(super) fn from_the_start(session: &Arc<LiveSession>) -> Self {
        let attached = session.attach(usize::MAX).unwrap();
        let (hint, ill_hint, heartbeat, wait, development, leave) = Default::default();
        let clock = Clock::start();
        Self::new(attached, 1, None, false, Manner { hint, ill_hint, heartbeat, clock, wait, development, leave })
    }

    /// Whether it is time to send the client to another replica.
    fn parts(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(leave) = self.writer.manner.leave.as_ref().filter(|leave| leave.draining.load(Ordering::Acquire))
        else {
            return false;
        };
        let parting = self.parting.get_or_insert_with(|| {
            self.writer.manner.hint = leave.hint;
            Box::pin(tokio::time::sleep(leave.after))
        });
        parting.as_mut().poll(cx).is_ready()
    }

    /// Appends everything that is ready to `out`. If nothing is, or with [`Piece::All`], `news` is woken by those of the
    /// session, and if nothing is the task of `cx` by timers.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, news: &Waker, out: &mut Vec<u8>) -> Poll<Piece> {
        if self.writer.state == State::Open {
            match self.collect(news, out) {
                Collected::Some => {}
                Collected::All => return Poll::Ready(Piece::All),
                Collected::Nothing if self.parts(cx) => {
                    let clean = self.writer.manner.leave.as_ref().is_some_and(|leave| leave.clean);
                    self.writer.end(!clean);
                }
                Collected::Nothing => {
                    let Some(heartbeat) = &mut self.heartbeat else { return Poll::Pending };
                    return heartbeat.poll(cx, &self.writer).map(|line| {
                        out.extend_from_slice(line);
                        Piece::Some
                    });
                }
            }
        }
        Poll::Ready(match self.writer.state {
            State::Open => Piece::Some,
            State::Ended => Piece::Last,
            State::Aborting => Piece::LastThenBreak,
        })
    }

    /// Appends what the session has for this client.
    fn collect(&mut self, news: &Waker, out: &mut Vec<u8>) -> Collected {
        let writer = &mut self.writer;
        let (collected, awaited) = self.follower.look(&mut Context::from_waker(news), |log| {
            let collected = match writer.collect(log, out) {
                None => Collected::Nothing,
                Some(()) if writer.has_all_of(log) => Collected::All,
                Some(()) => Collected::Some,
            };
            let awaited = log.pace.read(&log.ring, writer.cursor);
            ((collected, awaited), collected != Collected::Some)
        });
        if awaited {
            self.writer.session().control.update(|_| ());
        }
        collected
    }

    /// For hyper, after the last piece: the end, or the break that clients take notice of.
    fn close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.writer.state != State::Aborting {
            return Poll::Ready(None);
        }
        let leaving = self.leaving.get_or_insert_with(|| Box::pin(tokio::time::sleep(LEAVE)));
        leaving.as_mut().poll(cx).map(|()| Some(Err("the stream failed; the client was told".into())))
    }
}

impl Writer {
    fn session(&self) -> &LiveSession {
        self.attached.session()
    }

    /// Whether nothing more can be said to this client before the log changes.
    fn has_all_of(&self, log: &Log) -> bool {
        let leaves = || self.manner.leave.as_ref().is_some_and(|leave| leave.draining.load(Ordering::Acquire));
        self.state == State::Open
            && self.cursor >= log.ring.next_seq()
            && log.ring.end().is_none()
            && log.epochs.current() == self.epoch
            && !leaves()
    }

    /// Appends everything that is ready; `None` if nothing is.
    fn collect(&mut self, log: &Log, out: &mut Vec<u8>) -> Option<()> {
        let (start, replayed) = (out.len(), self.replayed);
        if let Some(gap) = self.gap.take() {
            self.signal(&gap, out);
        }
        if let Some(code) = log.parted {
            self.tell(code, out);
            return Some(());
        }
        while self.state == State::Open && out.len() - start < PIECE {
            if log.epochs.current() != self.epoch && !(self.follow(log, out) && self.state == State::Open) {
                break;
            }
            match log.ring.iter_from(self.cursor) {
                Ok(records) => {
                    self.write(records, log, start + PIECE, out);
                    break;
                }
                Err(gap) => {
                    // Overtaken: the ring evicted what this reader was too slow to take.
                    self.cursor = log.ring.first_seq();
                    self.signal(&gap, out);
                }
            }
        }
        if self.replayed > replayed {
            self.session().timeline.replayed(self.replayed - replayed);
        }
        (out.len() > start || self.state != State::Open).then_some(())
    }

    /// Later owners have written: finds out where this reader goes on, after what it has seen of an earlier one.
    /// `false`: that has to wait.
    fn follow(&mut self, log: &Log, out: &mut Vec<u8>) -> bool {
        match log.epochs.stand(self.epoch, self.cursor - 1) {
            Stand::Void { gap, at } => {
                self.cursor = at;
                self.signal(&gap, out);
            }
            Stand::At(at) => self.cursor = at,
            Stand::Ahead(_) if log.epochs.splice() == Splice::Open => return false,
            Stand::Ahead(_) | Stand::Unknown => {}
        }
        if self.cursor > log.ring.next_seq() {
            return false;
        }
        self.epoch = log.epochs.of(self.cursor);
        self.prefix = EventIdPrefix::new(self.session().id, self.epoch);
        true
    }

    /// Appends records until there are none, or `out` is as long as `full`.
    fn write<'a>(&mut self, records: impl Iterator<Item = Record<'a, End>>, log: &Log, full: usize, out: &mut Vec<u8>) {
        let failed = log.ring.end().is_some_and(|end| end.fault().is_some());
        for record in records {
            if out.len() >= full || self.cursor >= log.shown {
                return;
            }
            let entry = match record {
                Record::Event(entry) => entry,
                Record::Sealed(_) => return self.end(failed && self.tolerance.abort_after_error),
            };
            if log.epochs.current() != self.epoch {
                self.epoch = log.epochs.of(entry.seq);
                self.prefix = EventIdPrefix::new(self.session().id, self.epoch);
            }
            let reports_failure = failed && entry.seq + 1 == log.ring.next_seq();
            let hint = if reports_failure { self.manner.ill_hint } else { self.manner.hint.take() };
            if let Some(ms) = hint {
                write_retry(ms, out);
            }
            out.extend_from_slice(entry.body);
            // After the data: fetch-event-source notes an id as soon as its line is there, and must not note one
            // whose event is then cut.
            match log.numbering {
                Numbering::Issued => {
                    out.extend_from_slice(b"id: ");
                    self.prefix.write_to(entry.seq, out);
                    out.push(b'\n');
                }
                Numbering::Kept => {
                    if let Some(id) = entry.id {
                        write_id(id, out);
                    }
                }
                Numbering::Open | Numbering::Off => {}
            }
            out.push(b'\n');
            self.cursor = entry.seq + 1;
            self.replayed += u64::from(entry.seq < self.replay_until);
        }
    }

    fn signal(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        metrics::gap(gap);
        self.session().timeline.mark(Mark::Gap(gap.reason));
        match self.session().dialect.gap_event(gap) {
            Some(event) => event.write_block(out),
            None => self.tell(Code::SessionGap, out),
        }
    }

    /// Tells this client alone, as the last thing it hears here.
    fn tell(&mut self, code: Code, out: &mut Vec<u8>) {
        if let Some(ms) = self.manner.ill_hint {
            write_retry(ms, out);
        }
        let fault = Fault::new(code);
        let error = ErrorEvent::new(&fault, &self.session().request_id, self.manner.wait, self.manner.development);
        let moment = Moment { note: self.session().note.as_deref(), last: None };
        for event in self.session().dialect.error_events(&error, &moment) {
            event.write_block(out);
        }
        self.end(self.tolerance.abort_after_error);
    }

    fn end(&mut self, abort: bool) {
        self.state = if abort { State::Aborting } else { State::Ended };
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        metrics::replayed(self.replayed);
    }
}

impl Heartbeat {
    /// Events do not touch the timer: when it rings it is found out when the last one came.
    fn poll(&mut self, cx: &mut Context<'_>, writer: &Writer) -> Poll<&'static [u8]> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let Manner { clock, heartbeat: Some(every), .. } = writer.manner else { return Poll::Pending };
            let last_event = writer.session().log.peek(|log| log.last_event);
            let heard = last_event.map(|last| clock.instant(last) + every);
            let due = heard.filter(|due| *due > self.timer.deadline());
            self.timer.as_mut().reset(due.unwrap_or_else(|| Instant::now() + every));
            if due.is_none() {
                return Poll::Ready(self.line);
            }
        }
        Poll::Pending
    }
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.writer.state != State::Open {
            return this.close(cx);
        }
        let mut piece = Vec::new();
        match this.poll_write(cx, &cx.waker().clone(), &mut piece) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) if piece.is_empty() => this.close(cx),
            Poll::Ready(_) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
        }
    }

    /// Told with the last piece, so that the server writes both at once.
    fn is_end_stream(&self) -> bool {
        self.writer.state == State::Ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

impl std::fmt::Debug for EventBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventBody")
            .field("session", &self.writer.session().id)
            .field("cursor", &self.writer.cursor)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of clients listen at once; what each costs is decided here.
    #[test]
    fn a_body_is_small() {
        assert!(size_of::<EventBody>() <= 256, "{}", size_of::<EventBody>());
    }
}
