//! One writer, many followers: how readers of a session wait for more of it.
//!
//! A [`Tail`] is a state behind a lock and a slot for the waker of each follower. It is not a
//! channel: nothing is queued per follower, so a slow one costs nothing and holds nobody up. What a
//! follower reads, and where it stands, is between its position and the state, usually a
//! [`Ring`](crate::Ring). There is no runtime in here; a waker comes from whoever polls.
//!
//! No wake is lost because "is there something for me?" and "then wake me" happen under one lock,
//! as do the change and the collecting of wakers. They are woken after the lock is released, for a
//! wake may run anything. The loom tests in `tests/tail_loom.rs` hold this to all interleavings.
//!
//! # Eviction
//!
//! The writer never waits for followers. A full ring evicts its oldest records whether or not all
//! followers have read them; memory is bounded by the ring alone.
//!
//! # Gaps
//!
//! A follower that fell behind the oldest record finds out on its next look: the ring answers its
//! position with a [`Gap`](crate::Gap) naming exactly the events it missed. It is an answer, so the
//! follower is awake to pass it on, and it can go on from the first record after the gap.
//!
//! # Sealing
//!
//! The end is the last record, not a flag beside the log and not a dropped sender. So whoever
//! attaches after the end reads the same as whoever was there all along, and a writer that vanishes
//! without sealing leaves a log that is visibly open.

#[cfg(all(test, not(loom)))]
mod tests;

use core::fmt;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, PoisonError};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

/// A state that one writes and many follow.
pub struct Tail<S> {
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    state: S,
    slots: Slots,
}

impl<S> Tail<S> {
    /// Starts with `state` and no followers.
    #[must_use]
    pub fn new(state: S) -> Self {
        Self { inner: Mutex::new(Inner { state, slots: Slots::default() }) }
    }

    /// Changes the state and wakes every follower that waits. Allocates only if two or more wait.
    ///
    /// If `f` panics, nobody is woken; the state stays usable, as `f` left it.
    pub fn update<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        let mut inner = self.lock();
        let answer = f(&mut inner.state);
        let waiting = inner.slots.take_waiting();
        drop(inner);
        waiting.wake();
        answer
    }

    /// Looks at the state, without waking and without waiting for anything but the lock.
    pub fn peek<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        f(&self.lock().state)
    }

    /// A new follower, with a slot of its own until it is dropped.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> Follower<S> {
        let slot = self.lock().slots.occupy();
        Follower { tail: Arc::clone(self), slot }
    }

    /// How many followers there are.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.lock().slots.occupied as usize
    }

    /// A panic under the lock is the panicking task's affair: it can leave a log shorter than
    /// hoped, but never a broken one, and the others go on.
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for Tail<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("followers", &self.followers()).finish_non_exhaustive()
    }
}

/// One reader of a [`Tail`]. Not `Clone`: each has its own slot, and thereby its own waker.
pub struct Follower<S> {
    tail: Arc<Tail<S>>,
    slot: usize,
}

impl<S> Follower<S> {
    /// Asks `f`, under the lock, whether the state holds something for this follower. `Some` is the
    /// answer; on `None` the task of `cx` is woken by the next [`update`](Tail::update).
    ///
    /// `f` may keep book in the state, but others do not learn of it: changes that they wait for
    /// belong into an update.
    pub fn poll<R>(&mut self, cx: &mut Context<'_>, f: impl FnOnce(&mut S) -> Option<R>) -> Poll<R> {
        let look = |state: &mut S| {
            let answer = f(state);
            let wait = answer.is_none();
            (answer, wait)
        };
        self.look(cx, look).map_or(Poll::Pending, Poll::Ready)
    }

    /// As [`poll`](Self::poll), for those who know with their answer that they will have to wait: if the second value is
    /// `true`, the task of `cx` is woken by the next [`update`](Tail::update).
    pub fn look<R>(&mut self, cx: &mut Context<'_>, f: impl FnOnce(&mut S) -> (R, bool)) -> R {
        let mut inner = self.tail.lock();
        let (answer, wait) = f(&mut inner.state);
        let stale = if wait { inner.slots.arm(self.slot, cx.waker()) } else { inner.slots.disarm(self.slot) };
        drop(inner);
        // Dropping a waker may drop its task, and with it a follower that needs the lock.
        drop(stale);
        answer
    }

    /// What it follows.
    #[must_use]
    pub const fn tail(&self) -> &Arc<Tail<S>> {
        &self.tail
    }
}

impl<S> Drop for Follower<S> {
    fn drop(&mut self) {
        let stale = self.tail.lock().slots.vacate(self.slot);
        drop(stale);
    }
}

impl<S> fmt::Debug for Follower<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// The slots of all followers. The first lies inline: most sessions have one client, and it shall
/// not cost an allocation.
#[derive(Default)]
struct Slots {
    first: Slot,
    more: Vec<Slot>,
    occupied: u32,
    /// How many slots hold a waker, so that an update nobody waits for looks at none.
    waiting: u32,
}

#[derive(Default)]
struct Slot {
    occupied: bool,
    waker: Option<Waker>,
}

impl Slots {
    fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        match slot.checked_sub(1) {
            None => Some(&mut self.first),
            Some(index) => self.more.get_mut(index),
        }
    }

    /// Takes the first free slot.
    fn occupy(&mut self) -> usize {
        self.occupied += 1;
        if !self.first.occupied {
            self.first.occupied = true;
            return 0;
        }
        if let Some(index) = self.more.iter().position(|slot| !slot.occupied) {
            if let Some(slot) = self.more.get_mut(index) {
                slot.occupied = true;
            }
            return index + 1;
        }
        self.more.push(Slot { occupied: true, waker: None });
        self.more.len()
    }

    /// Frees a slot and hands out its waker, to be dropped outside of the lock.
    fn vacate(&mut self, slot: usize) -> Option<Waker> {
        let stale = self.disarm(slot);
        if let Some(slot) = self.get_mut(slot) {
            slot.occupied = false;
        }
        self.occupied -= 1;
        while self.more.last().is_some_and(|slot| !slot.occupied) {
            self.more.pop();
        }
        stale
    }

    /// Has `waker` woken by the next update. Clones it only if the slot holds no equal one.
    fn arm(&mut self, slot: usize, waker: &Waker) -> Option<Waker> {
        let slot = self.get_mut(slot)?;
        if slot.waker.as_ref().is_some_and(|held| held.will_wake(waker)) {
            return None;
        }
        let stale = slot.waker.replace(waker.clone());
        self.waiting += u32::from(stale.is_none());
        stale
    }

    fn disarm(&mut self, slot: usize) -> Option<Waker> {
        let stale = self.get_mut(slot)?.waker.take();
        self.waiting -= u32::from(stale.is_some());
        stale
    }

    fn take_waiting(&mut self) -> Waiting {
        let mut waiting = Waiting::default();
        if self.waiting == 0 {
            return waiting;
        }
        waiting.first = self.first.waker.take();
        if self.waiting > u32::from(waiting.first.is_some()) {
            waiting.more = self.more.iter_mut().filter_map(|slot| slot.waker.take()).collect();
        }
        self.waiting = 0;
        waiting
    }
}

/// Wakers on their way out of the lock.
#[derive(Default)]
struct Waiting {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Waiting {
    fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        self.more.into_iter().for_each(Waker::wake);
    }
}
