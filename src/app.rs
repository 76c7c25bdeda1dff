//! What all requests of one process share. Built once from checked settings; nothing in it knows a socket that listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Entropy};
use crate::config::{self, Settings};
use crate::principal::Keyed;
use crate::store::{MemoryStore, RedisStore, SessionStore, StoreLimits};
use crate::telemetry::metrics;
use crate::upstream::{ConnectError, Upstreams};

/// How long a refusal for want of room makes all retry hints larger.
const STRAIN: Duration = Duration::from_secs(10);

/// Why there is no app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An upstream cannot be dialled.
    #[error("an upstream's TLS cannot be set up")]
    Upstream(#[from] ConnectError),
    /// Redis cannot be dialled.
    #[error("the connection to Redis cannot be set up (`store` in the configuration)")]
    Store(#[source] std::io::Error),
}

/// Shared by all requests.
#[derive(Debug)]
pub struct App {
    /// The checked configuration.
    pub settings: Settings,
    /// Where sessions live.
    pub store: Arc<dyn SessionStore>,
    /// The ways to all upstreams.
    pub upstreams: Upstreams,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub entropy: Entropy,
    /// Makes principals.
    pub keyed: Keyed,
    /// The distinct lists of cookies that routes take for credentials, for paths that no route owns.
    pub credential_cookies: Vec<Vec<String>>,
    /// Requests being answered.
    pub in_flight: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    /// When a request was last refused for want of room, in milliseconds on the clock; 0 is never.
    shed_at: AtomicU64,
}

impl App {
    /// The app of `settings`.
    ///
    /// Call inside a runtime: a shared store connects in the background.
    ///
    /// # Errors
    /// When certificates cannot be loaded.
    pub fn new(settings: Settings, entropy: Entropy) -> Result<Arc<Self>, AppError> {
        let limits = &settings.limits;
        let local = MemoryStore::new(StoreLimits {
            sessions: limits.sessions,
            sessions_per_principal: limits.sessions_per_principal,
            ring_bytes: limits.ring_bytes,
            retention: settings.session.retention,
        });
        let mut credential_cookies = vec![Vec::new()];
        for route in &settings.routes {
            if !credential_cookies.contains(&route.credential_cookies) {
                credential_cookies.push(route.credential_cookies.clone());
            }
        }
        show_limits(&settings);
        let clock = Clock::start();
        let (store, keyed) = store(&settings, local, clock, &entropy)?;
        Ok(Arc::new(Self {
            upstreams: Upstreams::new(&settings, clock)?,
            store,
            clock,
            keyed,
            entropy,
            credential_cookies,
            in_flight: Arc::default(),
            draining: Arc::default(),
            shed_at: AtomicU64::new(0),
            settings,
        }))
    }

    /// Whether this process is going away.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Turns true when this process begins to go away.
    pub fn drain_signal(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
    }

    /// From now on no session begins.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        metrics::draining();
    }

    /// A request was refused because of `limit`.
    pub fn shed(&self, limit: &'static str) {
        metrics::refused(limit);
        self.strain();
    }

    /// A request was refused because this process has too much to do.
    pub fn strain(&self) {
        self.shed_at.store(millis(self.clock.now()).max(1), Ordering::Relaxed);
    }

    /// Whether clients should come back later than usual on this process's own account.
    pub fn is_strained(&self) -> bool {
        let shed = self.shed_at.load(Ordering::Relaxed);
        let lately = shed > 0 && millis(self.clock.now()).saturating_sub(shed) < millis(STRAIN);
        lately || self.is_draining()
    }

    /// The retry hint for one client, in milliseconds; `None` where hints are off.
    pub fn retry_hint(&self, ill: bool) -> Option<u64> {
        let hint = &self.settings.retry_hint;
        hint.enabled.then(|| millis(self.jittered(if ill { hint.ill } else { hint.base })))
    }

    /// When a client that was refused should try again.
    pub fn come_back_in(&self) -> Duration {
        self.jittered(self.settings.retry_hint.ill)
    }

    /// From 0 to below 1, all alike.
    pub fn chance(&self) -> f64 {
        (self.entropy.u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// `centre`, more or less by the configured part.
    fn jittered(&self, centre: Duration) -> Duration {
        centre.mul_f64(1.0 + self.settings.retry_hint.jitter * (2.0 * self.chance() - 1.0))
    }
}

/// The store, and the key that all processes which share it have.
fn store(
    settings: &Settings,
    local: MemoryStore,
    clock: Clock,
    entropy: &Entropy,
) -> Result<(Arc<dyn SessionStore>, Keyed), AppError> {
    let config::Store::Redis(redis) = &settings.store else { return Ok((Arc::new(local), Keyed::new(entropy))) };
    let keyed = Keyed::shared(&RedisStore::secret(redis));
    let routes = settings.routes.clone();
    let store = RedisStore::start((**redis).clone(), settings.session, routes, local, clock, entropy)
        .map_err(AppError::Store)?;
    Ok((Arc::new(store), keyed))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Every limit is visible as a metric beside what it bounds.
fn show_limits(settings: &Settings) {
    let limits = &settings.limits;
    for (name, value) in [
        ("connections", limits.connections),
        ("sessions", limits.sessions),
        ("sessions_per_principal", limits.sessions_per_principal),
        ("readers_per_session", limits.readers_per_session),
        ("ring_bytes", limits.ring_bytes),
        ("request_body", limits.request_body),
        ("answer_body", limits.answer_body),
        ("line", limits.line),
        ("event", limits.event),
        ("headers", limits.headers),
        ("header_bytes", limits.header_bytes),
        ("send_buffer", limits.send_buffer),
        ("h2_streams", limits.h2_streams as usize),
        ("session_max_events", settings.session.max_events),
        ("session_max_bytes", settings.session.max_bytes),
    ] {
        metrics::limit(name, value as f64);
    }
    for (name, value) in [
        ("header_timeout_seconds", limits.header_timeout),
        ("body_timeout_seconds", limits.body_timeout),
        ("write_timeout_seconds", limits.write_timeout),
        ("session_retention_seconds", settings.session.retention),
        ("drain_timeout_seconds", settings.drain.timeout),
    ] {
        metrics::limit(name, value.as_secs_f64());
    }
}
