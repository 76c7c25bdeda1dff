//! What a resumed upstream says again. It was asked to go on after its last event, but some servers begin with that
//! event, and one that does not know `Last-Event-ID` begins anew under the same ids: two answers must never be mixed.
//!
//! Not here: events without ids of their own kind, which nobody can compare, and what the ring no longer has.

use streamkeeper_session::{Record, Ring};

/// How far a stream is from its first new event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// Everything is new.
    Past,
    /// The next event with an id tells.
    Open,
    /// It repeats what was said.
    Repeating,
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is new.
    New,
    /// It was said already.
    Repeated,
    /// Something else was said under its id.
    Contradicts,
}

impl Overlap {
    /// Judges the next event; `last`: it ends the stream, so it is wanted even if it has no id.
    pub(super) fn judge<E>(&mut self, ring: &Ring<E>, id: Option<&[u8]>, record: &[u8], last: bool) -> Judged {
        let said = match (*self, id) {
            (Self::Past, _) | (Self::Open, None) => return Judged::New,
            (Self::Repeating, None) if last => return Judged::New,
            (Self::Repeating, None) => return Judged::Repeated,
            (Self::Open | Self::Repeating, Some(id)) => ring.find_kept(id).map(|seq| ring.get(seq)),
        };
        match said {
            Some(Ok(Some(Record::Event(entry)))) if same(entry.body, record) => {
                *self = Self::Repeating;
                Judged::Repeated
            }
            Some(_) => Judged::Contradicts,
            None => {
                *self = Self::Past;
                Judged::New
            }
        }
    }
}

/// Whether two records are the same event. Comments and retry hints on the way to it are not part of it.
fn same(one: &[u8], other: &[u8]) -> bool {
    event(one).eq(event(other))
}

fn event(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    record.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b":") && !line.starts_with(b"retry:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamkeeper_session::RingLimits;

    fn ring() -> Ring<()> {
        let mut ring = Ring::new(RingLimits { max_events: 10, max_bytes: 1000 });
        for (id, record) in [(Some(&b"1"[..]), "data: a\n"), (None, "data: b\n"), (Some(b"2"), ": hi\ndata: c\n")] {
            ring.push(record.as_bytes(), id).unwrap();
        }
        ring
    }

    fn judged(events: &[(Option<&str>, &str, bool)]) -> Vec<Judged> {
        let (ring, mut overlap) = (ring(), Overlap::Open);
        let judge = |(id, record, last): &(Option<&str>, &str, bool)| {
            overlap.judge(&ring, id.map(str::as_bytes), record.as_bytes(), *last)
        };
        events.iter().map(judge).collect()
    }

    #[test]
    fn a_stream_that_goes_on_is_new_from_its_first_event() {
        let events = [(None, "data: x\n", false), (Some("3"), "data: d\n", false), (Some("1"), "data: a\n", false)];
        assert_eq!(judged(&events), [Judged::New; 3]);
    }

    #[test]
    fn what_is_repeated_is_left_out_until_something_new_comes() {
        use Judged::{New, Repeated};
        let events = [
            (Some("1"), "data: a\n", false),
            (None, "data: b\n", false),
            (Some("2"), "retry: 5\n: ho\ndata: c\n", false),
            (Some("3"), "data: d\n", false),
            (None, "data: e\n", false),
        ];
        assert_eq!(judged(&events), [Repeated, Repeated, Repeated, New, New]);
    }

    #[test]
    fn an_end_without_an_id_is_wanted_after_repetitions() {
        let events = [(Some("2"), "data: c\n", false), (None, "data: end\n", true)];
        assert_eq!(judged(&events), [Judged::Repeated, Judged::New]);
    }

    #[test]
    fn other_words_under_a_known_id_are_another_answer() {
        assert_eq!(judged(&[(Some("1"), "data: x\n", false)]), [Judged::Contradicts]);
        assert_eq!(judged(&[(Some("1"), "event: a\ndata: a\n", false)]), [Judged::Contradicts]);
    }
}
