//! The oracle: what a session said, as a plain `Vec`, and a judge for what its readers were told.
//!
//! The judge knows nothing of rings. It holds a reader's side of the story, event by event, and
//! names the first thing that breaks a promise.

use std::fmt;

/// What a reader may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Event { seq: u64, id: Option<Vec<u8>>, body: Vec<u8> },
    Gap { from: u64, to: u64, reason: &'static str },
    Sealed(u32),
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Events were passed over and no gap named them.
    SilentGap { from: u64, to: u64 },
    /// An event that the reader had already.
    Repeated(u64),
    /// The event is not what the upstream said.
    WrongContent(u64),
    /// A gap that names other events than those missing.
    WrongGap { from: u64, to: u64, reason: &'static str },
    /// The end came twice, came early, or was followed by something.
    WrongEnd,
    /// The reader was left waiting although there was more.
    Starved { at: u64 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One record as the upstream said it.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) body: Vec<u8>,
    pub(crate) id: Option<Vec<u8>>,
}

impl Said {
    /// Said where nobody took it down.
    const NOTHING: Self = Self { body: Vec::new(), id: None };

    fn payload(&self) -> usize {
        self.body.len() + self.id.as_ref().map_or(0, Vec::len)
    }
}

/// Everything that was said, and which of it must still be there.
pub(crate) struct Oracle {
    pub(crate) said: Vec<Said>,
    /// Index of the oldest one that must still be there.
    pub(crate) kept_from: usize,
    pub(crate) end: Option<u32>,
    /// So many made room for others.
    pub(crate) evicted: u64,
    /// How often something was taken back.
    pub(crate) cuts: u64,
    /// Index up to which all is lost.
    lost_to: Option<usize>,
    max_events: usize,
    max_bytes: usize,
}

impl Oracle {
    /// `before`: so many were said before anybody took them down.
    pub(crate) fn new(max_events: usize, max_bytes: usize, before: usize) -> Self {
        Self {
            said: vec![Said::NOTHING; before],
            kept_from: before,
            end: None,
            evicted: 0,
            cuts: 0,
            lost_to: None,
            max_events: max_events.max(1),
            max_bytes,
        }
    }

    pub(crate) fn say(&mut self, said: Said) {
        self.said.push(said);
        while self.is_over() {
            self.evict(1);
        }
    }

    fn is_over(&self) -> bool {
        self.kept().len() > 1 && (self.kept().len() > self.max_events || self.kept_bytes() > self.max_bytes)
    }

    pub(crate) fn evict(&mut self, count: usize) {
        self.kept_from += count;
        self.evicted += count as u64;
    }

    /// Only the first `count` were said, as it turns out.
    pub(crate) fn take_back(&mut self, count: usize) {
        if self.end.is_some() || count >= self.said.len() {
            return;
        }
        self.cuts += 1;
        self.said.truncate(count);
        if count < self.kept_from {
            (self.kept_from, self.lost_to) = (count, None);
        }
    }

    /// Of the first `count` nothing is left.
    pub(crate) fn lose(&mut self, count: usize) {
        if self.end.is_none() && count > self.said.len() {
            self.said.resize(count, Said::NOTHING);
            (self.kept_from, self.lost_to) = (count, Some(count));
        }
    }

    /// Why the oldest that are missing are missing.
    fn reason(&self) -> &'static str {
        if self.lost_to == Some(self.kept_from) { "lost" } else { "evicted" }
    }

    pub(crate) fn kept(&self) -> &[Said] {
        &self.said[self.kept_from..]
    }

    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept().iter().map(Said::payload).sum()
    }

    pub(crate) fn newest_with(&self, id: &[u8]) -> Option<u64> {
        let found = self.kept().iter().rposition(|said| said.id.as_deref() == Some(id))?;
        Some((self.kept_from + found + 1) as u64)
    }

    /// Seq of the oldest event that is there, or of the next.
    pub(crate) fn first_seq(&self) -> u64 {
        self.kept_from as u64 + 1
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.said.len() as u64 + 1
    }
}

/// A reader's account of the session, over all its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    /// Seq of the last event that was seen or named in a gap.
    pub(crate) upto: u64,
    ended: bool,
}

impl Witness {
    /// The reader connects again and says that `upto` was the last it has: what was on the wire
    /// after that never arrived, the end included.
    pub(crate) fn reconnects_at(&mut self, upto: u64) {
        *self = Self { upto, ended: false };
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes one signal into the account, or says which promise it breaks.
    pub(crate) fn hears(&mut self, signal: &Signal, oracle: &Oracle) -> Result<(), Violation> {
        if self.ended {
            return Err(Violation::WrongEnd);
        }
        match signal {
            Signal::Event { seq, id, body } => {
                self.expects(*seq)?;
                let said = oracle.said.get(*seq as usize - 1);
                if said.is_none_or(|said| said.body != *body || said.id != *id) {
                    return Err(Violation::WrongContent(*seq));
                }
                self.upto = *seq;
                Ok(())
            }
            Signal::Gap { from, to, reason } => {
                let wrong = Violation::WrongGap { from: *from, to: *to, reason };
                let missing = match *reason {
                    reason if reason == oracle.reason() => (self.upto + 1, oracle.first_seq() - 1),
                    // The claim is what is wrong, so the account starts over.
                    "epoch" => (oracle.next_seq(), self.upto),
                    _ => return Err(wrong),
                };
                if (*from, *to) != missing || from > to {
                    return Err(wrong);
                }
                self.upto = if *reason == "epoch" { 0 } else { *to };
                Ok(())
            }
            Signal::Sealed(end) => {
                self.expects(oracle.next_seq())?;
                if oracle.end != Some(*end) {
                    return Err(Violation::WrongEnd);
                }
                self.ended = true;
                Ok(())
            }
        }
    }

    /// Nothing more was said to this reader: is there really nothing?
    pub(crate) fn falls_silent(&self, oracle: &Oracle) -> Result<(), Violation> {
        let all = self.upto + 1 == oracle.next_seq() && self.ended == oracle.end.is_some();
        if all { Ok(()) } else { Err(Violation::Starved { at: self.upto }) }
    }

    fn expects(&self, seq: u64) -> Result<(), Violation> {
        let next = self.upto + 1;
        match seq {
            _ if seq < next => Err(Violation::Repeated(seq)),
            _ if seq > next => Err(Violation::SilentGap { from: next, to: seq - 1 }),
            _ => Ok(()),
        }
    }
}
