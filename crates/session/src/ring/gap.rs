//! What a log answers when it cannot serve a position: which events are missing, and why.
//!
//! A gap is a fact about the log, not a message; how a client is told is a dialect's business. The
//! three reasons are those of the project's design, section 2.

use std::fmt;

/// A range of events that a reader asked for and cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the events {from} to {to} cannot be served ({reason})")]
pub struct Gap {
    /// Seq of the first missing event.
    pub from: u64,
    /// Seq of the last missing event, inclusive.
    pub to: u64,
    /// Why they are missing.
    pub reason: GapReason,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// They were here and made room for newer ones.
    Evicted,
    /// The reader's position belongs to another life of the session: it claims events that this
    /// log never had.
    Epoch,
    /// They were delivered, but the store lost them. Said only by a ring that copies such a log.
    Lost,
}

impl GapReason {
    /// The word on the wire: `evicted`, `epoch` or `lost`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Epoch => "epoch",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
