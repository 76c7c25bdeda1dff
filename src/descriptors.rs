//! File descriptors: a stream takes two, so the soft limit is raised to the hard one, and a limit that is still too low
//! is said at the start, not when accepting fails.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for listeners, logs, the runtime and the admin port.
const RESERVED: u64 = 64;

/// Raises the soft limit as far as it goes. Returns how many descriptors there are; `None` is no limit.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            return limit.maximum;
        }
    }
    limit.current
}

/// Says so if `connections` clients could use up `descriptors`.
pub fn warn_if_scarce(descriptors: Option<u64>, connections: usize) {
    let needed = (connections as u64).saturating_mul(2).saturating_add(RESERVED);
    if let Some(descriptors) = descriptors.filter(|descriptors| *descriptors < needed) {
        tracing::warn!(
            descriptors,
            needed,
            "limits.connections may use up the file descriptors: raise `ulimit -n` (LimitNOFILE=), or lower it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
