//! Which events of a session belong to which generation of its writer, and what that means for a client that comes
//! back.
//!
//! Seqs stay dense over all epochs. A new owner goes on where the log ends, which may be before the last event that
//! clients saw: what its predecessor showed and never wrote is taken back. Whether such a client can simply go on
//! depends on how the new owner went on, its [`Splice`].
//!
//! Nearly every session has one epoch for all of its life; then nothing is allocated. Not here: the log and its length,
//! how an epoch is won, how a client is told.

#[cfg(test)]
mod tests;

use crate::ring::{Gap, GapReason};

/// How an epoch continues what was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Splice {
    /// Not known yet: its owner has written nothing.
    Open,
    /// The upstream says the same events again under the same seqs. Also that of a session's first epoch, which takes
    /// nothing back.
    Repeats,
    /// Another continuation: what was seen of the epochs before from here on is void.
    Differs,
    /// Only the terminal error follows.
    Ends,
}

impl Splice {
    const ALL: [Self; 4] = [Self::Open, Self::Repeats, Self::Differs, Self::Ends];

    /// The stored form: `open`, `repeats`, `differs` or `ends`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Repeats => "repeats",
            Self::Differs => "differs",
            Self::Ends => "ends",
        }
    }

    /// Reads the stored form.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|splice| splice.as_str() == text)
    }
}

/// Where a client that comes back goes on. `at` and the like are seqs; the log may not have got there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It wants this seq next.
    At(u64),
    /// The same, but it has seen events that are to come again, or may: it waits until the log gets to this seq, and
    /// asks anew whenever an epoch is settled or begins meanwhile.
    Ahead(u64),
    /// It has seen events that are void.
    Void {
        /// Those events; the reason is [`GapReason::Epoch`].
        gap: Gap,
        /// What it gets next.
        at: u64,
    },
    /// It names an epoch that this session never had.
    Unknown,
}

/// One generation of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Generation {
    epoch: u32,
    /// Seq of its first event.
    first: u64,
    splice: Splice,
}

/// All generations of one session's writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Oldest first. Their events end where a later one begins, also if that is before their own first.
    earlier: Box<[Generation]>,
    current: Generation,
}

impl Epochs {
    /// A session that `epoch` has written from its first event on.
    #[must_use]
    pub fn new(epoch: u32) -> Self {
        Self { earlier: Box::default(), current: Generation { epoch, first: 1, splice: Splice::Repeats } }
    }

    /// The epoch that writes now.
    #[must_use]
    pub const fn current(&self) -> u32 {
        self.current.epoch
    }

    /// How the current epoch goes on.
    #[must_use]
    pub const fn splice(&self) -> Splice {
        self.current.splice
    }

    /// A later owner takes over: the events from `first` on are its own (0 is read as 1), whoever wrote there before.
    /// `false`, and nothing changes, unless `epoch` is above the [current](Self::current) one.
    ///
    /// If the owner before it wrote something and never said how that goes on, it is taken to have differed: a gap too
    /// many is honest, a wrong text is not.
    pub fn begin(&mut self, epoch: u32, first: u64) -> bool {
        if epoch <= self.current.epoch {
            return false;
        }
        let first = first.max(1);
        if self.current.splice == Splice::Open && first > self.current.first {
            self.current.splice = Splice::Differs;
        }
        self.earlier = self.generations().copied().collect();
        self.current = Generation { epoch, first, splice: Splice::Open };
        true
    }

    /// Says how the current epoch goes on. What was said once stays.
    pub fn settle(&mut self, splice: Splice) {
        if self.current.splice == Splice::Open {
            self.current.splice = splice;
        }
    }

    /// The epoch under whose name the event `seq` stands in the log, now or once it is written.
    #[must_use]
    pub fn of(&self, seq: u64) -> u32 {
        let latest = self.generations().rfind(|generation| generation.first <= seq);
        latest.or_else(|| self.generations().next()).map_or(self.current.epoch, |generation| generation.epoch)
    }

    /// Every epoch with the seq of its first event and its splice, oldest first. The same story told to
    /// [`new`](Self::new), [`begin`](Self::begin) and [`settle`](Self::settle) again makes an equal value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, u64, Splice)> + '_ {
        self.generations().map(|generation| (generation.epoch, generation.first, generation.splice))
    }

    /// Where a client goes on whose last event was `seen_seq`, under the name `seen_epoch`; 0 is "nothing seen". Does
    /// not look at what the log has.
    #[must_use]
    pub fn stand(&self, seen_epoch: u32, seen_seq: u64) -> Stand {
        let mut later = self.generations().skip_while(|generation| generation.epoch != seen_epoch);
        let Some(own) = later.next() else { return Stand::Unknown };
        let mut at = seen_seq.saturating_add(1);
        if own.splice == Splice::Ends && later.clone().any(|next| next.first <= own.first) {
            // Its own error is all that it saw from there on, and it was not the end.
            at = at.min(own.first);
        }
        let (mut stand, seen_seq) = (Stand::At(at), at - 1);
        while let Some(&Generation { first: border, splice, .. }) = later.next() {
            let beyond = at > border;
            match splice {
                Splice::Open | Splice::Repeats if beyond && matches!(stand, Stand::At(_)) => stand = Stand::Ahead(at),
                Splice::Differs if beyond => {
                    let gap = Gap { from: border, to: seen_seq, reason: GapReason::Epoch };
                    (stand, at) = (Stand::Void { gap, at: border }, border);
                }
                // An error that somebody wrote over did not end anything.
                Splice::Ends if at >= border && later.clone().all(|next| next.first > border) => {
                    (stand, at) = (Stand::At(border), border);
                }
                _ => {}
            }
        }
        stand
    }

    fn generations(&self) -> impl DoubleEndedIterator<Item = &Generation> + Clone {
        self.earlier.iter().chain([&self.current])
    }
}
