//! What the kernel says of processes: CPU time of every thread, memory, children. And of the machine.
//!
//! Source: proc(5); Documentation/scheduler/sched-stats.rst for `schedstat`.

use std::fs;
use std::io;

use crate::failure::Failure;

/// A process id.
pub(crate) type Pid = u32;

/// What all threads of some processes have used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Time on a CPU, in nanoseconds, kernel work for the process included.
    pub(crate) nanos: u64,
    /// How often a thread was put on a CPU.
    pub(crate) slices: u64,
}

impl Cpu {
    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(earlier.nanos), slices: self.slices.saturating_sub(earlier.slices) }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos + other.nanos, slices: self.slices + other.slices }
    }
}

/// Sums the CPU use of all threads of `pids`.
///
/// # Errors
///
/// A process is gone, or the kernel keeps no such figures.
pub(crate) fn cpu(pids: &[Pid]) -> Result<Cpu, Failure> {
    let mut sum = Cpu::default();
    for pid in pids {
        let tasks = format!("/proc/{pid}/task");
        for task in fs::read_dir(&tasks).map_err(Failure::io(format!("read {tasks}")))? {
            let path = task.map_err(Failure::io(format!("read {tasks}")))?.path().join("schedstat");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // A thread that ended since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::io(format!("read {}", path.display()))(error)),
            };
            let cpu = parse_schedstat(&text).ok_or_else(|| Failure::Proc(path.display().to_string(), text))?;
            sum = sum.plus(cpu);
        }
    }
    Ok(sum)
}

/// Time on the CPU, time waiting for it, number of times on it.
fn parse_schedstat(text: &str) -> Option<Cpu> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let nanos = fields.next()?.ok()?;
    let slices = fields.nth(1)?.ok()?;
    Some(Cpu { nanos, slices })
}

/// User memory of `pids` in KiB: each page counted in equal parts by the processes that share it (`Pss`).
///
/// # Errors
///
/// A process is gone or not ours.
pub(crate) fn memory(pids: &[Pid]) -> Result<u64, Failure> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))?;
        sum += parse_kib(&text, "Pss:").ok_or(Failure::Proc(path, text))?;
    }
    Ok(sum)
}

fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What the kernel holds for sockets and the like, of the whole machine, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Objects in use of all its slab caches (sockets, descriptors, epoll entries); `None` where only others may look.
    pub(crate) slab: Option<u64>,
    /// Pages that TCP has for its buffers.
    pub(crate) buffers: u64,
}

/// Reads both.
///
/// # Errors
///
/// The kernel keeps no such figures.
pub(crate) fn kernel() -> Result<Kernel, Failure> {
    let path = "/proc/net/sockstat";
    let text = fs::read_to_string(path).map_err(Failure::io(format!("read {path}")))?;
    let pages = parse_sockstat(&text).ok_or_else(|| Failure::Proc(path.into(), text))?;
    let page = rustix::param::page_size() as u64 / 1024;
    let slab = fs::read_to_string("/proc/slabinfo").ok().map(|text| parse_slabinfo(&text) / 1024);
    Ok(Kernel { slab, buffers: pages * page })
}

/// The pages after `mem` in the line of TCP.
fn parse_sockstat(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// The bytes of the objects in use: the second column times the fourth.
fn parse_slabinfo(text: &str) -> u64 {
    let caches = text.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
        let active = numbers.next()?.ok()?;
        Some(active * numbers.nth(1)?.ok()?)
    });
    caches.sum()
}

/// Resident memory of `pids` in KiB, shared pages counted for each.
///
/// # Errors
///
/// A process is gone.
pub(crate) fn resident(pids: &[Pid]) -> Result<u64, Failure> {
    let mut sum = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))?;
        sum += parse_kib(&text, "VmRSS:").ok_or(Failure::Proc(path, text))?;
    }
    Ok(sum)
}

/// `root` and all that descend from it.
///
/// # Errors
///
/// The list of processes cannot be read.
pub(crate) fn family(root: Pid) -> Result<Vec<Pid>, Failure> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").map_err(Failure::io("read /proc"))? {
        let name = entry.map_err(Failure::io("read /proc"))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<Pid>().ok()) else { continue };
        // One that ended since it was listed is nobody's child.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parse_parent(&stat) {
            parents.push((pid, parent));
        }
    }
    Ok(descendants(root, &parents))
}

/// The fourth field; the second may hold blanks and parentheses.
fn parse_parent(stat: &str) -> Option<Pid> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn descendants(root: Pid, parents: &[(Pid, Pid)]) -> Vec<Pid> {
    let mut found = vec![root];
    let mut seen = 0;
    while let Some(&parent) = found.get(seen) {
        found.extend(parents.iter().filter(|(pid, of)| *of == parent && *pid != root).map(|(pid, _)| pid));
        seen += 1;
    }
    found
}

/// One line about the machine: CPU, cores, kernel.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

/// Load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_gives_time_on_the_cpu_and_how_often() {
        assert_eq!(parse_schedstat("137075 56786 2\n"), Some(Cpu { nanos: 137_075, slices: 2 }));
        assert_eq!(parse_schedstat("137075 56786"), None);
        assert_eq!(parse_schedstat("a b c"), None);
    }

    #[test]
    fn the_proportional_set_size_is_found_among_its_neighbours() {
        let rollup = "5643-7ffc ---p 0 00:00 0 [rollup]\nRss:  1684 kB\nPss:   248 kB\nPss_Dirty:  116 kB\n";
        assert_eq!(parse_kib(rollup, "Pss:"), Some(248));
        assert_eq!(parse_kib("Rss: 1 kB\n", "Pss:"), None);
    }

    #[test]
    fn what_the_kernel_holds_is_pages_of_tcp_and_objects_in_use() {
        let sockstat = "sockets: used 11\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 7\nUDP: inuse 0 mem 5\n";
        assert_eq!(parse_sockstat(sockstat), Some(7));
        assert_eq!(parse_sockstat("UDP: mem 5\n"), None);
        let slabs = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                     TCP 10 13 2368 13 8 : tunables 0\nfilp 100 110 256 16 1 : tunables 0\n";
        assert_eq!(parse_slabinfo(slabs), 10 * 2_368 + 100 * 256);
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parse_parent(""), None);
    }

    #[test]
    fn a_family_is_its_root_with_children_and_grandchildren_only() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 10), (13, 12), (20, 1)];
        assert_eq!(descendants(10, &parents), [10, 11, 12, 13]);
    }

    #[test]
    fn this_very_process_can_be_read() {
        let own = std::process::id();
        assert!(family(own).expect("readable").contains(&own));
        assert!(memory(&[own]).expect("readable") > 0);
        assert!(cpu(&[own]).expect("readable").nanos > 0);
    }
}
