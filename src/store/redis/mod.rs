//! Sessions in Redis Streams, so that any replica can go on with what another one began.
//!
//! Every process works on sessions in its own memory, as without Redis: a pump appends, clients read. Beside that
//! the [`writer`] writes behind the pumps, [`mirror`] fills sessions that other replicas read, and the [`keeper`]
//! holds connection and lease. A session belongs to the replica whose mark is the newest in its stream; a mark
//! has a higher epoch than all before, and Redis refuses entries of a lower one, so nobody can write to what was
//! taken from them.
//!
//! Redis holds events, and keyed hashes of who may see them. It never holds a request or a credential.

mod batch;
mod bell;
mod keeper;
mod keys;
mod link;
mod meta;
mod mirror;
mod names;
mod record;
mod shared;
mod takeover;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, cmd};
use streamkeeper_session::{Code, End, Fault, SessionId};
use tokio::task::JoinSet;

use self::batch::Written;
use self::bell::Bell;
use self::keys::Replica;
use self::link::{Link, Trouble};
use self::mirror::Mirror;
use self::shared::Shared;
use self::writer::Owned;
use super::memory::{has_failed, joined};
use super::{Answer, Durability, LiveSession, MemoryStore, Name, Opened, Phase, Refusal, SessionStore};
use crate::clock::{Clock, Entropy};
use crate::config::{self, OnFailure, Route, Settings};
use crate::principal::Principal;
use crate::telemetry::metrics;

/// So often a name that changes hands is asked for again.
const CLAIMS: usize = 4;

/// Sessions that all replicas share.
#[derive(Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
    /// Ends with the store.
    _tasks: JoinSet<()>,
}

impl RedisStore {
    /// A store before `local`, whose limits hold for this process. Connects in the background; call inside a runtime.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn start(
        settings: config::Redis,
        session: config::Session,
        routes: Vec<Arc<Route>>,
        local: MemoryStore,
        clock: Clock,
        entropy: &Entropy,
    ) -> io::Result<Self> {
        let link = Link::new(&settings)?;
        let me = Replica::new(entropy.u64());
        let shared = Arc::new(Shared::new(me, settings, session, routes, clock, link, local));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper::run(Arc::clone(&shared)));
        tasks.spawn(keeper::hear(Arc::clone(&shared)));
        tasks.spawn(writer::run(Arc::clone(&shared)));
        tasks.spawn(mirror::run(Arc::clone(&shared)));
        Ok(Self { shared, _tasks: tasks })
    }

    /// What all replicas know and nobody else: the configured secret, else the password of Redis.
    pub fn secret(settings: &config::Redis) -> String {
        let given = settings.secret.as_ref().or(settings.password.as_ref()).map(|secret| secret.expose().to_owned());
        let in_url = || {
            let url = redis::parse_redis_url(settings.urls.first()?.expose())?;
            url.password().map(str::to_owned)
        };
        given.or_else(in_url).unwrap_or_default()
    }

    /// A session here or, by way of a mirror, elsewhere.
    async fn look_for(&self, id: SessionId, principal: Principal) -> Result<Option<Arc<LiveSession>>, Trouble> {
        let shared = &self.shared;
        if shared.local.holds(id) {
            return Ok(shared.local.get(id, principal));
        }
        // One that is just being let in here is not to be followed as if it were another's.
        if let Some(owned) = shared.owned(id).filter(|owned| !owned.lock().removed) {
            return Ok((owned.session.principal == principal).then(|| Arc::clone(&owned.session)));
        }
        if shared.mirror(id).is_some_and(|mirror| mirror.lock().stop) {
            return Ok(None);
        }
        let Some(mirror) = mirror::load(shared, id).await? else { return Ok(None) };
        if mirror.session.principal != principal {
            return Ok(None);
        }
        let held = shared.local.hold(Arc::clone(&mirror.session));
        if Arc::ptr_eq(&held, &mirror.session) {
            shared.local.charge(&held);
            let owner = {
                let mut state = mirror.lock();
                (state.told, state.told_at) = (1, shared.clock.now());
                state.idle_since = Some(state.told_at);
                state.owner
            };
            shared.mirrors.insert(id.as_u128(), mirror);
            // Whoever asked is about to read it.
            if let Some(owner) = owner.filter(|_| !held.is_ended()) {
                shared.ring(vec![(owner, Bell::Attached(shared.me, vec![(id, 1)]))]).await;
            }
        }
        Ok(Some(held))
    }

    /// Files the session's Idempotency-Key where all replicas see it, or finds out whom it leads to.
    async fn claim(&self, session: &Arc<LiveSession>, key: u128, fingerprint: u128) -> Result<Option<Opened>, Trouble> {
        let shared = &self.shared;
        let lifetime = shared.lifetime(&session.route);
        let mut taken = None;
        for _ in 0..CLAIMS {
            if names::claim(shared, key, (session.id, fingerprint), taken.as_ref(), lifetime).await? {
                return Ok(None);
            }
            taken = names::get(shared, key).await?;
            let Some(named) = &taken else { continue };
            let other = self.look_for(named.session, session.principal).await?;
            if let Some(other) = other.filter(|other| !has_failed(other)) {
                return Ok(Some(joined(other, named.fingerprint == fingerprint)));
            }
        }
        Ok(Some(Opened::Refused(Code::Overloaded.into())))
    }

    /// Makes a new session known to other replicas before anybody can be sent to it.
    async fn announce(&self, session: &Arc<LiveSession>) -> Result<(), Trouble> {
        self.own(session, Written::NOTHING);
        writer::flush(&self.shared, &[session.id], true).await
    }

    fn own(&self, session: &Arc<LiveSession>, written: Written) {
        let owned = Owned::new(Arc::clone(session), &self.shared.keys, written);
        self.shared.owned.insert(session.id.as_u128(), Arc::new(owned));
    }

    async fn disown(&self, id: SessionId) {
        self.shared.owned.remove(&id.as_u128());
        self.drop_keys(id, false).await;
    }

    /// The same as [`drop_keys`], behind a flush that may be about to write them.
    async fn drop_keys(&self, id: SessionId, keep_log: bool) {
        let _alone = self.shared.flushing.lock().await;
        drop_keys(&self.shared, id, keep_log).await;
    }

    /// A session of which there will be nothing. Who has joined it meanwhile, by a name that it `claimed`, is told.
    async fn withdraw(&self, session: &Arc<LiveSession>, claimed: Vec<Cmd>, fault: Fault) {
        let shared = &self.shared;
        let _ = shared.link.ask(claimed).await;
        if let Some(owned) = shared.owned(session.id) {
            owned.lock().removed = true;
        }
        let now = shared.clock.now();
        session.log.update(|log| {
            log.ended.get_or_insert(now);
            log.ring.seal(End::Failed(Box::new(fault.clone())));
            if !matches!(log.phase, Phase::Refused(_)) {
                log.phase = Phase::Refused(Arc::new(Refusal { fault, answer: None }));
            }
        });
        let _ = writer::flush(shared, &[session.id], false).await;
    }

    /// The commands that give back what `session` is found by when the same is asked again.
    fn releases(&self, session: SessionId, names: &[Name]) -> Vec<Cmd> {
        let release = |name: &Name| match *name {
            Name::Once { key, fingerprint } => Some(names::release(&self.shared, key, (session, fingerprint))),
            Name::Newest(_) => None,
        };
        names.iter().filter_map(release).collect()
    }

    async fn open_shared(&self, session: Arc<LiveSession>, names: Vec<Name>) -> Opened {
        let shared = &self.shared;
        if let Some(known) = names.iter().find_map(|name| shared.local.known(&session, name)) {
            return known;
        }
        let up = shared.link.is_up();
        if !up && shared.settings.on_failure == OnFailure::Refuse {
            return Opened::Refused(unavailable());
        }
        if up && shared.settings.acknowledged {
            session.log.update(|log| log.shown = 1);
        }
        let (mut newest, mut claimed) = (Vec::new(), Vec::new());
        for name in &names {
            match *name {
                Name::Once { key, fingerprint } if up => {
                    let claim = match self.announce(&session).await {
                        Ok(()) => self.claim(&session, key, fingerprint).await,
                        Err(trouble) => Err(trouble),
                    };
                    match claim {
                        Ok(None) => claimed.push(names::release(shared, key, (session.id, fingerprint))),
                        Ok(Some(opened)) => {
                            self.disown(session.id).await;
                            return opened;
                        }
                        Err(_) if shared.settings.on_failure == OnFailure::Refuse => {
                            shared.owned.remove(&session.id.as_u128());
                            return Opened::Refused(unavailable());
                        }
                        Err(_) => {}
                    }
                }
                Name::Once { .. } => {}
                Name::Newest(key) => newest.push(names::take(shared, key, session.id, shared.lifetime(&session.route))),
            }
        }
        if !shared.owned.contains_key(&session.id.as_u128()) {
            self.own(&session, Written::NOTHING);
        }
        let opened = shared.local.open(Arc::clone(&session), names).await;
        match &opened {
            Opened::New => {}
            Opened::Refused(fault) if !claimed.is_empty() => {
                self.withdraw(&session, claimed, fault.clone()).await;
                return opened;
            }
            _ => {
                self.disown(session.id).await;
                return opened;
            }
        }
        // By the time its client knows of it, so should the others.
        writer::again(shared, &session);
        if !newest.is_empty() {
            let _ = shared.link.ask(newest).await;
        }
        opened
    }
}

/// A session's keys go; with `keep_log` its events stay a moment, for those who are about to read the end of them.
async fn drop_keys(shared: &Shared, id: SessionId, keep_log: bool) {
    let mut del = cmd("DEL");
    del.arg(shared.keys.meta(id));
    if !keep_log {
        del.arg(shared.keys.log(id));
    }
    let _ = shared.link.ask_one(del).await;
}

fn unavailable() -> Fault {
    Code::StoreUnavailable.into()
}

/// What a store that cannot be asked answers.
fn not_told(trouble: Trouble) -> Fault {
    metrics::store_error(trouble.kind());
    unavailable().cause(trouble.to_string())
}

impl SessionStore for RedisStore {
    fn open<'a>(&'a self, session: Arc<LiveSession>, names: Vec<Name>) -> Answer<'a, Opened> {
        Box::pin(self.open_shared(session, names))
    }

    fn find<'a>(&'a self, id: SessionId, principal: Principal) -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>> {
        Box::pin(async move { self.look_for(id, principal).await.map_err(not_told) })
    }

    fn find_named<'a>(
        &'a self,
        key: u128,
        principal: Principal,
    ) -> Answer<'a, Result<Option<Arc<LiveSession>>, Fault>> {
        Box::pin(async move {
            if let Some(session) = self.shared.local.named(key, principal) {
                return Ok(Some(session));
            }
            match names::get(&self.shared, key).await.map_err(not_told)? {
                Some(named) => self.look_for(named.session, principal).await.map_err(not_told),
                None => Ok(None),
            }
        })
    }

    fn remove<'a>(&'a self, id: SessionId) -> Answer<'a, ()> {
        Box::pin(async move {
            let names = self.shared.local.forget(id);
            if let Some(mirror) = self.shared.mirror(id) {
                // Its owner drops the keys. If that is gone, the keeper does.
                mirror.lock().stop = true;
                return keeper::stop_elsewhere(&self.shared).await;
            }
            if let Some(owned) = self.shared.owned(id) {
                owned.lock().removed = true;
                let refused = owned.session.log.peek(|log| match &log.phase {
                    Phase::Refused(refusal) => Some(refusal.fault.clone()),
                    Phase::Pending | Phase::Open => None,
                });
                if let Some(fault) = refused {
                    let claimed = self.releases(id, &names);
                    // Without a name nobody can know of it.
                    if claimed.is_empty() {
                        return self.disown(id).await;
                    }
                    return self.withdraw(&owned.session, claimed, fault).await;
                }
            }
            self.drop_keys(id, true).await;
        })
    }

    fn charge(&self, session: &LiveSession) {
        self.shared.local.charge(session);
        writer::again(&self.shared, session);
    }

    fn ended(&self, session: &LiveSession) {
        self.shared.local.ended(session);
    }

    fn sweep(&self, now: Duration) {
        // Here, not in the keeper: it matters most while Redis is away.
        metrics::store_behind(self.shared.news.len());
        self.shared.local.sweep(now);
        // What the budget made us forget is not kept for Redis' sake.
        self.shared.owned.retain(|_, owned| {
            let ended = owned.session.is_ended();
            !ended || owned.lock().removed || self.shared.local.holds(owned.session.id)
        });
    }

    fn reconfigure(&self, settings: &Settings) {
        self.shared.local.reconfigure(settings);
        self.shared.set_rules(settings.session, settings.routes.clone());
    }

    fn all(&self) -> Vec<Arc<LiveSession>> {
        self.shared.local.all()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn durability(&self) -> Durability {
        if self.shared.link.is_up() { Durability::Redis } else { Durability::Memory }
    }

    fn ready(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let _ = tokio::time::timeout(self.shared.settings.timeout, self.shared.link.until_up()).await;
        })
    }

    fn in_doubt(&self) -> bool {
        self.shared.link.is_up() && self.shared.lease_overdue()
    }

    fn take_over<'a>(&'a self, session: &'a Arc<LiveSession>) -> Answer<'a, bool> {
        Box::pin(async move { self.take_over_shared(session).await.unwrap_or(false) })
    }

    fn handed_over(&self, session: &Arc<LiveSession>) {
        self.shared.local.ended(session);
        if session.log.peek(|log| log.parted.is_some()) {
            return;
        }
        // From here on everything in the log comes from Redis; what it never took nobody is to see.
        session.log.update(|log| {
            log.ring.truncate(log.shown);
            log.shown = u64::MAX;
        });
        let mirror = Mirror::new(Arc::clone(session), None, self.shared.clock.now());
        self.shared.mirrors.insert(session.id.as_u128(), Arc::new(mirror));
        self.shared.looks.push(session.id);
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let shared = &self.shared;
            let (mut ids, mut heirs) = (Vec::new(), Vec::new());
            for owned in &shared.owned {
                ids.push(owned.session.id);
                heirs.extend(owned.lock().followers.replicas());
            }
            let _ = writer::flush(shared, &ids, false).await;
            let mut releases: Vec<_> = ids.iter().map(|id| meta::release(&shared.keys.meta(*id))).collect();
            let mut lease = cmd("DEL");
            lease.arg(shared.keys.lease(shared.me));
            releases.push(lease);
            let _ = shared.link.ask(releases).await;
            heirs.sort_unstable_by_key(Replica::to_string);
            heirs.dedup();
            shared.ring(heirs.into_iter().map(|heir| (heir, Bell::Gone(shared.me))).collect()).await;
        })
    }
}
