//! The embedded store: a concurrent map of rings in this process.
//!
//! The map is touched when a client comes or goes, never per event. Its byte budget is one atomic counter; when it
//! is exceeded, finished sessions go first (oldest first), then the ring that is growing gives up its own oldest
//! events. One coarse sweep replaces timers per session.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use streamkeeper_session::{Code, Fault, SessionId};

use super::{Answer, LiveSession, Name, Opened, Owner, SessionStore};
use crate::config::Settings;
use crate::principal::Principal;
use crate::telemetry::metrics;

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Sessions whose upstream is being read.
    pub sessions: usize,
    /// The same for one principal with credentials.
    pub sessions_per_principal: usize,
    /// Heap bytes of all rings together.
    pub ring_bytes: usize,
    /// How long a finished session can still be read.
    pub retention: Duration,
}

impl StoreLimits {
    /// As configured.
    pub fn of(settings: &Settings) -> Self {
        let limits = &settings.limits;
        Self {
            sessions: limits.sessions,
            sessions_per_principal: limits.sessions_per_principal,
            ring_bytes: limits.ring_bytes,
            retention: settings.session.retention,
        }
    }
}

#[derive(Debug)]
struct Held {
    session: Arc<LiveSession>,
    names: Vec<Name>,
}

/// Sessions in this process's memory.
#[derive(Debug)]
pub struct MemoryStore {
    limits: ArcSwap<StoreLimits>,
    sessions: DashMap<u128, Held>,
    names: DashMap<u128, (SessionId, u128)>,
    running: AtomicUsize,
    running_by_principal: DashMap<Principal, usize>,
    /// What all rings take. A ring may be given back before it was counted, so it can be below zero for a moment.
    bytes: AtomicIsize,
    /// Held by whoever makes room. Only then is more counted than may be taken, or after the bound was lowered.
    room: Mutex<()>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            sessions: DashMap::new(),
            names: DashMap::new(),
            running: AtomicUsize::new(0),
            running_by_principal: DashMap::new(),
            bytes: AtomicIsize::new(0),
            room: Mutex::new(()),
        }
    }

    /// The session `id`, if it is held here and `principal`'s.
    pub(super) fn get(&self, id: SessionId, principal: Principal) -> Option<Arc<LiveSession>> {
        let held = self.sessions.get(&id.as_u128())?;
        (held.session.principal == principal).then(|| Arc::clone(&held.session))
    }

    /// Whether a session is held here, whoever it belongs to.
    pub(super) fn holds(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id.as_u128())
    }

    /// Holds a session that another process reads; the one that is here already, if there is one. It takes no place
    /// among the running ones.
    pub(super) fn hold(&self, session: Arc<LiveSession>) -> Arc<LiveSession> {
        let held = self.sessions.entry(session.id.as_u128()).or_insert(Held { session, names: Vec::new() });
        Arc::clone(&held.session)
    }

    /// A session that was [held](Self::hold) is read here from now on. It is not asked whether there is room: its
    /// clients are here already.
    pub(super) fn began(&self, session: &LiveSession) {
        self.running.fetch_add(1, Ordering::Relaxed);
        if session.principal != Principal::ANYBODY {
            *self.running_by_principal.entry(session.principal).or_insert(0) += 1;
        }
    }

    fn admit(&self, session: &LiveSession) -> Result<(), Fault> {
        let full = |limit, what| {
            metrics::refused(limit);
            Err(Fault::new(Code::Overloaded).message(what))
        };
        if self.over() > 0 && !self.make_room(None) {
            return full("ring_bytes", "The memory for replay is used up (limits.ring_bytes).");
        }
        let room = |running| (running < self.limits.load().sessions).then_some(running + 1);
        if self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return full("sessions", "This proxy reads as many streams as it may (limits.sessions).");
        }
        if session.principal != Principal::ANYBODY {
            let mut count = self.running_by_principal.entry(session.principal).or_insert(0);
            if *count >= self.limits.load().sessions_per_principal {
                self.running.fetch_sub(1, Ordering::Relaxed);
                let what = "This caller has as many streams as it may (limits.sessions_per_principal).";
                return full("sessions_per_principal", what);
            }
            *count += 1;
        }
        Ok(())
    }

    /// What a known Idempotency-Key leads to. Whoever joins needs no place of their own.
    pub(super) fn known(&self, session: &LiveSession, name: &Name) -> Option<Opened> {
        let Name::Once { key, fingerprint } = name else { return None };
        let (id, filed) = *self.names.get(key)?;
        self.joinable(id, session.principal).map(|other| joined(other, filed == *fingerprint))
    }

    /// The session under a second name.
    pub(super) fn named(&self, key: u128, principal: Principal) -> Option<Arc<LiveSession>> {
        let id = self.names.get(&key).map(|entry| entry.0)?;
        self.get(id, principal)
    }

    /// A session that a repeated request may join: one that has not failed.
    fn joinable(&self, id: SessionId, principal: Principal) -> Option<Arc<LiveSession>> {
        self.get(id, principal).filter(|session| !has_failed(session))
    }

    /// Files the session's name, or says why it cannot have it.
    fn file(&self, session: &LiveSession, name: Name) -> Option<Opened> {
        match name {
            Name::Newest(key) => {
                self.names.insert(key, (session.id, 0));
                None
            }
            Name::Once { key, fingerprint } => match self.names.entry(key) {
                Entry::Vacant(place) => {
                    place.insert((session.id, fingerprint));
                    None
                }
                Entry::Occupied(mut place) => {
                    let (id, known) = *place.get();
                    match self.joinable(id, session.principal) {
                        Some(other) => Some(joined(other, known == fingerprint)),
                        None => {
                            place.insert((session.id, fingerprint));
                            None
                        }
                    }
                }
            },
        }
    }

    /// Forgets a session; the names that led to it.
    pub(super) fn forget(&self, id: SessionId) -> Vec<Name> {
        let Some((_, held)) = self.sessions.remove(&id.as_u128()) else { return Vec::new() };
        for Name::Newest(key) | Name::Once { key, .. } in &held.names {
            self.names.remove_if(key, |_, (named, _)| *named == id);
        }
        self.count(&held.session, 0);
        held.names
    }

    /// Finished sessions, the one that ended first in front.
    fn finished(&self) -> Vec<(Duration, SessionId)> {
        let ended = |held: &Held| held.session.log.peek(|log| log.ended);
        let mut finished: Vec<_> =
            self.sessions.iter().filter_map(|held| Some((ended(&held)?, held.session.id))).collect();
        finished.sort_unstable_by_key(|(ended, _)| *ended);
        finished
    }

    /// Counts `footprint` bytes for `session` instead of what was counted before.
    fn count(&self, session: &LiveSession, footprint: usize) {
        let counted = session.charged.swap(footprint, Ordering::Relaxed);
        self.bytes.fetch_add(signed(footprint) - signed(counted), Ordering::Relaxed);
    }

    /// The same if there is room for it.
    fn count_if_it_fits(&self, session: &LiveSession, footprint: usize) -> bool {
        let counted = session.charged.load(Ordering::Relaxed);
        let growth = signed(footprint) - signed(counted);
        let most = signed(self.limits.load().ring_bytes);
        let fits = |bytes| (growth <= 0 || bytes + growth <= most).then_some(bytes + growth);
        let fits = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if fits {
            // Whoever else has counted for it meanwhile counted from the same.
            let between = session.charged.swap(footprint, Ordering::Relaxed);
            self.bytes.fetch_add(signed(counted) - signed(between), Ordering::Relaxed);
        }
        fits
    }

    /// So many bytes more are taken than may be.
    fn over(&self) -> usize {
        let over = self.bytes.load(Ordering::Relaxed) - signed(self.limits.load().ring_bytes);
        usize::try_from(over).unwrap_or(0)
    }

    /// Counts what `growing` takes now, if any, and makes room: by finished sessions, then by its own oldest events.
    /// `false` if all that was not enough.
    fn make_room(&self, growing: Option<&LiveSession>) -> bool {
        let _alone = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(growing) = growing {
            self.count(growing, growing.log.footprint());
        }
        if self.over() > 0 {
            self.finished().into_iter().take_while(|_| self.over() > 0).for_each(|(_, id)| drop(self.forget(id)));
        }
        if let (Some(growing), over @ 1..) = (growing, self.over()) {
            growing.log.update(|log| {
                let target = log.ring.footprint().saturating_sub(over);
                log.ring.shrink_to(target)
            });
            self.count(growing, growing.log.footprint());
        }
        self.over() == 0
    }
}

/// Sizes of memory fit.
fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

/// What a name leads to whose session may be joined.
pub(super) fn joined(session: Arc<LiveSession>, same_request: bool) -> Opened {
    if same_request { Opened::Joined(session) } else { Opened::Mismatch }
}

/// Whether a session came to a bad end.
pub(super) fn has_failed(session: &LiveSession) -> bool {
    session.log.peek(|log| log.ended.is_some() && log.ring.end().is_none_or(|end| end.fault().is_some()))
}

impl SessionStore for MemoryStore {
    fn open<'a>(&'a self, session: Arc<LiveSession>, names: Vec<Name>) -> Answer<'a, Opened> {
        Box::pin(async move {
            let id = session.id;
            if let Some(known) = names.iter().find_map(|name| self.known(&session, name)) {
                return known;
            }
            if let Err(fault) = self.admit(&session) {
                return Opened::Refused(fault);
            }
            // In the map before its name is filed: whoever finds the name must find the session.
            self.sessions.insert(id.as_u128(), Held { session: Arc::clone(&session), names: names.clone() });
            match names.into_iter().find_map(|name| self.file(&session, name)) {
                None => Opened::New,
                Some(taken) => {
                    self.ended(&session);
                    self.forget(id);
                    taken
                }
            }
        })
    }

    fn find<'a>(&'a self, id: SessionId, principal: Principal) -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>> {
        Box::pin(std::future::ready(Ok(self.get(id, principal))))
    }

    fn find_named<'a>(
        &'a self,
        key: u128,
        principal: Principal,
    ) -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>> {
        Box::pin(std::future::ready(Ok(self.named(key, principal))))
    }

    fn remove<'a>(&'a self, id: SessionId) -> Answer<'a, ()> {
        self.forget(id);
        Box::pin(std::future::ready(()))
    }

    fn charge(&self, session: &LiveSession) {
        let footprint = session.log.footprint();
        if footprint != session.charged.load(Ordering::Relaxed) {
            if !self.count_if_it_fits(session, footprint) {
                self.make_room(Some(session));
            }
            if !self.holds(session.id) {
                self.count(session, 0); // forgotten meanwhile: its last events are nobody's any more
            }
        }
        let evicted = session.log.evicted();
        if evicted > session.evicted.load(Ordering::Relaxed) {
            metrics::evicted(evicted.saturating_sub(session.evicted.fetch_max(evicted, Ordering::Relaxed)));
        }
    }

    fn ended(&self, session: &LiveSession) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = self.running_by_principal.entry(session.principal) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn sweep(&self, now: Duration) {
        let old = self.finished();
        for (_, id) in old.iter().take_while(|(ended, _)| *ended + self.limits.load().retention <= now) {
            self.forget(*id);
        }
        let orphans = self
            .sessions
            .iter()
            .filter(|held| {
                !held.session.is_ended()
                    && held.session.control.peek(|control| control.owner == Owner::Here && control.attached() == 0)
            })
            .count();
        let bytes = usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0);
        metrics::store_gauges(self.sessions.len(), orphans, bytes);
    }

    fn reconfigure(&self, settings: &Settings) {
        self.limits.store(Arc::new(StoreLimits::of(settings)));
    }

    fn all(&self) -> Vec<Arc<LiveSession>> {
        self.sessions.iter().map(|held| Arc::clone(&held.session)).collect()
    }
}
