//! What happened to one session, stage by stage, for operators: the beginning and the latest of it, and when each stage
//! was first reached.
//!
//! One entry per stage, never one per event, and a bounded number of them. No event, header or address is in it. What
//! happened at another replica is not known here.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamkeeper_session::{Code, Dial, GapReason};
use tokio::time::Instant;

use crate::config::Upstream;

/// How much of the beginning is kept, whatever comes later.
const FIRST: usize = 8;
/// How much is kept beside it: the latest.
const LAST: usize = 24;

/// Something that happened to a session.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A request began it.
    Begun,
    /// An answer turned out to be an event stream.
    Adopted,
    /// A request went out.
    Try {
        /// To which upstream.
        upstream: Arc<Upstream>,
        /// To which of its endpoints, by the place in the configuration.
        endpoint: usize,
        /// For what.
        dial: Dial,
    },
    /// The upstream's response head came, with this status.
    Head(u16),
    /// The first events came.
    FirstEvent,
    /// From here on clients have their head.
    Committed,
    /// A try failed.
    TryFailed(Code),
    /// A client attached here; so many are.
    Came(usize),
    /// A client left here; so many are attached.
    Left(usize),
    /// A client came back, or joined: `replayed`, `joined`, `seen_whole`, `gap`.
    Resumed(&'static str),
    /// A client was told that events are missing.
    Gap(GapReason),
    /// An operator stopped it.
    Stopped,
    /// Another process reads the upstream from here on.
    HandedOver,
    /// This process reads the upstream from here on, because the owner is gone.
    TakenOver,
    /// It ended: whole, or with this code.
    Ended(Option<Code>),
}

/// When a session first reached each stage: since this process knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// The upstream's response head was there.
    pub head: Option<Duration>,
    /// The first event was there.
    pub first_event: Option<Duration>,
    /// Clients could have their head.
    pub committed: Option<Duration>,
    /// It was over.
    pub ended: Option<Duration>,
}

/// The time line of one session.
#[derive(Debug)]
pub struct Timeline {
    /// Entries count from here.
    since: Instant,
    noted: Mutex<Noted>,
}

/// What is kept, as small as it can be: there is one for every session.
#[derive(Debug, Default)]
struct Noted {
    entries: Vec<(At, Mark)>,
    dropped: u64,
    head: Option<At>,
    first_event: Option<At>,
    committed: Option<At>,
    ended: Option<At>,
    tries: u32,
    asked: Option<(Arc<Upstream>, u32)>,
    last_failure: Option<Code>,
    counts: Counts,
}

/// Milliseconds since the beginning, and one more.
#[derive(Debug, Clone, Copy)]
struct At(NonZeroU32);

impl At {
    fn new(time: Duration) -> Self {
        let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(millis))
    }

    fn time(self) -> Duration {
        Duration::from_millis(u64::from(self.0.get() - 1))
    }
}

/// What a time line tells.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What happened, and when: the first entries, then the latest.
    pub entries: Vec<(Duration, Mark)>,
    /// So many entries are missing behind the first [`FIRST`](Self::FIRST).
    pub dropped: u64,
    /// When each stage was reached.
    pub stages: Stages,
    /// Requests sent to upstreams by this process.
    pub tries: u32,
    /// The upstream and the endpoint that was asked last.
    pub asked: Option<(Arc<Upstream>, usize)>,
    /// Why the last try that failed did.
    pub last_failure: Option<Code>,
    /// How often something happened.
    pub counts: Counts,
}

/// What is counted beside the entries, at this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients attached.
    pub readers: u64,
    /// Clients came back, or joined.
    pub resumes: u64,
    /// Events were sent again to such clients.
    pub replayed: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { since: Instant::now(), noted: Mutex::default() }
    }
}

impl Timeline {
    /// Notes that something happened now.
    pub fn mark(&self, mark: Mark) {
        let now = At::new(self.since.elapsed());
        self.lock().mark(now, mark);
    }

    /// Events were sent again to a client that came back.
    pub fn replayed(&self, events: u64) {
        self.lock().counts.replayed += events;
    }

    /// From when on entries count.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Everything it tells.
    pub fn tell(&self) -> Told {
        let noted = self.lock();
        let entries = noted.entries.iter().map(|(at, mark)| (at.time(), mark.clone())).collect();
        Told { entries, ..noted.summary() }
    }

    /// The same without the entries.
    pub fn summary(&self) -> Told {
        self.lock().summary()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// How many entries of the beginning are kept.
    pub const FIRST: usize = FIRST;
}

impl Noted {
    fn mark(&mut self, now: At, mark: Mark) {
        match &mark {
            Mark::Try { upstream, endpoint, .. } => {
                self.tries += 1;
                self.asked = Some((Arc::clone(upstream), u32::try_from(*endpoint).unwrap_or(u32::MAX)));
            }
            Mark::Head(_) => _ = self.head.get_or_insert(now),
            Mark::FirstEvent => _ = self.first_event.get_or_insert(now),
            Mark::Committed => _ = self.committed.get_or_insert(now),
            Mark::Ended(_) => _ = self.ended.get_or_insert(now),
            Mark::TryFailed(code) => self.last_failure = Some(*code),
            Mark::Came(_) => self.counts.readers += 1,
            Mark::Resumed(_) => self.counts.resumes += 1,
            _ => {}
        }
        if self.entries.len() >= FIRST + LAST {
            self.entries.remove(FIRST);
            self.dropped += 1;
        }
        // Few come, and they stay as long as the session.
        self.entries.reserve_exact(1);
        self.entries.push((now, mark));
    }

    fn summary(&self) -> Told {
        let time = |at: Option<At>| at.map(At::time);
        Told {
            entries: Vec::new(),
            dropped: self.dropped,
            stages: Stages {
                head: time(self.head),
                first_event: time(self.first_event),
                committed: time(self.committed),
                ended: time(self.ended),
            },
            tries: self.tries,
            asked: self.asked.as_ref().map(|(upstream, endpoint)| (Arc::clone(upstream), *endpoint as usize)),
            last_failure: self.last_failure,
            counts: self.counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_latest_are_kept_and_what_is_missing_is_counted() {
        let mut noted = Noted::default();
        for n in 0..100 {
            noted.mark(At::new(Duration::from_secs(n)), Mark::Came(n as usize));
        }
        let seconds: Vec<_> = noted.entries.iter().map(|(at, _)| at.time().as_secs()).collect();
        let expected: Vec<_> = (0..8).chain(76..100).collect();
        assert_eq!((seconds, noted.dropped), (expected, 68));
    }

    #[test]
    fn a_stage_counts_from_the_first_time_it_was_reached() {
        let mut noted = Noted::default();
        let marks = [Mark::Begun, Mark::Head(500), Mark::TryFailed(Code::UpstreamUnavailable), Mark::Head(200)];
        for (second, mark) in (0..).zip(marks.into_iter().chain([Mark::FirstEvent, Mark::Committed])) {
            noted.mark(At::new(Duration::from_secs(second)), mark);
        }
        let seconds = |at| Some(Duration::from_secs(at));
        let expected = Stages { head: seconds(1), first_event: seconds(4), committed: seconds(5), ended: None };
        let told = noted.summary();
        assert_eq!((told.stages, told.last_failure), (expected, Some(Code::UpstreamUnavailable)));
    }
}
