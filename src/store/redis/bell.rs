//! Doorbells: what replicas tell each other over one channel each. A bell is only ever a hint to look at what Redis
//! holds; one that gets lost costs a moment, nothing else.

use std::collections::HashMap;

use streamkeeper_session::SessionId;

use super::keys::Replica;

/// What a bell says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bell {
    /// The owner wrote to these sessions.
    Wrote(Vec<SessionId>),
    /// At this replica so many clients read these sessions of yours.
    Attached(Replica, Vec<(SessionId, usize)>),
    /// The client of these sessions of yours has asked for their end.
    Stop(Vec<SessionId>),
    /// This replica gave its sessions up.
    Gone(Replica),
}

impl Bell {
    /// As it goes over the channel.
    pub(super) fn write(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Wrote(ids) => {
                text.push('w');
                ids.iter().for_each(|id| text.push_str(&format!(" {id}")));
            }
            Self::Attached(replica, counts) => {
                text = format!("a {replica}");
                counts.iter().for_each(|(id, count)| text.push_str(&format!(" {id}:{count}")));
            }
            Self::Stop(ids) => {
                text.push('s');
                ids.iter().for_each(|id| text.push_str(&format!(" {id}")));
            }
            Self::Gone(replica) => text = format!("g {replica}"),
        }
        text
    }

    /// Reads a message; `None` if it is none that this version knows.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(message).ok()?.split(' ');
        let kind = words.next()?;
        match kind {
            "w" => Some(Self::Wrote(words.map(|id| id.parse().ok()).collect::<Option<_>>()?)),
            "s" => Some(Self::Stop(words.map(|id| id.parse().ok()).collect::<Option<_>>()?)),
            "a" => {
                let replica = Replica::read(words.next()?.as_bytes())?;
                let count = |word: &str| {
                    let (id, count) = word.split_once(':')?;
                    Some((id.parse().ok()?, count.parse().ok()?))
                };
                Some(Self::Attached(replica, words.map(count).collect::<Option<_>>()?))
            }
            "g" => Some(Self::Gone(Replica::read(words.next()?.as_bytes())?)),
            _ => None,
        }
    }
}

/// Bells for several replicas, gathered before they are rung.
#[derive(Debug)]
pub(super) struct Round<T>(HashMap<Replica, Vec<T>>);

impl<T> Default for Round<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Round<T> {
    pub(super) fn add(&mut self, replica: Replica, what: T) {
        self.0.entry(replica).or_default().push(what);
    }

    pub(super) fn into_bells(self, bell: impl Fn(Vec<T>) -> Bell) -> Vec<(Replica, Bell)> {
        self.0.into_iter().map(|(replica, what)| (replica, bell(what))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bell_is_read_as_it_is_written() {
        let (one, other) = (SessionId::from_random(1), SessionId::from_random(2));
        for bell in [
            Bell::Wrote(vec![one, other]),
            Bell::Attached(Replica::new(7), vec![(one, 0), (other, 12)]),
            Bell::Stop(vec![one]),
            Bell::Gone(Replica::new(7)),
        ] {
            assert_eq!(Bell::read(bell.write().as_bytes()), Some(bell));
        }
    }

    #[test]
    fn other_messages_are_left_alone() {
        for message in ["", "z", "w x", "a 7 x", "a 0000000000000007 x:1", "g", "\u{ff}"] {
            assert_eq!(Bell::read(message.as_bytes()), None, "{message}");
        }
    }
}
