//! The minimal proxy of hyper that is built beside this program: what hyper costs with nothing of ours on top.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ground, Peer, Process, Started, free_address};
use crate::failure::Failure;

/// What it is called, as a file.
const PROGRAM: &str = "streamkeeper-bench-hyper";

/// The minimal proxy.
pub(super) struct Hyper {
    binary: PathBuf,
}

impl Hyper {
    /// The one beside this program; `None` if only this program was built.
    pub(super) fn find() -> Option<Self> {
        let binary = std::env::current_exe().ok()?.with_file_name(PROGRAM);
        binary.is_file().then_some(Self { binary })
    }
}

impl Peer for Hyper {
    fn name(&self) -> &'static str {
        "hyper"
    }

    fn version(&self) -> String {
        "minimal proxy of hyper 1 and hyper-util, one tokio runtime of many threads".into()
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let address = free_address()?;
        let mut command = Command::new(&self.binary);
        command.arg(address.to_string()).arg(ground.upstream.to_string()).arg(ground.workers.to_string());
        let process = Process::start(self.name(), command, address, ground.directory)?;
        Ok(Started { address, process: Some(process), store: None })
    }
}
