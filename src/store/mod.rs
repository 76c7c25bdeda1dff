//! Where sessions live between a client that left and one that comes back.
//!
//! The trait is narrow on purpose: readers and the pump meet in a [`LiveSession`]'s log, whatever the store; a
//! store finds sessions, admits them, counts their bytes and forgets them. One conformance suite
//! (`tests/store_conformance.rs`) runs over every store.

mod live;
mod memory;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use streamkeeper_session::{Fault, SessionId};

pub use live::{Attached, Control, LiveSession, Log, Numbering, Phase, Refusal, Source, WholeAnswer};
pub use memory::{MemoryStore, StoreLimits};

use crate::principal::Principal;

/// A store's answer; a remote one takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A second name of a session, made by [`crate::principal::Keyed::name`], so that it never crosses principals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// An Idempotency-Key: a request with the same fingerprint joins, with another it is refused.
    Once {
        /// The key's hash.
        key: u128,
        /// Hash of method, path and body.
        fingerprint: u128,
    },
    /// A route's session key: the newest session wins it.
    Newest(u128),
}

/// What became of a session offered to a store.
#[derive(Debug)]
pub enum Opened {
    /// It is in.
    New,
    /// There is one of this name that the caller joins instead.
    Joined(Arc<LiveSession>),
    /// Its name belongs to another request.
    Mismatch,
    /// It is not let in.
    Refused(Fault),
}

/// Finds, admits, counts and forgets sessions.
pub trait SessionStore: Send + Sync + std::fmt::Debug {
    /// Offers a new session under its id and `names`.
    fn open<'a>(&'a self, session: Arc<LiveSession>, names: Vec<Name>) -> Answer<'a, Opened>;

    /// The session `id`, if it is `principal`'s. Unknown and foreign are the same.
    fn find<'a>(&'a self, id: SessionId, principal: Principal) -> Answer<'a, Option<Arc<LiveSession>>>;

    /// The newest session under a route's session key.
    fn find_named<'a>(&'a self, key: u128, principal: Principal) -> Answer<'a, Option<Arc<LiveSession>>>;

    /// Forgets a session now.
    fn remove<'a>(&'a self, id: SessionId) -> Answer<'a, ()>;

    /// The ring of `session` grew or shrank: takes it into the budget and makes room where it is exceeded.
    fn charge(&self, session: &LiveSession);

    /// `session` ended; it stays readable for the retention time.
    fn ended(&self, session: &LiveSession);

    /// Forgets what is past its retention and brings the gauges up to date. Call about once a second.
    fn sweep(&self, now: Duration);

    /// Every session held here, for the admin port and for draining.
    fn all(&self) -> Vec<Arc<LiveSession>>;
}
