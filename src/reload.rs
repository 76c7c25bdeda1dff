//! Reading the configuration again: at SIGHUP, and when the file, or one that it names, has other content than before.
//!
//! Files are looked at by content, so that it does not matter how they are replaced: written over, renamed, or swapped
//! under a symbolic link as Kubernetes does. A configuration that cannot be used changes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Change, Env, Flags, LoadError, Settings, env};
use crate::live::{Live, Taken, Unfit};
use crate::telemetry::metrics;
use crate::upstream::chain;

/// How often files are looked at. A change is taken up when two looks agree, so that no half-written file is read.
const LOOK: Duration = Duration::from_secs(1);

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What the command line says over it, now and later.
    pub flags: Flags,
}

/// What became of a reload.
#[derive(Debug)]
pub enum Outcome {
    /// Something changed.
    Taken(Taken),
    /// Nothing that can change at run time has changed.
    Unchanged(Taken),
    /// It cannot be read or means nothing.
    Unreadable(LoadError),
    /// It cannot serve.
    Unfit(Unfit),
}

/// Files by name, with a hash of what was in them; `None`: it could not be read.
type Files = BTreeMap<PathBuf, Option<u64>>;

/// The reasons to read the configuration again. From when it is there SIGHUP no longer ends the process.
#[derive(Debug)]
pub struct Reasons {
    hangup: Signal,
    source: Option<Source>,
}

impl Reasons {
    /// SIGHUP and changes of the files at `source`. Without a source SIGHUP changes nothing. Call inside a runtime.
    ///
    /// # Errors
    /// When the signal cannot be had.
    pub fn new(source: Option<Source>) -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, source })
    }
}

/// Reads the configuration again whenever there is reason to, until it is dropped. Without a source it only says that
/// there is nothing to read.
pub async fn watch(live: Arc<Live>, reasons: Reasons) {
    let Reasons { mut hangup, source } = reasons;
    let Some(source) = source else {
        while hangup.recv().await.is_some() {
            tracing::warn!("SIGHUP: there is no configuration file, so there is nothing to read again");
        }
        return;
    };
    let (loaded, mut files) = load(&source).await;
    // Since the start it may have changed already.
    if !matches!(&loaded, Ok(settings) if settings.effective == live.app().settings.effective) {
        take(&live, loaded);
    }
    let mut ticks = tokio::time::interval(LOOK);
    let mut news: Option<Files> = None;
    loop {
        tokio::select! {
            Some(()) = hangup.recv() => {}
            _ = ticks.tick() => {
                let seen = look(files.keys().cloned().collect()).await;
                let settled = news.as_ref() == Some(&seen);
                news = (seen != files).then_some(seen);
                if news.is_none() || !settled {
                    continue;
                }
            }
        }
        news = None;
        let (loaded, read) = load(&source).await;
        files = read;
        take(&live, loaded);
    }
}

/// Reads the configuration again, once.
pub async fn once(live: &Live, source: &Source) -> Outcome {
    take(live, load(source).await.0)
}

/// Reads the configuration and every file that it names. The hashes are those of what was read.
async fn load(source: &Source) -> (Result<Settings, LoadError>, Files) {
    let Source { path, flags } = source.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let env = Noting::default();
        let loaded = config::load_from(&path, &flags, &env);
        (loaded, env.0.into_inner())
    });
    match reading.await {
        Ok(read) => read,
        Err(error) => {
            let source_path = source.path.clone();
            (Err(LoadError::Unreadable { path: source_path, source: io::Error::other(error) }), Files::new())
        }
    }
}

async fn look(paths: Vec<PathBuf>) -> Files {
    let look = move || paths.into_iter().map(|path| (path.clone(), std::fs::read(path).ok().map(|text| hash(&text))));
    tokio::task::spawn_blocking(move || look().collect()).await.unwrap_or_default()
}

/// The process's world, and what was read of it.
#[derive(Default)]
struct Noting(RefCell<Files>);

impl Env for Noting {
    fn var(&self, name: &str) -> Option<String> {
        env::Process.var(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = env::Process.read(path);
        let seen = text.as_ref().ok().map(|text| hash(text.as_bytes()));
        self.0.borrow_mut().insert(path.to_owned(), seen);
        text
    }
}

fn hash(content: &[u8]) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    KEY.get_or_init(RandomState::new).hash_one(content)
}

/// Applies what was read, and tells the log and the metrics.
fn take(live: &Live, loaded: Result<Settings, LoadError>) -> Outcome {
    let outcome = match loaded {
        Err(error) => Outcome::Unreadable(error),
        Ok(settings) => match live.reconfigure(settings) {
            Err(error) => Outcome::Unfit(error),
            Ok(taken) if taken.changed.is_empty() => Outcome::Unchanged(taken),
            Ok(taken) => Outcome::Taken(taken),
        },
    };
    tell(&outcome);
    outcome
}

fn tell(outcome: &Outcome) {
    match outcome {
        Outcome::Taken(taken) => {
            metrics::config_reload("ok");
            for Change { path, from, to } in &taken.changed {
                tracing::info!(key = path, from, to, "configuration changed");
            }
            tell_waiting(&taken.waiting);
            tracing::info!(changed = taken.changed.len(), waiting = taken.waiting.len(), "configuration reloaded");
        }
        Outcome::Unchanged(taken) => {
            metrics::config_reload("unchanged");
            tell_waiting(&taken.waiting);
            tracing::info!(waiting = taken.waiting.len(), "configuration read again: nothing to take over");
        }
        Outcome::Unreadable(LoadError::Invalid(problems)) => {
            for problem in problems {
                tracing::error!(key = problem.path, problem = problem.message, "configuration");
            }
            refuse(&format!("{} problem(s)", problems.iter().len()));
        }
        Outcome::Unreadable(error) => refuse(&chain(error)),
        Outcome::Unfit(error) => refuse(&chain(error)),
    }
}

fn tell_waiting(waiting: &[Change]) {
    for Change { path, from, to } in waiting {
        tracing::warn!(key = path, from, to, "configuration: this needs a restart; the old value stays");
    }
}

fn refuse(cause: &str) {
    metrics::config_reload("failed");
    tracing::error!(cause, "the new configuration is not used; the old one stays");
}
