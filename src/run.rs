//! One process from start to exit: bind, serve, drain, leave.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::{App, AppError};
use crate::clock::Entropy;
use crate::config::Settings;
use crate::upstream::health;
use crate::{admin, drain, front, server};

/// How often finished sessions are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// How long connections may take to close once everything is said.
const CLOSE: Duration = Duration::from_secs(1);

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error("cannot listen on {address}; is another process there? (`{key}` in the configuration)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The configuration key it came from.
        key: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// What the configuration names cannot be set up.
    #[error(transparent)]
    App(#[from] AppError),
}

/// A proxy that listens on both ports and is about to serve.
#[derive(Debug)]
pub struct Bound {
    app: Arc<App>,
    data: TcpListener,
    admin: TcpListener,
}

/// Binds both ports.
///
/// # Errors
/// See [`StartError`].
pub async fn bind(settings: Settings, entropy: Entropy) -> Result<Bound, StartError> {
    let listen = |address: SocketAddr, key: &'static str| async move {
        TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, key, source })
    };
    let data = listen(settings.listen.address, "listen.address").await?;
    let admin = listen(settings.admin.address, "admin.address").await?;
    Ok(Bound { app: App::new(settings, entropy)?, data, admin })
}

impl Bound {
    /// The shared state.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system's, if it does not know.
    pub fn data_address(&self) -> io::Result<SocketAddr> {
        self.data.local_addr()
    }

    /// Where operators connect.
    ///
    /// # Errors
    /// The system's, if it does not know.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown` is done, then drains and returns.
    pub async fn serve(self, metrics: PrometheusHandle, shutdown: impl Future<Output = ()>) {
        let Self { app, data, admin } = self;
        let (close, closing) = watch::channel(false);
        let operators = tokio::spawn(admin::run(Arc::clone(&app), metrics.clone(), admin));
        let sweeper = tokio::spawn(sweep(Arc::clone(&app), metrics));
        let _checks = health::watch(&app.upstreams);
        let clients = tokio::spawn(server::run(Arc::clone(&app), front::stack(&app), data, closing));
        shutdown.await;
        drain::drain(&app).await;
        let _ = close.send(true);
        let _ = tokio::time::timeout(CLOSE, clients).await;
        sweeper.abort();
        operators.abort();
    }
}

async fn sweep(app: Arc<App>, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        app.store.sweep(app.clock.now());
        app.upstreams.show();
        // Samples of histograms pile up until somebody scrapes, or this runs.
        metrics.run_upkeep();
    }
}
