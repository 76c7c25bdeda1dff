//! What things are called in Redis. The number is the version of everything stored: another layout gets another one,
//! so that replicas of two versions never read each other's records.

use std::fmt;

use streamkeeper_session::SessionId;

const VERSION: u32 = 1;

/// One process; another one at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Replica(u64);

impl Replica {
    pub(super) fn new(random: u64) -> Self {
        Self(random)
    }

    /// Reads 16 hexadecimal digits.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Makes keys. Both keys of a session carry its id in braces, so that a cluster keeps them together.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}:{VERSION}") }
    }

    /// The stream of a session's events.
    pub(super) fn log(&self, id: SessionId) -> String {
        format!("{}:{{{id}}}:log", self.prefix)
    }

    /// The hash of what else is known of a session.
    pub(super) fn meta(&self, id: SessionId) -> String {
        format!("{}:{{{id}}}:meta", self.prefix)
    }

    /// A second name of a session.
    pub(super) fn name(&self, key: u128) -> String {
        format!("{}:name:{key:032x}", self.prefix)
    }

    /// There as long as the replica's lease runs.
    pub(super) fn lease(&self, replica: Replica) -> String {
        format!("{}:replica:{replica}", self.prefix)
    }

    /// The channel on which a replica is told of news.
    pub(super) fn bell(&self, replica: Replica) -> String {
        format!("{}:bell:{replica}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_session_share_a_slot_and_carry_the_version() {
        let (keys, id) = (Keys::new("sk"), SessionId::from_random(1));
        assert_eq!(keys.log(id), format!("sk:1:{{{id}}}:log"));
        assert_eq!(keys.meta(id), format!("sk:1:{{{id}}}:meta"));
    }

    #[test]
    fn a_replica_is_read_as_it_is_written() {
        let replica = Replica::new(0xab);
        assert_eq!(replica.to_string(), "00000000000000ab");
        assert_eq!(Replica::read(replica.to_string().as_bytes()), Some(replica));
        for bad in ["", "ab", "00000000000000zz", "00000000000000abc"] {
            assert_eq!(Replica::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
