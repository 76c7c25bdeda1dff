//! Streamkeeper with everything on that is on by default: ids, retry hints, heartbeats; with the memory store, or with
//! the Redis store before a redis-server of its own. Its configuration differs from the defaults only where the
//! comment beside it says why.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Ground, Peer, Process, Started, free_address};
use crate::failure::Failure;
use crate::store::Store;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The release binary.
pub(super) struct Streamkeeper {
    pub(super) binary: PathBuf,
    /// With it, the Redis store.
    pub(super) redis_server: Option<PathBuf>,
}

/// `binary`, or the one that was built beside this program.
pub(super) fn binary(binary: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let binary = match binary {
        Some(binary) => binary,
        None => std::env::current_exe().map_err(Failure::io("find this program"))?.with_file_name("streamkeeper"),
    };
    if binary.is_file() { Ok(binary) } else { Err(Failure::NoBinary(binary)) }
}

impl Peer for Streamkeeper {
    fn name(&self) -> &'static str {
        if self.redis_server.is_some() { "streamkeeper+redis" } else { "streamkeeper" }
    }

    fn version(&self) -> String {
        let version = |binary: &PathBuf| {
            let output = Command::new(binary).arg("--version").output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        match &self.redis_server {
            // Its build and allocator follow.
            Some(server) => version(server).split(" sha=").next().unwrap_or_default().to_owned(),
            None => version(&self.binary),
        }
    }

    fn gives_ids(&self) -> bool {
        true
    }

    fn has_store(&self) -> bool {
        self.redis_server.is_some()
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let store = self.redis_server.as_ref().map(|server| Store::start(server, ground.directory)).transpose()?;
        let (address, process) = self.run(store.as_ref(), self.name(), ground)?;
        Ok(Started { address, process: Some(process), store })
    }

    fn start_beside(&self, first: &Started, ground: &Ground<'_>) -> Result<Option<Started>, Failure> {
        let Some(store) = &first.store else { return Ok(None) };
        let (address, process) = self.run(Some(store), "streamkeeper+redis-beside", ground)?;
        Ok(Some(Started { address, process: Some(process), store: None }))
    }
}

impl Streamkeeper {
    fn run(
        &self,
        store: Option<&Store>,
        name: &'static str,
        ground: &Ground<'_>,
    ) -> Result<(SocketAddr, Process), Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let configuration = ground.directory.join(format!("{name}.toml"));
        // A Redis that is not there must show, and not be made up for.
        let store = store.map_or_else(String::new, |store| {
            format!("[store]\nkind = \"redis\"\nurl = \"redis://{}\"\non_failure = \"refuse\"\n", store.address())
        });
        let text = format!(
            "[listen]\naddress = \"{address}\"\n\
             [admin]\naddress = \"{admin}\"\n{store}\
             [[upstreams]]\nname = \"bench\"\nendpoints = [\"http://{}\"]\n\
             [[routes]]\nmatch = {{ path = \"/\" }}\nupstream = \"bench\"\n\
             # Silent streams get their head without an event, so that their ring is empty.\n\
             commit_after = \"100ms\"\n\
             [routes.generic]\n\
             # The end that the upstream sends.\n\
             done_events = [\"done\"]\n",
            ground.upstream
        );
        std::fs::write(&configuration, text).map_err(Failure::io("write Streamkeeper's configuration"))?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(&configuration);
        command.env("TOKIO_WORKER_THREADS", ground.workers.to_string());
        let process = Process::start(name, command, address, ground.directory)?;
        if self.has_store() {
            until_ready(admin, name)?;
        }
        Ok((address, process))
    }
}

/// Waits until it has found its Redis.
fn until_ready(admin: SocketAddr, name: &'static str) -> Result<(), Failure> {
    let deadline = Instant::now() + READY;
    loop {
        let metrics = get(admin, "/metrics").unwrap_or_default();
        if metrics.lines().any(|line| line == "stream_store_up 1") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::NotStarted { name, output: "it does not find its Redis".into() });
        }
        std::thread::sleep(POLL);
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(READY))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
