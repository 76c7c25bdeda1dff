//! What this process takes of its machine, under the names that Prometheus's own clients use. Linux only, like the
//! process; what cannot be read counts as 0. Source: proc_pid_status(5), proc_pid_fd(5).

use std::fs;

use rustix::process::{Resource, getrlimit};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes.
    pub memory: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// As many as it may open; the largest number where there is no limit.
    pub descriptors_most: u64,
}

impl Usage {
    /// As it is now.
    pub fn now() -> Self {
        Self {
            memory: resident(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
            // Without the one that reads the folder.
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |fds| (fds.count() as u64).saturating_sub(1)),
            descriptors_most: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_some_memory_and_descriptors_within_its_limit() {
        let usage = Usage::now();
        assert!(usage.memory > 1024 * 1024, "{usage:?}");
        assert!((3..=usage.descriptors_most).contains(&usage.descriptors), "{usage:?}");
    }

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), 2048 * 1024);
        assert_eq!(resident("Name:\tx\n"), 0);
    }
}
