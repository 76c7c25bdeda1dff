//! Threads that serve clients. Each has a runtime of its own, and a connection stays on the one it was given to, with
//! the sessions that begin on it: what belongs together wakes each other without crossing threads.
//!
//! A new connection goes where the fewest are. Streams are long, so leaving it to chance which thread gets them (as
//! `SO_REUSEPORT` does) can leave cores idle for minutes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections it has.
    load: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// None of their own: connections are served by the runtime that accepts them.
    #[must_use]
    pub fn here() -> Self {
        Self(Vec::new())
    }

    /// So many threads; 0: as many as this process may use cores.
    ///
    /// # Errors
    /// The system's, if there can be no such thread.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection; it counts as long as its place is held.
    pub(crate) fn serve<F: Future<Output = ()> + Send + 'static>(&self, serve: impl FnOnce(Option<Place>) -> F) {
        match self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) {
            None => drop(tokio::spawn(serve(None))),
            Some(worker) => drop(worker.runtime.spawn(serve(Some(Place::take(&worker.load))))),
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || _ = runtime.block_on(stopped))?;
        Ok(Self { runtime: handle, load: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    /// What still runs there ends where it stands.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection's place on a worker.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are_and_their_tasks_stay_there() {
        let workers = Workers::start(3).unwrap();
        let (told, threads) = std::sync::mpsc::channel();
        let mut held = Vec::new();
        for _ in 0..6 {
            let (told, (hold, released)) = (told.clone(), oneshot::channel::<()>());
            workers.serve(|place| async move {
                let connection = std::thread::current().id();
                let session = tokio::spawn(async { std::thread::current().id() }).await;
                told.send((connection, session.unwrap())).unwrap();
                let _ = released.await;
                drop(place);
            });
            held.push(hold);
        }
        let mut served = std::collections::HashMap::new();
        for (connection, session) in threads.iter().take(6) {
            assert_eq!(connection, session);
            *served.entry(connection).or_insert(0) += 1;
        }
        assert_eq!(served.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    }

    #[test]
    fn without_count_there_is_one_per_core() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(Workers::start(0).unwrap().0.len(), cores);
    }
}
