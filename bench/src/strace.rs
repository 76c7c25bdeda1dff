//! strace, attached to processes that run: which system calls they make, counted.
//!
//! Source: strace(1), `-c`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid as KernelPid, Signal, kill_process};

use crate::failure::Failure;
use crate::proc::Pid;

const ATTACH: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// How often each kind of call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// `read`, `recvfrom` and their like.
    pub(crate) recv: u64,
    /// Those of them that failed, so most of all: that found nothing.
    pub(crate) recv_again: u64,
    /// `writev`, `sendto` and their like.
    pub(crate) send: u64,
    /// `write`: for the proxies here no socket's, but an eventfd's or a file's.
    pub(crate) write: u64,
    /// `futex`.
    pub(crate) futex: u64,
    /// `epoll_wait` and its like.
    pub(crate) epoll_wait: u64,
    /// All others.
    pub(crate) other: u64,
}

/// A strace at work. Dropped, it is ended.
pub(crate) struct Strace {
    child: Child,
    summary: PathBuf,
}

impl Strace {
    /// Attaches to all threads of `pids`; returns once it counts.
    ///
    /// # Errors
    ///
    /// It cannot be run, or must not trace.
    pub(crate) fn attach(pids: &[Pid], directory: &Path) -> Result<Self, Failure> {
        let (summary, said) = (directory.join("strace.txt"), directory.join("strace.log"));
        let errors = File::create(&said).map_err(Failure::io("write strace's log"))?;
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&summary);
        for pid in pids {
            command.arg("-p").arg(pid.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = command.spawn().map_err(Failure::io("run strace"))?;
        let mut strace = Self { child, summary };
        let deadline = Instant::now() + ATTACH;
        while !pids.iter().all(|pid| traced(*pid)) {
            let ended = !matches!(strace.child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                let output = fs::read_to_string(&said).unwrap_or_default();
                return Err(Failure::NotStarted { name: "strace", output });
            }
            std::thread::sleep(POLL);
        }
        Ok(strace)
    }

    /// Lets go and returns what was counted.
    ///
    /// # Errors
    ///
    /// It has left no summary.
    pub(crate) fn detach(mut self) -> Result<Calls, Failure> {
        self.interrupt();
        self.child.wait().map_err(Failure::io("wait for strace"))?;
        let text = fs::read_to_string(&self.summary).map_err(Failure::io("read strace's summary"))?;
        parse(&text).ok_or_else(|| Failure::Proc("strace's summary".into(), text))
    }

    fn interrupt(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(KernelPid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
            let _ = self.child.wait();
        }
    }
}

/// Whether every thread of `pid` has a tracer.
fn traced(pid: Pid) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    })
}

/// Lines of `% time, seconds, usecs/call, calls, [errors,] syscall`, between two of dashes.
fn parse(summary: &str) -> Option<Calls> {
    let mut calls = Calls::default();
    let lines = summary.lines().skip_while(|line| !line.starts_with("------")).skip(1);
    for line in lines.take_while(|line| !line.starts_with("------")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (count, name) = (words.get(3)?.parse::<u64>().ok()?, words.last()?);
        let errors = if words.len() > 5 { words.get(4)?.parse::<u64>().ok()? } else { 0 };
        match *name {
            "read" | "readv" | "recvfrom" | "recvmsg" => {
                calls.recv += count;
                calls.recv_again += errors;
            }
            "writev" | "sendto" | "sendmsg" => calls.send += count,
            "write" => calls.write += count,
            "futex" => calls.futex += count,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => calls.epoll_wait += count,
            _ => calls.other += count,
        }
    }
    Some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_added_up_by_kind() {
        let summary = "strace: Process 1 attached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            70.23    3.410000          10    300000           writev\n \
            20.00    0.970000           3    310000     10000 recvfrom\n  \
            5.00    0.240000           2      1000           epoll_wait\n  \
            3.00    0.140000           2        50        20 futex\n  \
            1.00    0.040000           2         7           write\n  \
            0.77    0.040000           2         3           madvise\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    4.840000           5    611060     10020 total\n";
        let calls = Calls {
            recv: 310_000,
            recv_again: 10_000,
            send: 300_000,
            write: 7,
            futex: 50,
            epoll_wait: 1_000,
            other: 3,
        };
        assert_eq!(parse(summary), Some(calls));
    }

    #[test]
    fn a_summary_of_nothing_counts_nothing() {
        assert_eq!(parse(""), Some(Calls::default()));
    }
}
