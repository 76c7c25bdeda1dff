//! One process from start to exit: bind, serve, drain, leave.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::app::{App, AppError};
use crate::clock::Entropy;
use crate::config::Settings;
use crate::live::Live;
use crate::reload::{self, Reasons};
use crate::tls::TlsError;
use crate::workers::Workers;
use crate::{admin, drain, server};

/// Connections that wait to be accepted; the kernel may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// How often finished sessions are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// How long connections may take to close once everything is said.
const CLOSE: Duration = Duration::from_secs(1);
/// How long the last spans may take to their collector.
const LAST_SPANS: Duration = Duration::from_secs(2);

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
    /// Clients cannot be met with the configured certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There cannot be as many threads as wanted.
    #[error("cannot start the threads that serve clients (`listen.workers` in the configuration)")]
    Workers(#[source] io::Error),
}

/// A proxy that listens on both ports and is about to serve.
#[derive(Debug)]
pub struct Bound {
    app: Arc<App>,
    live: Arc<Live>,
    reasons: Option<Reasons>,
    workers: Workers,
    data: TcpListener,
    admin: TcpListener,
}

/// Binds both ports.
///
/// # Errors
/// See [`StartError`].
pub async fn bind(settings: Settings, entropy: Entropy) -> Result<Bound, StartError> {
    let listen = |address: SocketAddr, key: &'static str| {
        listener(address).map_err(|source| StartError::Bind { address, key, source })
    };
    let data = listen(settings.listen.address, "listen.address")?;
    let admin = listen(settings.admin.address, "admin.address")?;
    let app = App::new(settings, entropy)?;
    let live = Live::new(Arc::clone(&app))?;
    Ok(Bound { app, live, reasons: None, workers: Workers::here(), data, admin })
}

/// Listens. A port that can be bound again at once after a restart, with room for all the clients of a storm: a
/// connection that finds the queue full is tried again only after a second.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Bound {
    /// The shared state under the configuration of the start.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// What serves, whatever the configuration.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// While it serves the configuration is read again for these reasons.
    #[must_use]
    pub fn reloading(self, reasons: Reasons) -> Self {
        Self { reasons: Some(reasons), ..self }
    }

    /// Clients are served by threads of their own, as configured; without this by the runtime that calls
    /// [`serve`](Self::serve).
    ///
    /// # Errors
    /// When there cannot be as many.
    pub fn on_workers(self) -> Result<Self, StartError> {
        let workers = Workers::start(self.app.settings.listen.workers).map_err(StartError::Workers)?;
        Ok(Self { workers, ..self })
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
        let Self { app, live, reasons, workers, data, admin } = self;
        let workers = Arc::new(workers);
        // Who is told that this process is ready begins sessions that should be kept as configured.
        app.store.ready().await;
        drop(app); // the first configuration goes with its last stream
        let (close, closing) = watch::channel(false);
        let operators = tokio::spawn(admin::run(Arc::clone(&live), metrics.clone(), admin));
        let sweeper = tokio::spawn(sweep(Arc::clone(&live), metrics));
        live.start_checks();
        let reloads = reasons.map(|reasons| tokio::spawn(reload::watch(Arc::clone(&live), reasons)));
        let clients = tokio::spawn(server::run(Arc::clone(&live), data, Arc::clone(&workers), closing));
        shutdown.await;
        if let Some(reloads) = reloads {
            reloads.abort();
        }
        drain::drain(&live.app()).await;
        let _ = close.send(true);
        let _ = tokio::time::timeout(CLOSE, clients).await;
        live.app().spans.flush(LAST_SPANS).await;
        live.stop_checks();
        sweeper.abort();
        operators.abort();
        // Threads are joined, which an asynchronous task must not wait for.
        let _ = tokio::task::spawn_blocking(move || drop(workers)).await;
    }
}

async fn sweep(live: Arc<Live>, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let app = live.app();
        app.store.sweep(app.clock.now());
        app.upstreams.show();
        app.upstreams.reap();
        // Samples of histograms pile up until somebody scrapes, or this runs.
        metrics.run_upkeep();
        streamkeeper_allocator::give_back();
    }
}
