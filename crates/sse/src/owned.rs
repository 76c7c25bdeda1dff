//! An event that outlives its bytes: for events made from JSON, and for tests. The path of a
//! stream does not use it; there events stay borrowed until their body is written.

use crate::encode::{END_OF_BLOCK, write_body, write_id};
use crate::item::Event;

/// An event as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedEvent {
    /// Empty stands for `message`.
    pub name: String,
    /// The lines, joined by `\n`.
    pub data: String,
    /// The id it sets, if it sets one.
    pub id: Option<String>,
}

impl OwnedEvent {
    /// An event without an id.
    pub fn new(name: impl Into<String>, data: impl Into<String>) -> Self {
        Self { name: name.into(), data: data.into(), id: None }
    }

    /// Appends the block body: name and data, no id, no blank line (see [`write_body`]).
    pub fn write_body(&self, out: &mut Vec<u8>) {
        write_body(self.name.as_bytes(), self.data.as_bytes(), out);
    }

    /// Appends the whole block: body, id if there is one, blank line. The id comes after the data, because some
    /// clients note it as soon as its line is there.
    pub fn write_block(&self, out: &mut Vec<u8>) {
        self.write_body(out);
        if let Some(id) = &self.id {
            write_id(id.as_bytes(), out);
        }
        out.extend_from_slice(END_OF_BLOCK);
    }
}

/// What is not UTF-8 becomes U+FFFD.
impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { name: text(event.name), data: text(event.data), id: event.id.map(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_body_id_and_blank_line() {
        let mut out = Vec::new();
        OwnedEvent { id: Some("7".into()), ..OwnedEvent::new("tick", "a\nb") }.write_block(&mut out);
        assert_eq!(out, b"event: tick\ndata: a\ndata: b\nid: 7\n\n");
    }

    #[test]
    fn an_event_turns_into_text_with_repairs() {
        let event = Event { name: b"n", data: b"\xFF", id: Some(b"") };
        let owned = OwnedEvent::from(event);
        assert_eq!(owned.data, "\u{FFFD}");
        assert_eq!(owned.id.as_deref(), Some(""));
    }
}
