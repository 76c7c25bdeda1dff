//! What stands between clients and upstream: one file per peer. Another one needs a file here and a line in
//! [`available`]; everything else takes what it finds.

mod direct;
mod nginx;
mod process;
mod streamkeeper;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::proc::Pid;
pub(crate) use process::{Process, stop_all};

/// Something that forwards streams. Every measurement starts it anew and ends it.
pub(crate) trait Peer {
    /// What the tables call it.
    fn name(&self) -> &'static str;

    /// Its version, in its own words.
    fn version(&self) -> String;

    /// Whether it must give every event an id.
    fn gives_ids(&self) -> bool {
        false
    }

    /// Starts it in front of the upstream.
    ///
    /// # Errors
    ///
    /// It does not come up.
    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure>;
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
}

/// A peer that takes connections. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Started {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What runs; nothing does if there is no proxy.
    pub(crate) process: Option<Process>,
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

/// The peers of a run.
pub(crate) struct Peers {
    /// Those that are there.
    pub(crate) found: Vec<Box<dyn Peer>>,
    /// A line for the report for each that is not.
    pub(crate) missing: Vec<String>,
}

/// Looks for all peers; a program that was named is taken at its word.
///
/// # Errors
///
/// Streamkeeper itself is missing.
pub(crate) fn available(streamkeeper: Option<PathBuf>, nginx: Option<PathBuf>) -> Result<Peers, Failure> {
    let mut found: Vec<Box<dyn Peer>> = vec![Box::new(direct::Direct)];
    let mut missing = Vec::new();
    match nginx.or_else(|| find("nginx")) {
        Some(binary) => found.push(Box::new(nginx::Nginx { binary })),
        None => missing.push("**nginx is not installed: there is nothing to compare with but the direct run.**".into()),
    }
    found.push(Box::new(streamkeeper::Streamkeeper::new(streamkeeper)?));
    Ok(Peers { found, missing })
}

/// A program on the path, or where Debian keeps servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(program)).find(|program| program.is_file())
}

/// A loopback port that was free a moment ago.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::io("find a free port"))?;
    listener.local_addr().map_err(Failure::io("find a free port"))
}
