//! A store under test, sessions to put into it, and what a reader makes of them. The bench plays the pump: it writes
//! to a session's log and says so to the store.

#![allow(dead_code, reason = "more than one binary uses a part of this")]

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Generic, Route, env};
use streamkeeper::dialect::GenericDialect;
use streamkeeper::principal::{Keyed, Principal};
use streamkeeper::store::{
    Durability, LiveSession, Log, Name, Numbering, Opened, Origin, Owner, Phase, SessionStore, StoreLimits,
};
use streamkeeper_session::{Code, End, Gap, Record, SessionId};

use super::stores::{Make, Stores};
use crate::replicas_support::{Line, PATIENCE, Redis, Word, eventually};

pub(crate) const KIB: usize = 1024;
/// How long a finished session is kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(300);
/// Enough of everything.
pub(crate) const ROOMY: StoreLimits =
    StoreLimits { sessions: 100, sessions_per_principal: 50, ring_bytes: 1024 * KIB, retention: RETENTION };
/// Bounds of one session.
pub(crate) const SESSION: config::Session =
    config::Session { max_events: 1000, max_bytes: 256 * KIB, retention: RETENTION };
/// Longer than any case takes.
const LEASE: Duration = Duration::from_secs(60);
/// The payload of one event, so that ten of them outgrow a store of eight.
const PIECE: [u8; KIB] = [b'x'; KIB];

/// A store under test.
pub(crate) struct Bench(Stores);

impl Deref for Bench {
    type Target = Stores;

    fn deref(&self) -> &Stores {
        &self.0
    }
}

/// The one route of all sessions.
pub(crate) fn route() -> Arc<Route> {
    static ROUTE: OnceLock<Arc<Route>> = OnceLock::new();
    let parse = || {
        let text = "[[upstreams]]\nname = \"llm\"\nendpoints = [\"http://127.0.0.1:1\"]\n";
        config::parse(text, &env::Process).expect("a valid configuration").routes.remove(0)
    };
    Arc::clone(ROUTE.get_or_init(parse))
}

/// The principal of this credential.
pub(crate) fn caller(token: &str) -> Principal {
    static KEYED: OnceLock<Keyed> = OnceLock::new();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, token.parse().expect("a header"))]);
    KEYED.get_or_init(|| Keyed::new(&Entropy::seeded(1))).principal(&headers, &[])
}

/// A session that begins at zero and says nothing.
pub(crate) fn session(principal: Principal) -> Arc<LiveSession> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let origin = Origin {
        note: None,
        id: SessionId::from_random(u128::from(NEXT.fetch_add(1, Ordering::Relaxed))),
        principal,
        request_id: "r1".to_owned(),
        fingerprint: 1,
        route: route(),
        dialect: Arc::new(GenericDialect::new(Generic::default())),
        started: Duration::ZERO,
    };
    Arc::new(LiveSession::new(origin, SESSION))
}

pub(crate) fn once(key: u128, fingerprint: u128) -> Vec<Name> {
    vec![Name::Once { key, fingerprint }]
}

/// Appends one event, as a pump of `store` does.
pub(crate) fn push(store: &dyn SessionStore, session: &LiveSession, body: &[u8], kept: Option<&[u8]>) {
    session.log.update(|log| {
        log.phase = Phase::Open;
        if log.numbering == Numbering::Open {
            log.numbering = Numbering::Issued;
        }
        log.ring.push(body, kept).expect("an open log takes a piece")
    });
    store.charge(session);
}

/// Ends a session, as a pump of `store` does.
pub(crate) fn end(store: &dyn SessionStore, session: &LiveSession, at: Duration, end: End) {
    session.log.update(|log| {
        log.phase = Phase::Open;
        log.ended = Some(at);
        assert!(log.ring.seal(end), "ended twice");
    });
    store.charge(session);
    store.ended(session);
}

pub(crate) fn failed() -> End {
    End::Failed(Box::new(Code::UpstreamReset.into()))
}

/// One thing that a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Event { epoch: u32, seq: u64, body: Vec<u8>, kept: Option<Vec<u8>> },
    End(Option<Code>),
}

/// What a reader at this position gets.
pub(crate) fn replay(session: &LiveSession, from: u64) -> Result<Vec<Said>, Gap> {
    session.log.peek(|log| said(log, from))
}

fn said(log: &Log, from: u64) -> Result<Vec<Said>, Gap> {
    let said = |record: Record<'_, End>| match record {
        Record::Event(entry) => {
            let (body, kept) = (entry.body.to_vec(), entry.id.map(<[u8]>::to_vec));
            Said::Event { epoch: log.epochs.of(entry.seq), seq: entry.seq, body, kept }
        }
        Record::Sealed(end) => Said::End(end.fault().map(|fault| fault.code)),
    };
    Ok(log.ring.iter_from(from)?.map(said).collect())
}

/// Reads a session as a client does: attached, woken for what is new, until its end.
pub(crate) async fn read(session: Arc<LiveSession>) -> Vec<Said> {
    let _attached = session.attach(usize::MAX).expect("room for a client");
    let mut follower = session.log.follow();
    let (mut all, mut next) = (Vec::new(), 1);
    while !matches!(all.last(), Some(Said::End(_))) {
        let news = poll_fn(|cx| {
            follower.poll(cx, |log| {
                let news = said(log, next).expect("no gap before a reader who keeps up");
                (!news.is_empty()).then_some(news)
            })
        });
        let news = tokio::time::timeout(PATIENCE, news).await;
        let news = news.unwrap_or_else(|_| panic!("waited in vain for event {next}"));
        next += news.len() as u64;
        all.extend(news);
    }
    all
}

/// Waits until `store` finds the session.
pub(crate) async fn found(store: &dyn SessionStore, session: &LiveSession) -> Arc<LiveSession> {
    let mut found = None;
    eventually("the session to be found", async || {
        found = store.find(session.id, session.principal).await.expect("the store can tell");
        found.is_some()
    })
    .await;
    found.expect("it was found")
}

/// Waits until `session` says the same as `original`, from `from` on.
pub(crate) async fn agrees(session: &LiveSession, original: &LiveSession, from: u64) {
    let what = format!("a log to become {:?}", replay(original, from).map(|said| said.len()));
    eventually(&what, async || replay(session, from) == replay(original, from)).await;
}

/// Waits until this handle's session has this owner.
pub(crate) async fn owner_is(session: &LiveSession, owner: Owner) {
    eventually(&format!("{owner:?} to own it"), async || session.control.peek(|control| control.owner == owner)).await;
}

/// Waits until a store keeps sessions where it should.
async fn ready(store: &dyn SessionStore) {
    let wanted = if store.is_shared() { Durability::Redis } else { Durability::Memory };
    eventually("the store to be there", async || {
        store.ready().await;
        store.durability() == wanted
    })
    .await;
}

pub(crate) async fn bench(make: Make, limits: StoreLimits) -> Bench {
    leased(make, limits, LEASE).await
}

/// With a lease that matters.
pub(crate) async fn leased(make: Make, limits: StoreLimits, lease: Duration) -> Bench {
    let stores = make(limits, lease);
    ready(&*stores.near).await;
    ready(&*stores.far).await;
    Bench(stores)
}

impl Bench {
    /// A further handle that is ready, and has seen nothing yet.
    pub(crate) async fn third(&self) -> Arc<dyn SessionStore> {
        let store = (self.another)();
        ready(&*store).await;
        store
    }

    /// The line between `near` and what is shared.
    pub(crate) fn line(&self) -> &Line {
        self.0.line.as_ref().expect("the case is for shared stores")
    }

    /// Asks what is shared. In `words`, `log`, `meta` and `name <n>` stand for the keys of `session` and of a name.
    pub(crate) async fn redis(&self, session: &LiveSession, words: &[&str]) -> Word {
        let (port, prefix) = self.0.redis.as_ref().expect("the case is for Redis");
        let mut redis = Redis::down();
        redis.port = *port;
        let words = words.iter().map(|word| match (*word, word.strip_prefix("name ")) {
            ("log" | "meta", _) => format!("{prefix}:1:{{{}}}:{word}", session.id),
            (_, Some(name)) => format!("{prefix}:1:name:{:032x}", name.parse::<u128>().expect("a number")),
            _ => (*word).to_owned(),
        });
        redis.command(&words.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// `far` goes away as one does: what it has is written, and its sessions are nobody's.
    pub(crate) async fn dismiss_far(&mut self) {
        let far = std::mem::replace(&mut self.0.far, Arc::clone(&self.0.near));
        far.close().await;
    }

    /// `near` dies without a word.
    pub(crate) fn kill_near(&mut self) {
        let near = std::mem::replace(&mut self.0.near, Arc::clone(&self.0.far));
        assert_eq!(Arc::strong_count(&near), 1, "somebody holds it");
    }

    pub(crate) async fn open(&self, session: &Arc<LiveSession>, names: Vec<Name>) -> Opened {
        self.near.open(Arc::clone(session), names).await
    }

    /// A session that must be let in.
    pub(crate) async fn let_in(&self, principal: Principal, names: Vec<Name>) -> Arc<LiveSession> {
        let session = session(principal);
        let opened = self.open(&session, names).await;
        assert!(matches!(opened, Opened::New), "{opened:?}");
        session
    }

    /// Why a session of this caller is not let in.
    pub(crate) async fn refused(&self, principal: Principal) -> Code {
        match self.open(&session(principal), Vec::new()).await {
            Opened::Refused(fault) => fault.code,
            opened => panic!("it was let in: {opened:?}"),
        }
    }

    /// Whether the session is found near.
    pub(crate) async fn has(&self, session: &LiveSession) -> bool {
        self.find(session.id, session.principal).await.is_some()
    }

    /// Whether the session takes memory near, wherever else it is.
    pub(crate) fn holds(&self, session: &LiveSession) -> bool {
        self.near.all().iter().any(|held| held.id == session.id)
    }

    pub(crate) async fn find(&self, id: SessionId, principal: Principal) -> Option<Arc<LiveSession>> {
        self.near.find(id, principal).await.expect("the store can tell")
    }

    pub(crate) async fn find_named(&self, key: u128, principal: Principal) -> Option<Arc<LiveSession>> {
        self.near.find_named(key, principal).await.expect("the store can tell")
    }

    /// Appends pieces near and says so to the store after each.
    pub(crate) fn grow(&self, session: &LiveSession, pieces: usize) {
        for _ in 0..pieces {
            push(&*self.near, session, &PIECE, None);
        }
    }

    pub(crate) fn end(&self, session: &LiveSession, at: Duration, how: End) {
        end(&*self.near, session, at, how);
    }

    /// Where it was begun.
    pub(crate) fn complete_at(&self, near: bool, session: &LiveSession) {
        let store = if near { &self.near } else { &self.far };
        end(&**store, session, Duration::ZERO, End::Completed);
    }

    pub(crate) fn complete(&self, session: &LiveSession, at: u64) {
        self.end(session, Duration::from_secs(at), End::Completed);
    }
}
