//! The store as the program uses it: which one keeps the sessions, and how Redis is reached and treated.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::secret::Secret;

/// Which store keeps the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// This process's memory.
    Memory,
    /// Redis, shared by several replicas.
    Redis(Box<Redis>),
}

/// How Redis is reached, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// At least one, all of one scheme, `redis` or `rediss`: `scheme://[user:password@]host[:port][/db]`. Exactly one where
    /// `topology` is single; no database number where it is cluster. Secret, as a password may stand in them.
    pub urls: Vec<Secret>,
    /// What the URLs lead to.
    pub topology: Topology,
    /// User of Redis' access control list; over the one in a URL.
    pub username: Option<String>,
    /// Over the one in a URL.
    pub password: Option<Secret>,
    /// A PEM file of certificate authorities instead of the system's; only with `rediss`.
    pub ca: Option<PathBuf>,
    /// PEM files of a client certificate and its key; only with `rediss`.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Before every key and channel: 1 to 32 of `A-Z`, `a-z`, `0-9`, `:`, `_`, `-`.
    pub prefix: String,
    /// Keys the hashes of callers and requests, the same on all replicas.
    pub secret: Option<Secret>,
    /// A replica that did not renew its lease for so long is gone; at least half a second.
    pub lease: Duration,
    /// One command or flush; less than `lease`.
    pub timeout: Duration,
    /// An event is shown only after Redis has it.
    pub acknowledged: bool,
    /// What becomes of new sessions while Redis cannot be used.
    pub on_failure: OnFailure,
}

/// What the URLs of Redis lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels, which know where the master is.
    Sentinel {
        /// The master's name among them.
        master: String,
    },
    /// Nodes of a cluster, which name the others.
    Cluster,
}

/// What becomes of new sessions while Redis cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They live in this process's memory.
    Memory,
    /// They are refused.
    Refuse,
}
