//! What all parts of the Redis store of one process share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, Value, cmd};
use streamkeeper_session::SessionId;
use tokio::sync::Notify;

use super::bell::Bell;
use super::keys::{Keys, Replica};
use super::link::{Link, Trouble};
use super::mirror::Mirror;
use super::writer::Owned;
use crate::clock::Clock;
use crate::config::{self, Route};
use crate::store::MemoryStore;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) me: Replica,
    pub(super) settings: config::Redis,
    /// What follows the configuration.
    rules: ArcSwap<Rules>,
    pub(super) clock: Clock,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    pub(super) link: Link,
    /// What this process holds, its own sessions and those of others alike.
    pub(super) local: MemoryStore,
    /// Sessions that are read here and not yet wholly written.
    pub(super) owned: DashMap<u128, Arc<Owned>>,
    /// Sessions that others read, and clients here follow.
    pub(super) mirrors: DashMap<u128, Arc<Mirror>>,
    /// Owned sessions with something to write.
    pub(super) news: Queue,
    /// Mirrors with something to read.
    pub(super) looks: Queue,
    /// One flush at a time, so that no session is written from two sides.
    pub(super) flushing: tokio::sync::Mutex<()>,
    /// Until then the lease surely runs, in milliseconds on the clock.
    lease_until: AtomicU64,
}

/// What the configuration says of sessions, and may say otherwise later.
#[derive(Debug)]
struct Rules {
    session: config::Session,
    routes: Vec<Arc<Route>>,
}

/// The scripts and their names in Redis.
#[derive(Debug)]
pub(super) struct Scripts {
    append: Script,
    rename: Script,
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "one constructor, one caller")]
    pub(super) fn new(
        me: Replica,
        settings: config::Redis,
        session: config::Session,
        routes: Vec<Arc<Route>>,
        clock: Clock,
        link: Link,
        local: MemoryStore,
    ) -> Self {
        Self {
            me,
            keys: Keys::new(&settings.prefix),
            settings,
            rules: ArcSwap::from_pointee(Rules { session, routes }),
            clock,
            scripts: Scripts {
                append: Script::new(include_str!("append.lua")),
                rename: Script::new(include_str!("rename.lua")),
            },
            link,
            local,
            owned: DashMap::new(),
            mirrors: DashMap::new(),
            news: Queue::default(),
            looks: Queue::default(),
            flushing: tokio::sync::Mutex::default(),
            lease_until: AtomicU64::new(0),
        }
    }

    /// These hold for what is read and written from now on.
    pub(super) fn set_rules(&self, session: config::Session, routes: Vec<Arc<Route>>) {
        self.rules.store(Arc::new(Rules { session, routes }));
    }

    /// Bounds of one session.
    pub(super) fn session(&self) -> config::Session {
        self.rules.load().session
    }

    /// The route of this name, if there is one.
    pub(super) fn route(&self, name: &str) -> Option<Arc<Route>> {
        self.rules.load().routes.iter().find(|route| route.name == name).cloned()
    }

    pub(super) fn owned(&self, id: SessionId) -> Option<Arc<Owned>> {
        self.owned.get(&id.as_u128()).map(|owned| Arc::clone(&owned))
    }

    pub(super) fn mirror(&self, id: SessionId) -> Option<Arc<Mirror>> {
        self.mirrors.get(&id.as_u128()).map(|mirror| Arc::clone(&mirror))
    }

    /// The lease surely runs until `until`.
    pub(super) fn lease_runs(&self, until: Duration) {
        self.lease_until.store(millis(until), Ordering::Release);
    }

    /// Whether the lease may have run out without anybody here noticing.
    pub(super) fn lease_overdue(&self) -> bool {
        millis(self.clock.now()) > self.lease_until.load(Ordering::Acquire)
    }

    /// The command that takes, or renews, this process's lease.
    pub(super) fn lease(&self) -> Cmd {
        let mut set = cmd("SET");
        set.arg(self.keys.lease(self.me)).arg(1).arg("PX").arg(millis(self.settings.lease));
        set
    }

    /// How long a running session's keys live without being touched: it cannot run longer.
    pub(super) fn lifetime(&self, route: &Route) -> u64 {
        millis(route.timeouts.total + self.session().retention + self.settings.lease).max(1)
    }

    /// How long a finished session's keys live.
    pub(super) fn retention(&self) -> u64 {
        millis(self.session().retention).max(1)
    }

    /// One command that runs a script. A Redis that was promoted, or flushed, does not know ours: then it learns them.
    pub(super) async fn ask_script(&self, command: Cmd) -> Result<Value, Trouble> {
        let answers = self.link.ask(vec![command.clone()]).await?;
        match answers.into_iter().next() {
            Some(Err(error)) if unknown_script(&error) => {
                self.teach().await?;
                self.link.ask_one(command).await
            }
            Some(answer) => Ok(answer?),
            None => Ok(Value::Nil),
        }
    }

    /// Loads the scripts anew.
    pub(super) async fn teach(&self) -> Result<(), Trouble> {
        for answer in self.link.ask(self.scripts.load()).await? {
            answer?;
        }
        Ok(())
    }

    /// Rings at other replicas. Whether anybody hears it does not matter.
    pub(super) async fn ring(&self, bells: Vec<(Replica, Bell)>) {
        if bells.is_empty() {
            return;
        }
        let publish = bells.into_iter().map(|(replica, bell)| {
            let mut publish = cmd("PUBLISH");
            publish.arg(self.keys.bell(replica)).arg(bell.write());
            publish
        });
        let _ = self.link.ask(publish.collect()).await;
    }
}

impl Scripts {
    /// Loads them into a Redis that may not know them.
    pub(super) fn load(&self) -> Vec<Cmd> {
        let load = |source: &str| {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(source);
            load
        };
        vec![load(include_str!("append.lua")), load(include_str!("rename.lua"))]
    }

    /// See `append.lua`; its arguments follow.
    pub(super) fn append(&self, log: &str, meta: &str) -> Cmd {
        let mut eval = cmd("EVALSHA");
        eval.arg(self.append.get_hash()).arg(2).arg(log).arg(meta);
        eval
    }

    /// See `rename.lua`; its arguments follow.
    pub(super) fn rename(&self, name: &str) -> Cmd {
        let mut eval = cmd("EVALSHA");
        eval.arg(self.rename.get_hash()).arg(1).arg(name);
        eval
    }
}

/// Whether Redis does not know the script it was to run. It did nothing then.
pub(super) fn unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Sessions that one task has to see to. Each is in it once at most, by a flag of whoever puts it in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ids: Mutex<Vec<SessionId>>,
    rung: Notify,
}

impl Queue {
    pub(super) fn push(&self, id: SessionId) {
        let first = {
            let mut ids = self.lock();
            ids.push(id);
            ids.len() == 1
        };
        if first {
            self.rung.notify_one();
        }
    }

    /// Waits until there is something.
    pub(super) async fn filled(&self) {
        while self.lock().is_empty() {
            self.rung.notified().await;
        }
    }

    /// Takes all there is, instead of what is in `ids`.
    pub(super) fn take(&self, ids: &mut Vec<SessionId>) {
        ids.clear();
        std::mem::swap(&mut *self.lock(), ids);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SessionId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients that other replicas have attached to one session of ours.
#[derive(Debug, Default)]
pub(super) struct Followers(HashMap<Replica, (usize, Duration)>);

impl Followers {
    /// `replica` has so many, as of now; that holds until `until`. Tells whether it is new here.
    pub(super) fn note(&mut self, replica: Replica, count: usize, until: Duration) -> bool {
        if count == 0 {
            self.0.remove(&replica);
            return false;
        }
        self.0.insert(replica, (count, until)).is_none()
    }

    /// Forgets replicas that have not been heard of.
    pub(super) fn expire(&mut self, now: Duration) {
        self.0.retain(|_, (_, until)| *until > now);
    }

    pub(super) fn attached(&self) -> usize {
        self.0.values().map(|(count, _)| *count).sum()
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = Replica> + '_ {
        self.0.keys().copied()
    }
}
