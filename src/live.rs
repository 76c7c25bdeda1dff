//! What serves now: one configuration, and everything made of it. A reload puts another in its place.
//!
//! A request, a connection and an operator's question each take what serves once, so none of them sees two
//! configurations; a stream keeps what it began with. Not here: where a new configuration comes from (`reload`).

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::{App, AppError};
use crate::config::{self, Change, Followed, Settings};
use crate::front::{self, Front};
use crate::telemetry::logs;
use crate::tls::{self, TlsError};
use crate::upstream::health::Checks;

/// Why settings cannot serve, although they are well written.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The filter of the log is none.
    #[error("{0}")]
    Log(String),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An upstream or the store cannot be set up.
    #[error(transparent)]
    App(#[from] AppError),
}

/// Says whether `settings` could serve, as far as that can be told without doing it.
///
/// # Errors
/// Why they could not.
pub fn check(settings: &Settings) -> Result<(), Unfit> {
    logs::check(&settings.telemetry).map_err(Unfit::Log)?;
    Ok(tls::check(settings)?)
}

/// One configuration and what is made of it.
#[derive(Debug)]
pub struct Serving {
    /// What its requests share.
    pub app: Arc<App>,
    /// Their path.
    pub front: Front,
    /// What clients meet; `None`: connections are plain.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What a new configuration changed, and what of it needs a restart.
#[derive(Debug, Default)]
pub struct Taken {
    /// In use from now on.
    pub changed: Vec<Change>,
    /// From the value in use to the one that waits.
    pub waiting: Vec<Change>,
}

/// What serves now.
#[derive(Debug)]
pub struct Live {
    now: ArcSwap<Serving>,
    /// One for each connection there may be.
    connections: Arc<Semaphore>,
    checks: Mutex<Checks>,
}

impl Live {
    /// `app` serves.
    ///
    /// # Errors
    /// When the certificate of `listen.tls` cannot be used.
    pub fn new(app: Arc<App>) -> Result<Arc<Self>, TlsError> {
        let tls = app.settings.listen.tls.as_ref().map(tls::server).transpose()?;
        let connections = Arc::new(Semaphore::new(app.settings.limits.connections));
        let now = ArcSwap::from_pointee(Serving { front: front::stack(&app), app, tls });
        Ok(Arc::new(Self { now, connections, checks: Mutex::default() }))
    }

    /// What serves now. Whoever asks keeps it for one piece of work.
    pub fn now(&self) -> Arc<Serving> {
        self.now.load_full()
    }

    /// What requests share now.
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.now.load().app)
    }

    /// The path of a request that begins now.
    pub fn front(&self) -> Front {
        self.now.load().front.clone()
    }

    /// A place for a connection; waits while there is none.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).acquire_owned().await.ok()
    }

    /// Starts the active checks of upstreams. Call inside a runtime.
    pub fn start_checks(&self) {
        self.lock().follow(&self.app().upstreams);
    }

    /// Ends them.
    pub fn stop_checks(&self) {
        *self.lock() = Checks::default();
    }

    /// Takes over what can be taken over of `wanted`. Requests that begin from now on see it whole; what runs goes on
    /// as it began. Call inside a runtime, one at a time.
    ///
    /// # Errors
    /// Why it cannot serve; then nothing has changed.
    pub fn reconfigure(&self, wanted: Settings) -> Result<Taken, Unfit> {
        check(&wanted)?;
        let before = self.now();
        let old = &before.app.settings;
        let Followed { settings, changed, waiting } = config::follow(old, wanted);
        if changed.is_empty() {
            return Ok(Taken { changed, waiting });
        }
        // Certificates that stayed the same keep the sessions that clients resume.
        let tls = match &settings.listen.tls {
            same if *same == old.listen.tls => before.tls.clone(),
            other => other.as_ref().map(tls::server).transpose()?,
        };
        let (from, to) = (old.limits.connections, settings.limits.connections);
        let app = before.app.next(settings)?;
        self.resize(from, to);
        self.now.store(Arc::new(Serving { front: front::stack(&app), app: Arc::clone(&app), tls }));
        self.lock().follow(&app.upstreams);
        before.app.upstreams.forget_all_but(&app.upstreams);
        Ok(Taken { changed, waiting })
    }

    /// Makes more places for connections, or fewer: those that are taken go as their connections do.
    fn resize(&self, from: usize, to: usize) {
        if to >= from {
            return self.connections.add_permits(to - from);
        }
        let gone = self.connections.forget_permits(from - to);
        let taken = u32::try_from(from - to - gone).unwrap_or(u32::MAX);
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            if let Ok(permits) = connections.acquire_many_owned(taken).await {
                permits.forget();
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
