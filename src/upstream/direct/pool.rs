//! Connections between two requests. No task watches them: they are looked at when one is wanted, and once in a while.
//!
//! A connection is used on the thread on which it was opened alone, for that thread's runtime watches it: used elsewhere,
//! each of its events would wake two threads.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use tokio::time::Instant;

use super::super::IDLE_CONNECTION;
use super::http1;
use super::socket::Socket;

/// Which connections are alike: their endpoint, and the thread that opened them.
pub(super) type Kind = (usize, ThreadId);

/// The waiting connections of one dialler, the newest last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Kind, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    socket: Socket,
}

impl Pool {
    /// The connection of this kind that was used last.
    pub(super) fn take(&self, kind: Kind, now: Instant) -> Option<Socket> {
        let mut idle = self.idle();
        let alike = idle.get_mut(&kind)?;
        while let Some(mut one) = alike.pop() {
            if one.is_usable(now) {
                return Some(one.socket);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, kind: Kind, now: Instant, socket: Socket) {
        self.idle().entry(kind).or_default().push(Idle { since: now, socket });
    }

    /// Closes those that waited too long, and those that the upstream closed.
    pub(super) fn reap(&self, now: Instant) {
        self.idle().retain(|_, alike| {
            alike.retain_mut(|one| one.is_usable(now));
            !alike.is_empty()
        });
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Kind, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Whether it is young enough and nothing came on it, be it an end or bytes that nobody asked for. Where the runtime
    /// knows of nothing to read, this costs no system call.
    fn is_usable(&mut self, now: Instant) -> bool {
        now.duration_since(self.since) < IDLE_CONNECTION && self.is_silent()
    }

    fn is_silent(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(http1::poll_read(&mut self.socket, &mut cx, &mut [0]), Poll::Pending)
    }
}
