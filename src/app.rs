//! What all requests under one configuration share. Nothing in it knows a socket that listens.
//!
//! It is built from checked settings and never changes; a new configuration makes the [`next`](App::next) one, which
//! shares with it what belongs to the process. A stream keeps the app that it began with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Entropy};
use crate::config::{self, Settings};
use crate::principal::Keyed;
use crate::store::{MemoryStore, RedisStore, SessionStore, StoreLimits};
use crate::telemetry::metrics;
use crate::telemetry::spans::{CannotExport, Spans};
use crate::tls::TlsError;
use crate::upstream::Upstreams;

/// How long a refusal for want of room makes all retry hints larger.
const STRAIN: Duration = Duration::from_secs(10);

/// Why there is no app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An upstream cannot be dialled.
    #[error("an upstream's TLS cannot be set up")]
    Upstream(#[from] TlsError),
    /// Spans cannot be exported.
    #[error("spans cannot be exported (`telemetry.otlp` in the configuration)")]
    Spans(#[source] CannotExport),
    /// Redis cannot be dialled.
    #[error("the connection to Redis cannot be set up (`store` in the configuration)")]
    Store(#[source] std::io::Error),
}

/// Shared by all requests under one configuration.
#[derive(Debug)]
pub struct App {
    /// The checked configuration.
    pub settings: Settings,
    /// Where sessions live.
    pub store: Arc<dyn SessionStore>,
    /// The ways to all upstreams.
    pub upstreams: Upstreams,
    /// Where spans go.
    pub spans: Spans,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub entropy: Arc<Entropy>,
    /// Makes principals.
    pub keyed: Arc<Keyed>,
    /// The distinct lists of cookies that routes take for credentials, for paths that no route owns.
    pub credential_cookies: Vec<Vec<String>>,
    /// Requests being answered.
    pub in_flight: Arc<AtomicUsize>,
    draining: Arc<AtomicBool>,
    /// When a request was last refused for want of room, in milliseconds on the clock; 0 is never.
    shed_at: Arc<AtomicU64>,
}

impl App {
    /// The app of `settings`.
    ///
    /// Call inside a runtime: a shared store connects in the background.
    ///
    /// # Errors
    /// When certificates cannot be loaded.
    pub fn new(settings: Settings, entropy: Entropy) -> Result<Arc<Self>, AppError> {
        let local = MemoryStore::new(StoreLimits::of(&settings));
        let clock = Clock::start();
        let (store, keyed) = store(&settings, local, clock, &entropy)?;
        let otlp = settings.telemetry.otlp.as_ref();
        let spans = otlp.map(Spans::to_collector).transpose().map_err(AppError::Spans)?;
        show_limits(&settings);
        Ok(Arc::new(Self {
            spans: spans.unwrap_or_default(),
            upstreams: Upstreams::new(&settings, clock)?,
            store,
            clock,
            keyed: Arc::new(keyed),
            entropy: Arc::new(entropy),
            credential_cookies: credential_cookies(&settings),
            in_flight: Arc::default(),
            draining: Arc::default(),
            shed_at: Arc::default(),
            settings,
        }))
    }

    /// The same process under other settings. Sessions, counts and the state of upstreams that stay the same are shared;
    /// the store follows at once.
    ///
    /// # Errors
    /// When certificates cannot be loaded; then nothing has changed.
    pub fn next(&self, settings: Settings) -> Result<Arc<Self>, AppError> {
        let upstreams = self.upstreams.next(&settings, self.clock)?;
        self.store.reconfigure(&settings);
        show_limits(&settings);
        Ok(Arc::new(Self {
            upstreams,
            store: Arc::clone(&self.store),
            spans: self.spans.clone(),
            clock: self.clock,
            keyed: Arc::clone(&self.keyed),
            entropy: Arc::clone(&self.entropy),
            credential_cookies: credential_cookies(&settings),
            in_flight: Arc::clone(&self.in_flight),
            draining: Arc::clone(&self.draining),
            shed_at: Arc::clone(&self.shed_at),
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

fn credential_cookies(settings: &Settings) -> Vec<Vec<String>> {
    let mut lists = vec![Vec::new()];
    for route in &settings.routes {
        if !lists.contains(&route.credential_cookies) {
            lists.push(route.credential_cookies.clone());
        }
    }
    lists
}

/// The store, and the key that all processes which share it have.
fn store(
    settings: &Settings,
    local: MemoryStore,
    clock: Clock,
    entropy: &Entropy,
) -> Result<(Arc<dyn SessionStore>, Keyed), AppError> {
    let config::Store::Redis(redis) = &settings.store else { return Ok((Arc::new(local), Keyed::new(entropy))) };
    metrics::zero_store();
    let keyed = Keyed::shared(&RedisStore::secret(redis));
    let routes = settings.routes.clone();
    let store = RedisStore::start((**redis).clone(), settings.session, routes, local, clock, entropy)
        .map_err(AppError::Store)?;
    Ok((Arc::new(store), keyed))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Every limit is visible as a metric beside what it bounds, and every route before its first stream.
fn show_limits(settings: &Settings) {
    for route in &settings.routes {
        metrics::zero_route(&route.name);
    }
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
