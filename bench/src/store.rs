//! A redis-server for the Redis store, and what it is asked: how much it holds, and in how many bytes. It listens on
//! loopback, persists nothing, and is otherwise as it comes.
//!
//! What it holds is asked of Redis itself and not of the proxy: an event that the proxy only believes to be there is none.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::peer::{Process, free_address};
use crate::proc::Pid;

/// The streams and hashes of all sessions, under the prefix that is the default.
const LOGS: &str = "sk:1:{*}:log";
const SESSIONS: &str = "sk:1:{*}:*";
/// Keys per step of a scan: all of them.
const STEP: u32 = 100_000;

/// A redis-server that runs. Dropped, it ends.
pub(crate) struct Store {
    address: SocketAddr,
    process: Process,
    connection: RefCell<redis::Connection>,
}

impl Store {
    /// Starts `server` on a free port.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub(crate) fn start(server: &Path, directory: &Path) -> Result<Self, Failure> {
        let address = free_address()?;
        let mut command = Command::new(server);
        command.arg("--bind").arg("127.0.0.1").arg("--port").arg(address.port().to_string());
        command.arg("--dir").arg(directory).args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        let process = Process::start("redis-server", command, address, directory)?;
        let connection = redis::Client::open(format!("redis://{address}"))?.get_connection()?;
        Ok(Self { address, process, connection: RefCell::new(connection) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its processes.
    ///
    /// # Errors
    ///
    /// The list of processes cannot be read.
    pub(crate) fn pids(&self) -> Result<Vec<Pid>, Failure> {
        self.process.pids()
    }

    /// The entries of all sessions' streams: events, and one more for each that has ended.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn entries(&self) -> Result<u64, Failure> {
        self.sum(LOGS, &["XLEN"], &[])
    }

    /// Bytes of all sessions' keys with all that is in them, as Redis counts them.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn key_bytes(&self) -> Result<u64, Failure> {
        self.sum(SESSIONS, &["MEMORY", "USAGE"], &["SAMPLES", "0"])
    }

    /// Bytes that it has allocated in all.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn used_bytes(&self) -> Result<u64, Failure> {
        let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query(&mut *self.connection.borrow_mut())?;
        info.get("used_memory").ok_or_else(|| Failure::Proc("INFO memory".into(), String::new()))
    }

    /// Asks `command KEY options` of every key that matches, and adds the answers up.
    fn sum(&self, pattern: &str, command: &[&str], options: &[&str]) -> Result<u64, Failure> {
        let connection = &mut *self.connection.borrow_mut();
        let mut scan = redis::cmd("SCAN");
        scan.cursor_arg(0).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        let keys = scan.iter::<String>(connection)?.collect::<redis::RedisResult<Vec<String>>>()?;
        if keys.is_empty() {
            return Ok(0);
        }
        let mut pipeline = redis::pipe();
        for key in keys {
            let mut asked = redis::Cmd::new();
            asked.arg(command).arg(key).arg(options);
            pipeline.add_command(asked);
        }
        // A key that expired in between has nothing.
        let answers: Vec<Option<u64>> = pipeline.query(connection)?;
        Ok(answers.into_iter().flatten().sum())
    }
}
