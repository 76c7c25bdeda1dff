//! A child process as a story needs it: its signals, its end, and its log, which is shown when the story fails. It is
//! killed when it is dropped, stopped or not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Lines of a log that are shown when a story fails.
const SHOWN: usize = 30;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; all it says is appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log in a directory of the story's");
        let second = file.try_clone().expect("a second handle");
        let spawned = command.stdin(Stdio::null()).stdout(file).stderr(second).spawn();
        let child = spawned.unwrap_or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => panic!("{name} is needed: make setup installs it"),
            _ => panic!("{name} cannot be started: {error}"),
        });
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("{} takes no signal: {error}", self.name));
    }

    /// `kill -9`, and it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself.
    pub async fn exited(mut self) -> ExitStatus {
        let mut ended = None;
        eventually(&format!("{} to exit", self.name), async || {
            ended = self.child.try_wait().expect("a child of this process");
            ended.is_some()
        })
        .await;
        ended.expect("it has ended")
    }

    /// Asserts that it still runs.
    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child of this process") {
            panic!("{} has ended: {status}", self.name);
        }
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("--- {} ({} lines of log, the last {SHOWN}):\n{tail}", self.name, lines.len());
        }
    }
}

/// A port nobody listens on, below those that the kernel gives to outgoing connections: whoever is started on it anew
/// will find it free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    let start = std::process::id().wrapping_mul(97);
    loop {
        let next = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + next % COUNT).expect("a port");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
