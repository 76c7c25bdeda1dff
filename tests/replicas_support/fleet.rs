//! Replicas: processes of the real binary with configurations of their own, before one service, on one store.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use toml::{Table, Value};

use super::process::{Process, free_port};
use super::{Redis, Rider, Service, Talk, eventually};
use crate::support::Request;
use crate::support::client::Connection;

/// What every route of a replica has; how it is mended is its own.
const ROUTES: &str = "
[[routes]]
match = { path = '/numbered' }
dialect = 'generic'
session_key = { query = 'session_id' }
after_partial = ['native_resume']
[[routes]]
match = { path = '/chat' }
dialect = 'openai'
after_partial = ['continuation']
prefill = 'trailing'
[[routes]]
match = { path = '/whole' }
dialect = 'openai'
after_partial = ['fallback']
[[routes]]
match = { path = '/plain' }
dialect = 'generic'
after_partial = []
";

/// Some replicas before one service, on one Redis.
#[derive(Debug)]
pub struct Fleet {
    /// The replicas, `a`, `b` and so on.
    pub replicas: Vec<Replica>,
    /// What they share.
    pub redis: Redis,
    /// The upstream.
    pub service: Service,
}

impl Fleet {
    /// `count` replicas on a Redis of their own. `toml`: what differs from the defaults, see [`Replica::launch`].
    pub async fn of(count: usize, toml: &str) -> Self {
        Self::on(Redis::start().await, count, toml).await
    }

    /// `count` replicas on this Redis, whatever state it is in.
    pub async fn on(redis: Redis, count: usize, toml: &str) -> Self {
        let tomls = vec![toml; count];
        Self::each(redis, &tomls).await
    }

    /// A replica for each of these configurations, on this Redis.
    pub async fn each(redis: Redis, tomls: &[&str]) -> Self {
        let service = Service::start().await;
        let mut replicas = Vec::new();
        for (name, toml) in ["a", "b", "c"].iter().zip(tomls) {
            replicas.push(Replica::launch(name, &service, &redis.url(), toml));
        }
        for replica in &mut replicas {
            replica.ready().await;
        }
        Self { replicas, redis, service }
    }

    /// A client of all replicas that wants `talk`.
    pub fn rider(&self, talk: &Talk) -> Rider {
        Rider::of(talk, &self.replicas)
    }

    /// The sum of a metric over all replicas.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            sum += replica.metric(name, labels).await;
        }
        sum
    }

    /// Waits until every replica says that its Redis is well, or that it is not.
    pub async fn until_store_is(&self, up: bool) {
        let wanted = if up { 1.0 } else { 0.0 };
        for replica in &self.replicas {
            let what = format!("{} to notice that its store is {}", replica.name, if up { "well" } else { "ill" });
            eventually(&what, async || replica.metric("stream_store_up", &[]).await == wanted).await;
        }
    }
}

/// One replica: a process of its own.
#[derive(Debug)]
pub struct Replica {
    /// Its name, which its upstream sees as `x-replica`.
    pub name: String,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// Dropped before its directory, which holds the log it shows.
    process: Option<Process>,
    dir: TempDir,
}

impl Replica {
    /// Starts one. `toml` holds what differs: sections as in any configuration, and `[each_route]`, whose keys every
    /// route gets. The store is the Redis at `redis`, with a lease of a second, unless it says otherwise.
    pub fn launch(name: &str, service: &Service, redis: &str, toml: &str) -> Self {
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (address, admin) = (local(free_port()), local(free_port()));
        let dir = TempDir::new().expect("a directory of the story's");
        let text = configuration(name, [address, admin], service, redis, toml);
        std::fs::write(dir.path().join("config.toml"), text).expect("written");
        let mut replica = Self { name: name.to_owned(), address, admin, dir, process: None };
        replica.spawn();
        replica
    }

    /// Starts one and waits until it is ready.
    pub async fn start(name: &str, service: &Service, redis: &str, toml: &str) -> Self {
        let mut replica = Self::launch(name, service, redis, toml);
        replica.ready().await;
        replica
    }

    fn spawn(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamkeeper"));
        command.arg("run").arg("--config").arg(self.dir.path().join("config.toml"));
        let name = format!("streamkeeper {}", self.name);
        self.process = Some(Process::start(&name, &mut command, &self.dir.path().join("log")));
    }

    /// Waits until its readiness probe says yes.
    pub async fn ready(&mut self) {
        let (what, admin) = (format!("{} to be ready", self.name), self.admin);
        let process = self.process.as_mut().expect("it runs");
        eventually(&what, async || {
            process.must_run();
            is_ready(admin).await
        })
        .await;
    }

    /// Whether its readiness probe says yes now.
    pub async fn is_ready(&self) -> bool {
        is_ready(self.admin).await
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Starts it anew on its old ports, and waits until it is ready.
    pub async fn revive(&mut self) {
        assert!(self.process.is_none(), "it runs");
        self.spawn();
        self.ready().await;
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself, and says with which code.
    pub async fn exited(&mut self) -> Option<i32> {
        self.process.take().expect("it runs").exited().await.code()
    }

    /// SIGSTOP: its sockets stay open, and nothing happens behind them.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> usize {
        self.process.as_ref().expect("it runs").resident()
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A request to its data port.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// The request for `talk`.
    pub fn ask(&self, talk: &Talk) -> Request {
        self.request("POST", &talk.path()).json(&talk.body())
    }

    /// A request about a session, on the reserved path.
    pub fn session(&self, method: &str, session: &str) -> Request {
        self.request(method, &format!("/_streamkeeper/sessions/{session}"))
    }

    /// The sum of a metric over all label sets that have these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = Request::new(self.admin, "GET", "/metrics").header("connection", "close").send().await.text().await;
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let Ok(socket) = TcpStream::connect(admin).await else { return false };
    let mut connection = Connection::over(socket);
    if !connection.try_write("GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await {
        return false;
    }
    connection.try_reply().await.is_some_and(|reply| reply.status == 200)
}

fn configuration(name: &str, ports: [SocketAddr; 2], service: &Service, redis: &str, toml: &str) -> String {
    let mut table: Table = toml.parse().unwrap_or_else(|error| panic!("{error} in {toml}"));
    let each_route = match table.remove("each_route") {
        Some(Value::Table(keys)) => keys,
        _ => Table::new(),
    };
    let mut routes: Table = ROUTES.parse().expect("TOML");
    for route in routes["routes"].as_array_mut().expect("a list").iter_mut().filter_map(Value::as_table_mut) {
        route.insert("upstream".into(), "llm".into());
        let markers = Table::from_iter([("done_events".to_owned(), Value::from(vec!["done"]))]);
        if route["dialect"].as_str() == Some("generic") {
            route.insert("generic".into(), markers.into());
        }
        route.extend(each_route.clone());
    }
    table.extend(routes);
    let upstream =
        format!("name = 'llm'\nendpoints = ['http://{}']\nheaders = {{ x-replica = '{name}' }}", service.address);
    let upstream: Table = upstream.parse().expect("TOML");
    table.insert("upstreams".into(), Value::Array(vec![upstream.into()]));
    for (section, port) in ["listen", "admin"].into_iter().zip(ports) {
        section_of(&mut table, section).insert("address".into(), port.to_string().into());
    }
    let store = section_of(&mut table, "store");
    if store.entry("kind").or_insert("redis".into()).as_str() == Some("redis") {
        store.entry("url").or_insert(redis.into());
        store.entry("lease").or_insert("1s".into());
    }
    // A few: as many as the descriptors of a machine that also has the clients.
    section_of(&mut table, "limits").entry("connections").or_insert(4000.into());
    section_of(&mut table, "telemetry").insert("format".into(), "json".into());
    toml::to_string(&table).expect("TOML")
}

fn section_of<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
    let section = table.entry(key).or_insert(Table::new().into());
    section.as_table_mut().unwrap_or_else(|| panic!("{key} is a table"))
}
