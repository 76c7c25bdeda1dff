//! Live control of running generations: a caller names its run in `x-demo-run`, and `POST /demo/runs/{run}/…` then
//! kills, stalls or resumes it.
//!
//! Not a session store: it knows only what is being told right now. Names are chosen by the caller (the page draws
//! random ones), so whoever knows the name holds the control.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Longest name of a run, in characters.
pub(super) const MAX_NAME: usize = 64;
/// Most runs that can be controlled at a time; further ones run without control.
pub(super) const MAX_RUNS: usize = 256;

/// What a run is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Go on.
    Run,
    /// Say nothing until told otherwise.
    Stall,
    /// Break the connection in the middle of an event. Final.
    Kill,
}

impl Signal {
    /// The signal for the last segment of a control path.
    pub(super) fn from_verb(verb: &str) -> Option<Self> {
        match verb {
            "kill" => Some(Self::Kill),
            "stall" => Some(Self::Stall),
            "resume" => Some(Self::Run),
            _ => None,
        }
    }
}

/// The table of named runs. Cheap to clone; clones share the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    table: Arc<Mutex<HashMap<String, Arc<watch::Sender<Signal>>>>>,
}

impl Runs {
    /// The control of a new generation, listed under `name` until it is dropped. A newer generation takes a name
    /// over (a retried request carries the name of the first try); a full table leaves the new one unlisted.
    pub(super) fn enter(&self, name: Option<&str>) -> Run {
        let signal = Arc::new(watch::Sender::new(Signal::Run));
        let listed = name.and_then(|name| {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= MAX_RUNS && !table.contains_key(name) {
                return None;
            }
            table.insert(name.to_owned(), Arc::clone(&signal));
            Some((self.clone(), name.to_owned()))
        });
        Run { seen: signal.subscribe(), signal, listed }
    }

    /// Tells the run `name` what to do. `false` when there is no such run, or it was killed already.
    pub(super) fn tell(&self, name: &str, signal: Signal) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(name).is_some_and(|run| set(run, signal))
    }

    /// How many runs are listed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// A name that may be used: 1 to [`MAX_NAME`] of `A–Z a–z 0–9 - _`.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn set(run: &watch::Sender<Signal>, signal: Signal) -> bool {
    let mut alive = true;
    run.send_if_modified(|current| {
        alive = *current != Signal::Kill;
        let change = alive && *current != signal;
        if change {
            *current = signal;
        }
        change
    });
    alive
}

/// The generation's own end of its control; leaves the table when dropped.
#[derive(Debug)]
pub(super) struct Run {
    signal: Arc<watch::Sender<Signal>>,
    seen: watch::Receiver<Signal>,
    listed: Option<(Runs, String)>,
}

impl Run {
    /// Stalls itself, as a script asked for; [`Signal::Run`] from outside ends that.
    pub(super) fn stall(&self) {
        set(&self.signal, Signal::Stall);
    }

    /// Waits until neither stalled nor, for `pause` from the first moment on, killed. `Err` when killed.
    pub(super) async fn ready(&mut self, pause: std::time::Duration) -> Result<(), Killed> {
        let paused = tokio::time::sleep(pause);
        tokio::pin!(paused);
        let mut over = pause.is_zero();
        loop {
            let now = *self.seen.borrow_and_update();
            match now {
                Signal::Kill => return Err(Killed),
                Signal::Run if over => return Ok(()),
                Signal::Run | Signal::Stall => {}
            }
            tokio::select! {
                // Cannot fail: this side holds the sender too.
                _ = self.seen.changed() => {}
                () = &mut paused, if !over => over = true,
            }
        }
    }
}

/// The run was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Killed;

impl Drop for Run {
    fn drop(&mut self) {
        let Some((runs, name)) = self.listed.take() else {
            return;
        };
        let mut table = runs.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Only its own entry: a newer generation may have taken the name over.
        if table.get(&name).is_some_and(|listed| Arc::ptr_eq(listed, &self.signal)) {
            table.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_run_is_listed_until_it_is_dropped() {
        let runs = Runs::default();
        let run = runs.enter(Some("a"));
        assert!(runs.tell("a", Signal::Stall));
        drop(run);
        assert_eq!(runs.len(), 0);
        assert!(!runs.tell("a", Signal::Run));
    }

    #[test]
    fn a_newer_run_takes_the_name_over_and_the_older_one_does_not_remove_it() {
        let runs = Runs::default();
        let (older, newer) = (runs.enter(Some("a")), runs.enter(Some("a")));
        drop(older);
        assert_eq!(runs.len(), 1);
        assert!(runs.tell("a", Signal::Kill));
        assert_eq!(*newer.seen.borrow(), Signal::Kill);
    }

    #[test]
    fn the_table_is_bounded_and_a_listed_name_may_still_be_taken_over() {
        let runs = Runs::default();
        let held: Vec<_> = (0..MAX_RUNS).map(|n| runs.enter(Some(&n.to_string()))).collect();
        let _unlisted = runs.enter(Some("one-more"));
        assert!(!runs.tell("one-more", Signal::Kill));
        let _again = runs.enter(Some("0"));
        assert_eq!(runs.len(), MAX_RUNS);
        drop(held);
        assert_eq!(runs.len(), 1);
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_name("A-z_09") && is_name(&"x".repeat(MAX_NAME)));
        assert!(!is_name("") && !is_name(&"x".repeat(MAX_NAME + 1)));
        assert!(!is_name("a/b") && !is_name("a b") && !is_name("ä") && !is_name("a%2e"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_run_waits_until_resumed_and_a_kill_is_final() {
        let runs = Runs::default();
        let mut run = runs.enter(Some("a"));
        assert!(runs.tell("a", Signal::Stall));
        assert!(tokio::time::timeout(HOUR, run.ready(Duration::ZERO)).await.is_err());
        assert!(runs.tell("a", Signal::Run));
        assert_eq!(run.ready(Duration::from_millis(5)).await, Ok(()));
        assert!(runs.tell("a", Signal::Kill));
        assert!(!runs.tell("a", Signal::Run), "a killed run cannot be resumed");
        assert_eq!(run.ready(HOUR).await, Err(Killed));
    }
}
