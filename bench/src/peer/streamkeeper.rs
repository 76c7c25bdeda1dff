//! Streamkeeper with everything on that is on by default: ids, retry hints, heartbeats, the memory store. Its
//! configuration differs from the defaults only where the comment beside it says why.

use std::path::PathBuf;
use std::process::Command;

use super::{Ground, Peer, Process, Started, free_address};
use crate::failure::Failure;

/// The release binary.
pub(super) struct Streamkeeper {
    binary: PathBuf,
}

impl Streamkeeper {
    /// `binary`, or the one that was built beside this program.
    pub(super) fn new(binary: Option<PathBuf>) -> Result<Self, Failure> {
        let binary = match binary {
            Some(binary) => binary,
            None => std::env::current_exe().map_err(Failure::io("find this program"))?.with_file_name("streamkeeper"),
        };
        if binary.is_file() { Ok(Self { binary }) } else { Err(Failure::NoBinary(binary)) }
    }
}

impl Peer for Streamkeeper {
    fn name(&self) -> &'static str {
        "streamkeeper"
    }

    fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("--version").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    fn gives_ids(&self) -> bool {
        true
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let (address, admin) = (free_address()?, free_address()?);
        let configuration = ground.directory.join("streamkeeper.toml");
        let text = format!(
            "[listen]\naddress = \"{address}\"\n\
             [admin]\naddress = \"{admin}\"\n\
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
        let process = Process::start(self.name(), command, address, ground.directory)?;
        Ok(Started { address, process: Some(process) })
    }
}
