//! Streamkeeper with everything on that is on by default: ids, retry hints, heartbeats; with the memory store, with the
//! Redis store before a redis-server of its own, or with all HTTP left to hyper. Its configuration differs from the defaults only where the
//! comment beside it says why.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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
    /// How it runs.
    pub(super) way: Way,
}

/// What is compared with what.
#[derive(Debug)]
pub(super) enum Way {
    /// As it comes.
    Direct,
    /// Without its own HTTP/1.1 for event streams.
    Hyper,
    /// With the Redis store, before this redis-server.
    Redis(PathBuf),
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
        match self.way {
            Way::Direct => "streamkeeper",
            Way::Hyper => "streamkeeper-hyper",
            Way::Redis(_) => "streamkeeper+redis",
        }
    }

    fn version(&self) -> String {
        let version = |binary: &PathBuf| {
            let output = Command::new(binary).arg("--version").output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        match &self.way {
            // Its build and allocator follow.
            Way::Redis(server) => version(server).split(" sha=").next().unwrap_or_default().to_owned(),
            Way::Hyper => "the same with `[http1] direct = false`".to_owned(),
            Way::Direct => version(&self.binary),
        }
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn gives_ids(&self) -> bool {
        true
    }

    fn has_store(&self) -> bool {
        matches!(self.way, Way::Redis(_))
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let store = match &self.way {
            Way::Redis(server) => Some(Store::start(server, ground.directory)?),
            Way::Direct | Way::Hyper => None,
        };
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
        let direct = !matches!(self.way, Way::Hyper);
        let Ground { upstream, workers, settings, .. } = ground;
        let text = format!(
            "[listen]\naddress = \"{address}\"\nworkers = {workers}\n\
             [admin]\naddress = \"{admin}\"\n{store}\
             [http1]\ndirect = {direct}\n\
             # More streams than these allow by default are opened.\n\
             [limits]\nconnections = 20000\nsessions = 20000\nsessions_per_principal = 20000\n{settings}\
             [[upstreams]]\nname = \"bench\"\nendpoints = [\"http://{upstream}\"]\n\
             [[routes]]\nmatch = {{ path = \"/\" }}\nupstream = \"bench\"\n\
             # Silent streams get their head without an event, so that their ring is empty.\n\
             commit_after = \"100ms\"\n\
             [routes.generic]\n\
             # The end that the upstream sends.\n\
             done_events = [\"done\"]\n"
        );
        std::fs::write(&configuration, text).map_err(Failure::io("write Streamkeeper's configuration"))?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(&configuration);
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
