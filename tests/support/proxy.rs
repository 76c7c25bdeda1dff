//! The proxy under test: all of it, on real ports, from a TOML text as a user would write it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use metrics_exporter_prometheus::PrometheusHandle;
use streamkeeper::app::App;
use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Settings, env};
use streamkeeper::{run, telemetry};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use toml::{Table, Value};

use super::client::Request;
use super::reply::Reply;
use super::{Upstream, must};

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Its insides.
    pub app: Arc<App>,
    drain: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `upstream`. `toml`: what differs from the defaults; see [`settings`].
    pub async fn before(upstream: &Upstream, toml: &str) -> Self {
        Self::at(&[upstream.address], toml).await
    }

    /// A proxy before these endpoints.
    pub async fn at(endpoints: &[SocketAddr], toml: &str) -> Self {
        let urls: Vec<_> = endpoints.iter().map(|endpoint| format!("http://{endpoint}")).collect();
        Self::start(settings(&urls, toml)).await
    }

    /// A proxy with these settings.
    pub async fn start(settings: Settings) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let entropy = Entropy::seeded(SEED.fetch_add(1, Ordering::Relaxed));
        let bound = run::bind(settings, entropy).await.expect("two loopback ports");
        let (drain, draining) = oneshot::channel::<()>();
        let (address, admin) = (bound.data_address().expect("bound"), bound.admin_address().expect("bound"));
        let app = Arc::clone(bound.app());
        let serving = bound.serve(recorder(), async move {
            // A proxy whose story is over is dropped with the runtime, not drained.
            if draining.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self { address, admin, app, drain: Some(drain), served: tokio::spawn(serving) }
    }

    /// A request to the data port.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// A GET to the data port.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A POST to the data port.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// A streaming chat completion.
    pub fn chat(&self) -> Request {
        self.post("/v1/chat/completions")
            .json(r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#)
    }

    /// A request about a session, on the reserved path.
    pub fn session(&self, method: &str, session: &str) -> Request {
        self.request(method, &format!("/_streamkeeper/sessions/{session}"))
    }

    /// What the reserved path says of a session that must be there.
    pub async fn state(&self, session: &str) -> serde_json::Value {
        let reply = self.session("GET", session).send().await;
        assert_eq!(reply.status, 200, "the state of a session");
        reply.json().await
    }

    /// A GET to the admin port.
    pub async fn admin_get(&self, path: &str) -> Reply {
        Request::new(self.admin, "GET", path).header("connection", "close").send().await
    }

    /// The sum of a metric over all label sets that have these labels. The recorder belongs to the whole test
    /// process: compare differences, or label values that no other story uses.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin_get("/metrics").await.text().await;
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Begins to drain, as SIGTERM does.
    pub fn drain(&mut self) {
        let drain = self.drain.take().expect("drained once");
        drain.send(()).expect("the proxy runs");
    }

    /// Waits until the process would exit.
    pub async fn exited(self) {
        must("the proxy to exit", self.served).await.expect("it served without a panic");
    }
}

/// Settings for `endpoints` from `toml`, which holds only what matters to the story: ports are free ones, the upstream
/// is named `llm`, routes go to it and match `/` unless they say otherwise, and retries do not wait.
pub fn settings(endpoints: &[String], toml: &str) -> Settings {
    let mut table: Table = toml.parse().unwrap_or_else(|error| panic!("{error}"));
    for port in ["listen", "admin"] {
        section(&mut table, port).entry("address").or_insert("127.0.0.1:0".into());
    }
    let upstreams = table.entry("upstreams").or_insert(Value::Array(vec![Table::new().into()]));
    for upstream in tables(upstreams) {
        upstream.entry("name").or_insert("llm".into());
        upstream.entry("endpoints").or_insert(endpoints.to_vec().into());
    }
    let routes = table.entry("routes").or_insert(Value::Array(vec![Table::new().into()]));
    for route in tables(routes) {
        section(route, "match").entry("path").or_insert("/".into());
        route.entry("upstream").or_insert("llm".into());
        let retry = section(route, "retry");
        retry.entry("base").or_insert("1ms".into());
        retry.entry("max").or_insert("5ms".into());
    }
    let text = toml::to_string(&table).expect("TOML");
    config::parse(&text, &env::Process).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn section<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
    let section = table.entry(key).or_insert(Table::new().into());
    section.as_table_mut().unwrap_or_else(|| panic!("{key} is a table"))
}

fn tables(value: &mut Value) -> impl Iterator<Item = &mut Table> {
    value.as_array_mut().expect("a list").iter_mut().filter_map(Value::as_table_mut)
}

/// The one recorder of this test process.
pub fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| telemetry::metrics::install().expect("one recorder for each process")).clone()
}
