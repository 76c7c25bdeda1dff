//! A store under test, and sessions to put into it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Generic, Route, env};
use streamkeeper::dialect::GenericDialect;
use streamkeeper::principal::{Keyed, Principal};
use streamkeeper::store::{LiveSession, Name, Opened, Origin, Phase, SessionStore, StoreLimits};
use streamkeeper_session::{Code, End, SessionId};

pub(crate) const KIB: usize = 1024;
/// How long a finished session is kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(300);
/// Enough of everything.
pub(crate) const ROOMY: StoreLimits =
    StoreLimits { sessions: 100, sessions_per_principal: 50, ring_bytes: 1024 * KIB, retention: RETENTION };
/// The payload of one event, so that ten of them outgrow a store of eight.
const PIECE: [u8; KIB] = [b'x'; KIB];

/// A store under test.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn SessionStore>,
}

/// Makes a store with these limits.
pub(crate) type Make = fn(StoreLimits) -> Arc<dyn SessionStore>;

fn route() -> Arc<Route> {
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
    let limits = config::Session { max_events: 1000, max_bytes: 256 * KIB, retention: RETENTION };
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
    Arc::new(LiveSession::new(origin, limits))
}

pub(crate) fn once(key: u128, fingerprint: u128) -> Vec<Name> {
    vec![Name::Once { key, fingerprint }]
}

impl Bench {
    pub(crate) async fn open(&self, session: &Arc<LiveSession>, names: Vec<Name>) -> Opened {
        self.store.open(Arc::clone(session), names).await
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

    pub(crate) async fn has(&self, session: &LiveSession) -> bool {
        self.find(session.id, session.principal).await.is_some()
    }

    pub(crate) async fn find(&self, id: SessionId, principal: Principal) -> Option<Arc<LiveSession>> {
        self.store.find(id, principal).await.expect("the store can tell")
    }

    pub(crate) async fn find_named(&self, key: u128, principal: Principal) -> Option<Arc<LiveSession>> {
        self.store.find_named(key, principal).await.expect("the store can tell")
    }

    /// Appends pieces and says so to the store after each.
    pub(crate) fn grow(&self, session: &LiveSession, pieces: usize) {
        for _ in 0..pieces {
            session.log.update(|log| log.ring.push(&PIECE, None)).expect("an open log takes a piece");
            self.store.charge(session);
        }
    }

    pub(crate) fn end(&self, session: &LiveSession, at: Duration, end: End) {
        session.log.update(|log| {
            log.phase = Phase::Open;
            log.ended = Some(at);
            assert!(log.ring.seal(end), "ended twice");
        });
        self.store.ended(session);
    }

    pub(crate) fn complete(&self, session: &LiveSession, at: u64) {
        self.end(session, Duration::from_secs(at), End::Completed);
    }
}

pub(crate) fn failed() -> End {
    End::Failed(Box::new(Code::UpstreamReset.into()))
}

pub(crate) fn bench(make: Make, limits: StoreLimits) -> Bench {
    Bench { store: make(limits) }
}
