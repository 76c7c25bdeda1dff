//! Where sessions live between a client that left and one that comes back.
//!
//! The trait is narrow on purpose: readers and the pump meet in a [`LiveSession`]'s log, whatever the store; a
//! store finds sessions, admits them, counts their bytes and forgets them. One conformance suite
//! (`tests/store_conformance.rs`) runs over every store.

mod live;
mod memory;
mod pace;
mod redis;
mod timeline;
mod weighed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use streamkeeper_session::{Fault, SessionId};

pub use live::{Attached, Control, LiveSession, Log, Numbering, Origin, Owner, Phase, Refusal, Source, WholeAnswer};
pub use memory::{MemoryStore, StoreLimits};
pub use pace::Pace;
pub use redis::RedisStore;
pub use timeline::{Counts, Mark, Stages, Timeline, Told};
pub use weighed::Weighed;

use crate::config::Settings;
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

/// Where the events of a session are kept: `streamkeeper-durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

impl Durability {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// Finds, admits, counts and forgets sessions.
///
/// A shared store also knows who owns a session. What has a default here is about that; a store of one process has
/// nothing to add to it.
pub trait SessionStore: Send + Sync + std::fmt::Debug {
    /// Offers a new session under its id and `names`.
    fn open<'a>(&'a self, session: Arc<LiveSession>, names: Vec<Name>) -> Answer<'a, Opened>;

    /// The session `id`, if it is `principal`'s. Unknown and foreign are the same. A fault if that cannot be told now.
    fn find<'a>(&'a self, id: SessionId, principal: Principal) -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>>;

    /// The newest session under a route's session key.
    fn find_named<'a>(&'a self, key: u128, principal: Principal)
    -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>>;

    /// Forgets a session now.
    fn remove<'a>(&'a self, id: SessionId) -> Answer<'a, ()>;

    /// The log of `session` changed: takes its ring into the budget, makes room where that is exceeded, and sees to it
    /// that others get to know. Called once per wake, so it takes no lock as long as the ring is as large as before.
    fn charge(&self, session: &LiveSession);

    /// `session` ended; it stays readable for the retention time.
    fn ended(&self, session: &LiveSession);

    /// Forgets what is past its retention and brings the gauges up to date. Call about once a second.
    fn sweep(&self, now: Duration);

    /// Every session held here, for the admin port and for draining.
    fn all(&self) -> Vec<Arc<LiveSession>>;

    /// The configuration changed: bounds and routes are those of `settings` from now on. Where the sessions are kept
    /// cannot change.
    fn reconfigure(&self, settings: &Settings);

    /// Whether other processes may read and take over the sessions.
    fn is_shared(&self) -> bool {
        false
    }

    /// Where the events of sessions are kept now.
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    /// Waits until sessions can be kept as configured, or it is clear that this takes longer.
    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Whether this process may have lost its sessions without knowing: then no pump reads on. When that is settled
    /// every pump is woken by its session's control.
    fn in_doubt(&self) -> bool {
        false
    }

    /// Makes this process the owner of a session that has none ([`Owner::Nobody`]). `false`: somebody else was faster,
    /// or it cannot be told now.
    fn take_over<'a>(&'a self, _session: &'a Arc<LiveSession>) -> Answer<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    /// The pump of a session that another process owns ([`Owner::Elsewhere`]) has stopped.
    fn handed_over(&self, _session: &Arc<LiveSession>) {}

    /// The process goes away: what is still to be kept is kept, and its sessions are given up.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
