//! A stream on its way to a client, and who writes it.
//!
//! News of the session are written by whoever brings them, the pump most of the time, there and then: no task is
//! scheduled for an event, none waits for others that became ready with it, and none crosses a thread. The stream's own
//! task is woken for all else: the socket takes more again, the client says something or goes, a timer rings.
//!
//! Not here: what is written and how (`stream`), and what comes before and after (`converse`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;

use super::converse::{Connection, speak};
use super::stream::{Outcome, Stream};
use super::transport::Transport;
use crate::telemetry::metrics;

/// Writes `stream` to `connection`; if another request may follow it, that is waited for afterwards.
pub(super) fn tell(stream: Stream, connection: Connection) {
    let telling = Telling {
        inner: Mutex::new(Inner { on: Some((stream, connection)), task: None, ended: None }),
        missed: AtomicBool::new(false),
    };
    tokio::spawn(Task(Arc::new(telling)));
}

/// A stream that is being written. As a waker it stands in its session's log.
struct Telling {
    inner: Mutex<Inner>,
    /// There were news while somebody was writing.
    missed: AtomicBool,
}

struct Inner {
    /// `None` once the task is gone.
    on: Option<(Stream, Connection)>,
    /// Wakes the task.
    task: Option<Waker>,
    ended: Option<io::Result<Outcome>>,
}

/// [`Stream::poll`] or [`Stream::poll_news`].
type Poller = fn(&mut Stream, &mut Context<'_>, &Waker, &mut Transport) -> Poll<io::Result<Outcome>>;

impl Telling {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Telling {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Said before it is tried: who has the lock looks at it after letting go.
        self.missed.store(true, Ordering::SeqCst);
        while self.missed.load(Ordering::SeqCst) {
            let mut inner = match self.inner.try_lock() {
                Ok(inner) => inner,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.missed.store(false, Ordering::SeqCst);
            inner.write(self, Stream::poll_news);
            if inner.ended.is_some() {
                let task = inner.task.take();
                drop(inner);
                return task.into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl Inner {
    /// Writes what there is to write, in this way. `telling`: what this is in, to be woken with news.
    fn write(&mut self, telling: &Arc<Telling>, poll: Poller) {
        if let (None, Some((stream, connection)), Some(task)) = (&self.ended, &mut self.on, &self.task) {
            let news = Waker::from(Arc::clone(telling));
            if let Poll::Ready(ended) = poll(stream, &mut Context::from_waker(task), &news, &mut connection.transport) {
                self.ended = Some(ended);
            }
        }
    }
}

/// The stream's own task.
struct Task(Arc<Telling>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let telling = &self.0;
        let mut inner = telling.lock();
        telling.missed.store(false, Ordering::SeqCst);
        if !inner.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            inner.task = Some(cx.waker().clone());
        }
        inner.write(telling, Stream::poll);
        let ended = inner.ended.take();
        let Some(ended) = ended else {
            drop(inner);
            if telling.missed.load(Ordering::SeqCst) {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        };
        let on = inner.on.take();
        drop(inner);
        if let Some((stream, connection)) = on {
            over(ended, connection, stream.into_said(), cx);
        }
        Poll::Ready(())
    }
}

impl Drop for Task {
    /// A stream stands in its session's log, and the log in the stream: this ends it.
    fn drop(&mut self) {
        let on = self.0.lock().on.take();
        drop(on);
    }
}

/// What follows a stream on its connection; `said`: what the client has sent meanwhile.
fn over(ended: io::Result<Outcome>, mut connection: Connection, said: Bytes, cx: &mut Context<'_>) {
    match ended {
        Ok(Outcome::Whole) if !*connection.closing.borrow() => {
            // It is not new: HTTP/2 cannot follow.
            tokio::spawn(speak(connection, said, false));
        }
        // In TLS this says that nothing was cut off. A client that does not take it will see the end all the same.
        Ok(Outcome::Whole | Outcome::Ended) => _ = Pin::new(&mut connection.transport).poll_shutdown(cx),
        Ok(Outcome::Broken) => {}
        Err(error) => {
            tracing::debug!(peer = %connection.address, %error, "stream");
            if error.kind() == io::ErrorKind::TimedOut {
                metrics::refused("write_timeout");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of streams are written at once; what each costs is decided here.
    #[test]
    fn a_stream_that_is_being_written_is_small() {
        assert!(size_of::<Telling>() <= 304, "{}", size_of::<Telling>());
    }
}
