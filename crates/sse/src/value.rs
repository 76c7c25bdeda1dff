//! Text that cannot hold what would break a line. For values of our own making and for ids that
//! come from outside; the decoder does not use them, because what it reads is already lines.

use std::fmt;

use thiserror::Error;

/// Why a text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ValueError {
    /// A character that would end the line or the field, or could not travel back in a header.
    #[error("character {character:?} at byte {at} is not allowed here")]
    Illegal {
        /// The character.
        character: char,
        /// Its offset in bytes.
        at: usize,
    },
    /// More bytes than the value may have.
    #[error("{length} bytes are more than the {limit} allowed here")]
    TooLong {
        /// The length in bytes.
        length: usize,
        /// The most there may be.
        limit: usize,
    },
}

fn refuse(text: &str, illegal: impl Fn(char) -> bool) -> Result<Box<str>, ValueError> {
    match text.char_indices().find(|(_, found)| illegal(*found)) {
        Some((at, character)) => Err(ValueError::Illegal { character, at }),
        None => Ok(text.into()),
    }
}

fn breaks_line(found: char) -> bool {
    matches!(found, '\r' | '\n' | '\0')
}

/// The name of an event: no CR, LF or NUL. Empty stands for `message`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(Box<str>);

/// The text of a comment: no CR, LF or NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Comment(Box<str>);

/// An event id that every client can take and send back in `Last-Event-ID`: at most
/// [`Id::MAX_LEN`] bytes of ASCII without control characters (a tab may stay). Others either
/// vanish on the way or, beyond ASCII, end some clients. Empty is a reset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Box<str>);

impl Id {
    /// The longest id, in bytes.
    pub const MAX_LEN: usize = 128;
}

impl TryFrom<&str> for EventName {
    type Error = ValueError;

    fn try_from(text: &str) -> Result<Self, ValueError> {
        refuse(text, breaks_line).map(Self)
    }
}

impl TryFrom<&str> for Comment {
    type Error = ValueError;

    fn try_from(text: &str) -> Result<Self, ValueError> {
        refuse(text, breaks_line).map(Self)
    }
}

impl TryFrom<&str> for Id {
    type Error = ValueError;

    fn try_from(text: &str) -> Result<Self, ValueError> {
        if text.len() > Self::MAX_LEN {
            return Err(ValueError::TooLong { length: text.len(), limit: Self::MAX_LEN });
        }
        refuse(text, |found| !found.is_ascii() || (found.is_ascii_control() && found != '\t')).map(Self)
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(EventName, Comment, Id);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_open_a_second_line() {
        for (text, at) in [("a\rb", 1), ("\n", 0), ("é\0", 2)] {
            let character = text[at..].chars().next().unwrap();
            let refused = ValueError::Illegal { character, at };
            assert_eq!(EventName::try_from(text), Err(refused));
            assert_eq!(Comment::try_from(text), Err(refused));
            assert!(Id::try_from(text).is_err());
        }
    }

    #[test]
    fn names_and_comments_may_be_empty_and_beyond_ascii() {
        assert_eq!(EventName::try_from("żaba").unwrap().as_str(), "żaba");
        assert_eq!(Comment::try_from("").unwrap().to_string(), "");
    }

    #[test]
    fn an_id_is_short_printable_ascii() {
        let longest = "x".repeat(Id::MAX_LEN);
        assert_eq!(Id::try_from(&*longest).unwrap().to_string(), longest);
        assert_eq!(Id::try_from(&*"x".repeat(129)), Err(ValueError::TooLong { length: 129, limit: 128 }));
        assert_eq!(Id::try_from("").unwrap().as_str(), "");
        assert_eq!(Id::try_from("a b\tc").unwrap().as_str(), "a b\tc");
        for refused in ["é", "\u{7f}", "\u{1}", "a\nb"] {
            assert!(Id::try_from(refused).is_err(), "{refused:?}");
        }
    }
}
