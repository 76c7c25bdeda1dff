//! One entry of a session's stream in Redis: `<epoch>-<seq>` and one or two fields.
//!
//! | fields | meaning |
//! |---|---|
//! | `e` body, `k` the upstream's own id, `x` how this epoch goes on (first event of a later epoch only) | an event, as the ring keeps it |
//! | `o` replica | from here on this replica owns the session; the id's seq is the last one before |
//! | `s` `completed` or an error code | the end; its seq is the one an event would have had next |
//!
//! Not here: what follows from an entry for a log (`mirror`), and which ones are to be written (`writer`).

use redis::Value;
use streamkeeper_session::{Code, End, Splice};

use super::keys::Replica;

/// `<epoch>-<seq>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) epoch: u32,
    pub(super) seq: u64,
}

impl EntryId {
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (epoch, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Event { body: Vec<u8>, kept: Option<Vec<u8>>, splice: Option<Splice> },
    Owner(Replica),
    Sealed(End),
}

/// An entry, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) record: Record,
}

impl Entry {
    /// Reads one element of XRANGE's answer; `None` if this version does not know it.
    pub(super) fn read(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [id, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
        let id = EntryId::read(&bytes(id)?)?;
        let mut fields = fields.into_iter().map(bytes);
        let (mut record, mut kept, mut splice) = (None, None, None);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let value = value?;
            match &*name? {
                b"e" => record = Some(Record::Event { body: value, kept: None, splice: None }),
                b"k" => kept = Some(value),
                b"x" => splice = Some(Splice::from_wire(std::str::from_utf8(&value).ok()?)?),
                b"o" => record = Some(Record::Owner(Replica::read(&value)?)),
                b"s" => record = Some(Record::Sealed(end_of(&value)?)),
                _ => return None,
            }
        }
        let record = match record? {
            Record::Event { body, .. } => Record::Event { body, kept, splice },
            other => other,
        };
        Some(Self { id, record })
    }
}

/// The bytes of a string that Redis answered with.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// How an end is written.
pub(super) fn end_word(end: &End) -> &'static str {
    end.fault().map_or("completed", |fault| fault.code.as_str())
}

fn end_of(word: &[u8]) -> Option<End> {
    if word == b"completed" {
        return Some(End::Completed);
    }
    let code = Code::ALL.iter().find(|code| code.as_str().as_bytes() == word)?;
    Some(End::Failed(Box::new((*code).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, fields: &[&str]) -> Option<Entry> {
        let text = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
        Entry::read(Value::Array(vec![text(&id), Value::Array(fields.iter().map(text).collect())]))
    }

    #[test]
    fn each_kind_is_read() {
        let event = |kept: Option<&str>, splice| Record::Event {
            body: b"data: a\n".to_vec(),
            kept: kept.map(|id| id.as_bytes().to_vec()),
            splice,
        };
        for (fields, record) in [
            (&["e", "data: a\n"][..], event(None, None)),
            (&["e", "data: a\n", "k", "7"], event(Some("7"), None)),
            (&["e", "data: a\n", "x", "differs"], event(None, Some(Splice::Differs))),
            (&["o", "00000000000000ff"], Record::Owner(Replica::new(255))),
            (&["s", "completed"], Record::Sealed(End::Completed)),
            (&["s", "owner_lost"], Record::Sealed(End::Failed(Box::new(Code::OwnerLost.into())))),
        ] {
            assert_eq!(entry("2-9", fields), Some(Entry { id: EntryId { epoch: 2, seq: 9 }, record }), "{fields:?}");
        }
    }

    #[test]
    fn what_this_version_does_not_know_is_not_guessed() {
        for (id, fields) in [
            ("1-1", &["z", "1"][..]),
            ("1-1", &[]),
            ("1", &["e", "a"]),
            ("1-x", &["e", "a"]),
            ("1-1", &["s", "sideways"]),
            ("1-1", &["o", "me"]),
        ] {
            assert_eq!(entry(id, fields), None, "{id} {fields:?}");
        }
    }

    #[test]
    fn ids_order_by_epoch_first() {
        let id = |text: &str| EntryId::read(text.as_bytes()).unwrap();
        assert!(id("0-99") < id("1-60"));
        assert_eq!(id("1-60").to_string(), "1-60");
    }
}
