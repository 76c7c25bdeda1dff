//! HAProxy as a plain streaming proxy: connections to the upstream kept, nothing logged, no delay of small writes.
//!
//! Source: HAProxy 2.6 configuration manual; `option http-no-delay` is what it names for interactive streams.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ground, Peer, Process, Started, free_address};
use crate::failure::Failure;

/// The installed HAProxy.
pub(super) struct Haproxy {
    pub(super) binary: PathBuf,
}

impl Peer for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("-v").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        first.split(" - ").next().unwrap_or_default().to_owned()
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let address = free_address()?;
        let configuration = ground.directory.join("haproxy.cfg");
        std::fs::write(&configuration, text(ground, &address.to_string()))
            .map_err(Failure::io("write HAProxy's configuration"))?;
        let mut command = Command::new(&self.binary);
        // In the foreground.
        command.arg("-db").arg("-f").arg(&configuration);
        let process = Process::start(self.name(), command, address, ground.directory)?;
        Ok(Started { address, process: Some(process), store: None })
    }
}

fn text(ground: &Ground<'_>, listen: &str) -> String {
    let Ground { upstream, workers, .. } = ground;
    format!(
        "global\n    maxconn 9500\n    nbthread {workers}\n\
         defaults\n    mode http\n    option http-no-delay\n    timeout connect 5s\n\
         \x20   timeout client 15m\n    timeout server 15m\n\
         frontend clients\n    bind {listen} backlog 4096\n    default_backend bench\n\
         backend bench\n    server upstream {upstream}\n"
    )
}
