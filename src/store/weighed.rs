//! The log of a session, with what its ring takes written beside its lock: whoever keeps the budget asks after every
//! wake, and finds nothing new after most.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use streamkeeper_session::Tail;

use super::Log;

/// What readers see. It is looked at and followed as any [`Tail`]; only here it is changed.
#[derive(Debug)]
pub struct Weighed {
    tail: Arc<Tail<Log>>,
    footprint: AtomicUsize,
    evicted: AtomicU64,
}

impl Weighed {
    /// Takes charge of a log.
    pub(super) fn new(log: Log) -> Self {
        let (footprint, evicted) = (log.ring.footprint().into(), log.ring.evicted().into());
        Self { tail: Arc::new(Tail::new(log)), footprint, evicted }
    }

    /// Changes the log and wakes every reader that waits, see [`Tail::update`].
    pub fn update<R>(&self, f: impl FnOnce(&mut Log) -> R) -> R {
        self.tail.update(|log| {
            let answer = f(log);
            self.footprint.store(log.ring.footprint(), Ordering::Relaxed);
            self.evicted.store(log.ring.evicted(), Ordering::Relaxed);
            answer
        })
    }

    /// Heap bytes of the ring, as its last change left it.
    pub fn footprint(&self) -> usize {
        self.footprint.load(Ordering::Relaxed)
    }

    /// Events that the ring gave up for others, as its last change left it.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

impl Deref for Weighed {
    type Target = Arc<Tail<Log>>;

    fn deref(&self) -> &Self::Target {
        &self.tail
    }
}
