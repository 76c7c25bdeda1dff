//! Processes that this program started and therefore ends, each by its pid.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid as KernelPid, Signal, kill_process};

use crate::failure::Failure;
use crate::proc::{self, Pid};

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);

/// What runs now, for a signal that ends this program.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A running child with its own children. Dropped, it is asked to end, then made to.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    spawned: Instant,
}

impl Process {
    /// Runs `command`, its output in a file of `directory`, until it takes connections at `address`.
    ///
    /// # Errors
    ///
    /// It cannot be run, ends at once, or does not listen in time.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).map_err(Failure::io(format!("write {}", log.display())))?;
        let errors = output.try_clone().map_err(Failure::io(format!("write {}", log.display())))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let spawned = Instant::now();
        let child = command.spawn().map_err(Failure::io(format!("run {name}")))?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        let mut process = Self { child, spawned };
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            let ended = !matches!(process.child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                return Err(Failure::NotStarted { name, output: std::fs::read_to_string(&log).unwrap_or_default() });
            }
            std::thread::sleep(POLL);
        }
        Ok(process)
    }

    /// When it was run.
    pub(crate) fn spawned(&self) -> Instant {
        self.spawned
    }

    /// Its pid and those of its descendants.
    ///
    /// # Errors
    ///
    /// The list of processes cannot be read.
    pub(crate) fn pids(&self) -> Result<Vec<Pid>, Failure> {
        proc::family(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.child.id();
        let family = self.pids().unwrap_or_else(|_| vec![pid]);
        signal(pid, Signal::TERM);
        let deadline = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                family.iter().for_each(|pid| signal(*pid, Signal::KILL));
                break;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.child.wait();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|running| *running != pid);
    }
}

/// Asks everything that runs to end; for the end of this program.
pub(crate) fn stop_all() {
    for pid in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        signal(*pid, Signal::TERM);
    }
}

fn signal(pid: Pid, signal: Signal) {
    // One that has ended already needs none.
    if let Some(pid) = i32::try_from(pid).ok().and_then(KernelPid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
