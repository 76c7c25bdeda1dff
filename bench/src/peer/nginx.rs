//! nginx as a plain streaming proxy: buffering off, connections to the upstream kept, no access log.
//!
//! Source: nginx documentation, ngx_http_proxy_module and ngx_http_upstream_module.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ground, Peer, Process, Started, free_address};
use crate::failure::Failure;

/// The installed nginx.
pub(super) struct Nginx {
    pub(super) binary: PathBuf,
}

impl Peer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("-v").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        text.trim().trim_start_matches("nginx version: ").to_owned()
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let address = free_address()?;
        let configuration = ground.directory.join("nginx.conf");
        std::fs::write(&configuration, text(ground, &address.to_string()))
            .map_err(Failure::io("write nginx's configuration"))?;
        let mut command = Command::new(&self.binary);
        command.arg("-p").arg(ground.directory).arg("-c").arg(&configuration);
        command.arg("-e").arg(ground.directory.join("nginx-error.log"));
        let process = Process::start(self.name(), command, address, ground.directory)?;
        Ok(Started { address, process: Some(process), store: None })
    }
}

fn text(ground: &Ground<'_>, listen: &str) -> String {
    let Ground { upstream, directory, workers, .. } = ground;
    // Started by root, its workers would be `nobody` and could not use the directory.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {};\n", quoted(&directory.join(format!("nginx-{name}")))))
        .concat();
    format!(
        "{user}daemon off;\n\
         worker_processes {workers};\n\
         pid {};\n\
         error_log {} warn;\n\
         events {{ worker_connections 20000; }}\n\
         http {{\n{temporary}\
         \x20   access_log off;\n\
         \x20   upstream bench {{ server {upstream}; keepalive 64; }}\n\
         \x20   server {{\n\
         \x20       listen {listen} backlog=4096;\n\
         \x20       location / {{\n\
         \x20           proxy_pass http://bench;\n\
         \x20           proxy_http_version 1.1;\n\
         \x20           proxy_set_header Connection \"\";\n\
         \x20           proxy_buffering off;\n\
         \x20           proxy_read_timeout 15m;\n\
         \x20       }}\n    }}\n}}\n",
        quoted(&directory.join("nginx.pid")),
        quoted(&directory.join("nginx-error.log")),
    )
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
