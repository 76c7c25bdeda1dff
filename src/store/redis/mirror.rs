//! Sessions that other replicas read and clients here follow: the same [`LiveSession`] as everywhere, filled from
//! Redis instead of by a pump. Doorbells say when to look; a look now and then makes up for one that was lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use streamkeeper_session::{Code, Ring, RingLimits, SessionId};

use super::keys::Replica;
use super::link::Trouble;
use super::meta::{Meta, Opening};
use super::record::{Entry, EntryId, Record};
use super::shared::Shared;
use crate::config;
use crate::store::{LiveSession, Log, Origin, Owner, Phase, Refusal, SessionStore as _};
use crate::telemetry::metrics;

/// Entries read in one go.
const PAGE: usize = 512;
/// A hash that Redis has dropped is looked for so often, with this pause between two looks.
const REWRITES: usize = 20;
const REWRITE: Duration = Duration::from_millis(50);

/// A session that is read elsewhere.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) session: Arc<LiveSession>,
    state: Mutex<State>,
}

/// What the store knows of it.
#[derive(Debug)]
pub(super) struct State {
    /// Who reads it, as far as is known.
    pub(super) owner: Option<Replica>,
    /// The newest entry that was read.
    pub(super) last: Option<EntryId>,
    /// So many clients its owner was told of, and when.
    pub(super) told: usize,
    pub(super) told_at: Duration,
    /// Since when nobody here reads it.
    pub(super) idle_since: Option<Duration>,
    /// When it was looked at last.
    pub(super) looked_at: Duration,
    /// Its client asked for its end.
    pub(super) stop: bool,
    /// This process is about to own it: what is read from here on is its own.
    pub(super) retired: bool,
}

impl Mirror {
    pub(super) fn new(session: Arc<LiveSession>, owner: Option<Replica>, now: Duration) -> Self {
        let state = State {
            owner,
            last: None,
            told: 0,
            told_at: now,
            idle_since: None,
            looked_at: Duration::ZERO,
            stop: false,
            retired: false,
        };
        Self { session, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads whenever a mirror is to be looked at and Redis is there.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ids = Vec::new();
    loop {
        shared.link.until_up().await;
        shared.looks.filled().await;
        shared.looks.take(&mut ids);
        ids.sort_unstable();
        ids.dedup();
        let mirrors: Vec<_> = ids.iter().filter_map(|id| shared.mirror(*id)).collect();
        if look(&shared, &mirrors).await.is_err() {
            for mirror in mirrors {
                shared.looks.push(mirror.session.id);
            }
        }
    }
}

/// Reads what is new of `mirrors`, to the end.
///
/// # Errors
/// When Redis could not be asked.
pub(super) async fn look(shared: &Shared, mirrors: &[Arc<Mirror>]) -> Result<(), Trouble> {
    let mut left: Vec<_> = mirrors.to_vec();
    while !left.is_empty() {
        let mut commands = Vec::new();
        for mirror in &left {
            commands.push(entries_after(shared, mirror.session.id, mirror.lock().last));
        }
        let asked_for_hash: Vec<_> = left.iter().filter(|mirror| mirror.wants_hash()).cloned().collect();
        commands.extend(asked_for_hash.iter().map(|mirror| hash(shared, mirror.session.id)));
        let mut answers = shared.link.ask(commands).await?.into_iter();
        let mut more = Vec::new();
        for (mirror, page) in left.into_iter().zip(answers.by_ref()) {
            if mirror.take(shared, page?) {
                more.push(mirror);
            } else {
                mirror.see_to_owner(shared.me);
            }
        }
        for (mirror, meta) in asked_for_hash.into_iter().zip(answers) {
            if let Some(meta) = Meta::read(meta?) {
                mirror.take_meta(meta);
            }
        }
        left = more;
    }
    Ok(())
}

fn hash(shared: &Shared, id: SessionId) -> Cmd {
    let mut get = cmd("HGETALL");
    get.arg(shared.keys.meta(id));
    get
}

fn entries_after(shared: &Shared, id: SessionId, last: Option<EntryId>) -> Cmd {
    let mut range = cmd("XRANGE");
    range.arg(shared.keys.log(id));
    match last {
        Some(last) => range.arg(format!("({last}")),
        None => range.arg("-"),
    };
    range.arg("+").arg("COUNT").arg(PAGE);
    range
}

impl Mirror {
    /// Whether there is something that only the hash can tell.
    fn wants_hash(&self) -> bool {
        self.lock().owner.is_none() || self.session.log.peek(|log| matches!(log.phase, Phase::Pending))
    }

    fn take_meta(&self, meta: Meta) {
        let mut state = self.lock();
        // What a mark in the stream said is newer than the hash, unless the hash is all there is.
        if state.owner.is_none() {
            state.owner = meta.owner;
        }
        drop(state);
        if let Some(opening) = meta.opening
            && self.session.log.peek(|log| matches!(log.phase, Phase::Pending))
        {
            self.session.log.update(|log| open(log, opening));
        }
    }

    /// Takes in a page of entries. `true` if there may be more.
    fn take(&self, shared: &Shared, page: Value) -> bool {
        let now = shared.clock.now();
        let Value::Array(page) = page else { return false };
        let full = page.len() == PAGE;
        {
            let mut state = self.lock();
            state.looked_at = now;
            if page.is_empty() || state.retired {
                return false;
            }
        }
        let mut owner = None;
        let mut last = None;
        let understood = self.session.log.update(|log| {
            for entry in page {
                let Some(entry) = Entry::read(entry) else { return false };
                last = Some(entry.id);
                if let Some(replica) = apply(log, entry, shared.session(), now) {
                    owner = Some(replica);
                }
            }
            true
        });
        if !understood {
            self.part();
        }
        {
            let mut state = self.lock();
            state.last = last.or(state.last);
            state.owner = owner.or(state.owner);
        }
        if owner.is_some() {
            self.session.control.update(|control| control.owner = Owner::Elsewhere);
        }
        shared.local.charge(&self.session);
        full && understood
    }

    /// All there is was read. If the newest mark is this process's own it owns the session for all others, but not for
    /// itself: its mark was written, and it never heard so. Whoever stands by here has to try again.
    fn see_to_owner(&self, me: Replica) {
        let stale = {
            let state = self.lock();
            state.owner == Some(me) && !state.retired
        };
        if stale && !self.session.is_ended() && self.session.control.peek(|control| control.owner != Owner::Nobody) {
            self.session.control.update(|control| control.owner = Owner::Nobody);
        }
    }

    /// What follows cannot be read here. That does not change, so its readers are told, once.
    fn part(&self) {
        if self.session.log.peek(|log| log.parted.is_some()) {
            return;
        }
        tracing::warn!(session = %self.session.id, "an entry in Redis is not one that this version reads");
        self.session.log.update(|log| log.parted = Some(Code::StoreUnavailable));
    }
}

/// A session of another replica, as far as Redis has it; `None` if there is none of this id.
///
/// # Errors
/// When Redis could not be asked.
pub(super) async fn load(shared: &Shared, id: SessionId) -> Result<Option<Arc<Mirror>>, Trouble> {
    let Some((meta, page)) = beginning(shared, id).await? else { return Ok(None) };
    let Some(route) = shared.route(&meta.route) else {
        tracing::warn!(session = %id, route = meta.route, "a session of a route that this replica does not have");
        return Ok(None);
    };
    let Some(dialect) = crate::dialect::by_name(&meta.dialect, &route) else { return Ok(None) };
    let now = shared.clock.now();
    let session = LiveSession::new(
        Origin {
            id,
            principal: meta.principal,
            request_id: meta.request_id,
            fingerprint: meta.fingerprint,
            route,
            dialect,
            note: meta.note,
            started: now,
        },
        shared.session(),
    );
    session.control.update(|control| control.owner = Owner::Elsewhere);
    if let Some(opening) = meta.opening {
        session.log.update(|log| open(log, opening));
    }
    let mirror = Arc::new(Mirror::new(Arc::new(session), meta.owner, now));
    match mirror.take(shared, page) {
        true => look(shared, &[Arc::clone(&mirror)]).await?,
        false => mirror.see_to_owner(shared.me),
    }
    if meta.owner.is_none() {
        mirror.lock().owner = None;
        mirror.session.control.update(|control| control.owner = Owner::Nobody);
    }
    Ok(Some(mirror))
}

/// What the hash of a session says, and its first page. If Redis has dropped the hash alone its owner writes it again with
/// its next event; that is waited for.
async fn beginning(shared: &Shared, id: SessionId) -> Result<Option<(Meta, Value)>, Trouble> {
    for _ in 0..REWRITES {
        let answers = shared.link.ask(vec![hash(shared, id), entries_after(shared, id, None)]).await?;
        let [meta, page] = <[_; 2]>::try_from(answers).unwrap_or([Ok(Value::Nil), Ok(Value::Nil)]);
        let page = page?;
        if let Some(meta) = Meta::read(meta?) {
            return Ok(Some((meta, page)));
        }
        if !matches!(&page, Value::Array(page) if !page.is_empty()) {
            return Ok(None);
        }
        tokio::time::sleep(REWRITE).await;
    }
    Ok(None)
}

fn open(log: &mut Log, opening: Opening) {
    log.numbering = opening.numbering;
    log.source = opening.source;
    log.headers = opening.headers;
    log.phase = Phase::Open;
}

/// Takes one entry into a log. The owner, if it names a new one.
fn apply(log: &mut Log, entry: Entry, limits: config::Session, now: Duration) -> Option<Replica> {
    let EntryId { epoch, seq } = entry.id;
    match entry.record {
        Record::Owner(replica) => {
            // What an earlier owner wrote beyond this mark is void.
            log.ring.truncate(seq + 1);
            log.epochs.begin(epoch, seq + 1);
            return Some(replica);
        }
        Record::Event { body, kept, splice } => {
            if epoch > log.epochs.current() {
                log.epochs.begin(epoch, seq); // its mark is gone
            }
            if let Some(splice) = splice {
                log.epochs.settle(splice);
            }
            if log.ring.is_empty() && log.ring.next_seq() == 1 && seq > 1 {
                let limits = RingLimits { max_events: limits.max_events, max_bytes: limits.max_bytes };
                log.ring = Ring::starting_at(limits, seq);
            }
            if seq > log.ring.next_seq() {
                metrics::store_error("lost");
                log.ring.lose_until(seq);
            }
            if seq == log.ring.next_seq() {
                let _ = log.ring.push(&body, kept.as_deref());
                log.last_event = Some(now);
            }
        }
        Record::Sealed(end) => {
            // A failure of a stream is an event before it is an end. Without one there never was a stream.
            let refused = end.fault().filter(|_| matches!(log.phase, Phase::Pending) && log.ring.next_seq() == 1);
            log.phase = match refused {
                Some(fault) => Phase::Refused(Arc::new(Refusal { fault: fault.clone(), answer: None })),
                None => Phase::Open,
            };
            if log.ring.seal(end) {
                log.ring.compact();
                log.ended = Some(now);
            }
        }
    }
    None
}
