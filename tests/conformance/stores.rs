//! The stores under test. Each comes with two handles: `near`, where a session is read, and `far`, where a client may
//! come back. In a store of one process both are the same; of a shared store they are two replicas.

#![allow(dead_code, reason = "more than one binary uses a part of this")]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use streamkeeper::clock::{Clock, Entropy};
use streamkeeper::config::{self, Store, env};
use streamkeeper::store::{MemoryStore, RedisStore, SessionStore, StoreLimits};

use super::bench::{SESSION, route};
use crate::replicas_support::Line;
use crate::replicas_support::process::free_port;

/// What a case works on.
pub(crate) struct Stores {
    /// Where sessions begin.
    pub(crate) near: Arc<dyn SessionStore>,
    /// Where else they are looked for.
    pub(crate) far: Arc<dyn SessionStore>,
    /// Makes a further handle, which has seen nothing yet.
    pub(crate) another: Box<dyn Fn() -> Arc<dyn SessionStore> + Send + Sync>,
    /// Between `near` and what is shared.
    pub(crate) line: Option<Line>,
    /// What is shared: the port of a Redis, and what all keys of these stores begin with.
    pub(crate) redis: Option<(u16, String)>,
}

/// Makes stores with these limits and, where they are shared, this lease.
pub(crate) type Make = fn(StoreLimits, Duration) -> Stores;

/// The embedded store.
pub(crate) fn memory(limits: StoreLimits, _lease: Duration) -> Stores {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::new(limits));
    let (near, far) = (Arc::clone(&store), Arc::clone(&store));
    Stores { near, far, another: Box::new(move || Arc::clone(&store)), line: None, redis: None }
}

/// Replicas before one Redis.
pub(crate) fn redis(limits: StoreLimits, lease: Duration) -> Stores {
    static CASES: AtomicU64 = AtomicU64::new(0);
    let case = CASES.fetch_add(1, Ordering::Relaxed);
    let port = server();
    let replica = move |port: u16| -> Arc<dyn SessionStore> {
        // Just less than the lease: what matters to these cases is the lease alone.
        let (lease, timeout) = (lease.as_millis(), (lease * 9 / 10).as_millis());
        let text = format!(
            "[store]\nkind = 'redis'\nurl = 'redis://127.0.0.1:{port}/0'\nprefix = 'case{case}'\nlease = '{lease}ms'\n\
             timeout = '{timeout}ms'\n[[upstreams]]\nname = 'llm'\nendpoints = ['http://127.0.0.1:1']\n"
        );
        let settings = config::parse(&text, &env::Process).expect("a valid configuration");
        let Store::Redis(redis) = settings.store else { panic!("the redis store") };
        let session = config::Session { retention: limits.retention, ..SESSION };
        let local = MemoryStore::new(limits);
        let store = RedisStore::start(*redis, session, vec![route()], local, Clock::start(), &Entropy::System);
        Arc::new(store.expect("no certificates are asked for"))
    };
    let line = Line::to(port);
    Stores {
        near: replica(line.port),
        far: replica(port),
        another: Box::new(move || replica(port)),
        line: Some(line),
        redis: Some((port, format!("case{case}"))),
    }
}

/// The port of a `redis-server` of this process, which ends with it.
fn server() -> u16 {
    static SERVER: OnceLock<(u16, Child)> = OnceLock::new();
    let start = || {
        let port = free_port();
        // Nothing drops a static. But its end of a pipe closes with this process, however that ends.
        let script = "redis-server --port \"$1\" --bind 127.0.0.1 --save '' --appendonly no & cat; kill -9 $!";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", &port.to_string()]);
        let child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a shell");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        (port, child)
    };
    SERVER.get_or_init(start).0
}
