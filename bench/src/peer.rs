//! What stands between clients and upstream: one file per peer. Another one needs a file here and a line in
//! [`available`]; everything else takes what it finds.

mod direct;
mod envoy;
mod haproxy;
mod hyper;
mod nginx;
mod process;
mod streamkeeper;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::proc::Pid;
use crate::store::Store;
pub(crate) use process::{Process, stop_all};
use streamkeeper::Way;

/// Something that forwards streams. Every measurement starts it anew and ends it.
pub(crate) trait Peer {
    /// What the tables call it.
    fn name(&self) -> &'static str;

    /// Its version, in its own words.
    fn version(&self) -> String;

    /// Its program, where it is one.
    fn program(&self) -> Option<&Path> {
        None
    }

    /// Whether it must give every event an id, and replay what came after one.
    fn gives_ids(&self) -> bool {
        false
    }

    /// Whether it keeps streams outside of itself.
    fn has_store(&self) -> bool {
        false
    }

    /// Starts it in front of the upstream.
    ///
    /// # Errors
    ///
    /// It does not come up.
    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure>;

    /// Another one beside `first`, which knows the same streams; `None` if there can be none.
    ///
    /// # Errors
    ///
    /// It does not come up.
    fn start_beside(&self, _first: &Started, _ground: &Ground<'_>) -> Result<Option<Started>, Failure> {
        Ok(None)
    }
}

/// What a peer is given to start with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    /// Where the upstream listens.
    pub(crate) upstream: SocketAddr,
    /// For its configuration and logs. It may find those of its last start.
    pub(crate) directory: &'a Path,
    /// Threads or processes that serve.
    pub(crate) workers: usize,
    /// What is added to Streamkeeper's configuration, as TOML.
    pub(crate) settings: &'a str,
}

/// A peer that takes connections. Dropped, it ends.
pub(crate) struct Started {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What runs; nothing does if there is no proxy.
    pub(crate) process: Option<Process>,
    /// Where it keeps its streams, if that is not itself; ends after it.
    pub(crate) store: Option<Store>,
}

impl Started {
    /// Its processes.
    ///
    /// # Errors
    ///
    /// The list of processes cannot be read.
    pub(crate) fn pids(&self) -> Result<Vec<Pid>, Failure> {
        self.process.as_ref().map_or(Ok(Vec::new()), Process::pids)
    }
}

/// Programs that were named instead of being looked for.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Streamkeeper's release binary.
    pub(crate) streamkeeper: Option<PathBuf>,
    /// nginx.
    pub(crate) nginx: Option<PathBuf>,
    /// HAProxy.
    pub(crate) haproxy: Option<PathBuf>,
    /// Envoy.
    pub(crate) envoy: Option<PathBuf>,
    /// redis-server, or a server that takes its arguments.
    pub(crate) redis_server: Option<PathBuf>,
}

/// The peers of a run.
pub(crate) struct Peers {
    /// Those that are there.
    pub(crate) found: Vec<Box<dyn Peer>>,
    /// A line for the report for each that is not.
    pub(crate) missing: Vec<String>,
}

impl Peers {
    /// Only those that `names` name, if they name any.
    ///
    /// # Errors
    ///
    /// A name that none of them has.
    pub(crate) fn only(mut self, names: &[String]) -> Result<Self, Failure> {
        let known: Vec<&str> = self.found.iter().map(|peer| peer.name()).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Failure::NoPeer(unknown.clone(), known.join(", ")));
        }
        self.found.retain(|peer| names.is_empty() || names.iter().any(|name| name == peer.name()));
        Ok(self)
    }
}

/// Looks for all peers; a program that was named is taken at its word.
///
/// # Errors
///
/// Streamkeeper itself is missing.
pub(crate) fn available(named: Named) -> Result<Peers, Failure> {
    let mut found: Vec<Box<dyn Peer>> = vec![Box::new(direct::Direct)];
    let mut missing = Vec::new();
    match named.nginx.or_else(|| find("nginx")) {
        Some(binary) => found.push(Box::new(nginx::Nginx { binary })),
        None => missing.push("**nginx is not installed: skipped, and with it every ratio to it.**".into()),
    }
    match named.haproxy.or_else(|| find("haproxy")) {
        Some(binary) => found.push(Box::new(haproxy::Haproxy { binary })),
        None => missing.push("**haproxy is not installed: skipped, and with it every ratio to it.**".into()),
    }
    match named.envoy.or_else(envoy::installed) {
        Some(binary) => found.push(Box::new(envoy::Envoy { binary })),
        None => missing.push("envoy is not installed (`scripts/setup-bench.sh`): skipped.".into()),
    }
    match hyper::Hyper::find() {
        Some(hyper) => found.push(Box::new(hyper)),
        None => missing.push("**the minimal proxy of hyper was not built: skipped, and with it ratios to it.**".into()),
    }
    let binary = streamkeeper::binary(named.streamkeeper)?;
    let own = |way| Box::new(streamkeeper::Streamkeeper { binary: binary.clone(), way });
    found.push(own(Way::Direct));
    found.push(own(Way::Hyper));
    match named.redis_server.or_else(|| find("redis-server")) {
        Some(server) => found.push(own(Way::Redis(server))),
        None => missing.push("**redis-server is not installed: streamkeeper+redis is skipped.**".into()),
    }
    Ok(Peers { found, missing })
}

/// A program on the path, or where Debian keeps servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(program)).find(|program| program.is_file())
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::io("find a free port"))?;
    listener.local_addr().map_err(Failure::io("find a free port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_chosen_by_name_and_a_misspelt_one_is_refused() {
        let peers = || Peers { found: vec![Box::new(direct::Direct)], missing: Vec::new() };
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            peers().only(&names).map(|peers| peers.found.len())
        };
        assert_eq!(chosen(&[]).expect("all"), 1);
        assert_eq!(chosen(&["direct"]).expect("known"), 1);
        assert!(matches!(chosen(&["nginks"]), Err(Failure::NoPeer(..))));
    }
}
