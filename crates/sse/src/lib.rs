//! Server-Sent Events without sockets: bytes in, items out, and back.
//!
//! | module   | what it holds |
//! |----------|---------------|
//! | `item`   | what a decoder gives: [`Item`], [`Event`], and what it may refuse: [`DecodeError`], [`Limits`] |
//! | `line`   | the grammar of one line: where it ends, which field it is |
//! | `decode` | [`Decoder`] and [`Items`]: chunks of a body to items, total on any input |
//! | `encode` | `write_*`: values to wire bytes in the one framing every client reads |
//! | `value`  | [`EventName`], [`Id`], [`Comment`]: text that cannot hold what would break a line |
//! | `owned`  | [`OwnedEvent`]: an event that outlives its bytes |
//!
//! It knows no clock, no runtime and no dialect: what an event *means* is not decided here.
//!
//! Source: WHATWG HTML, section 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event
//! stream". Every rule there is followed; two things differ because this sits in a proxy and not
//! in a browser: comments and unknown fields are handed out instead of being thrown away, and
//! bytes come out raw (the encoder repairs what is not UTF-8).
//!
//! ```
//! use streamkeeper_sse::{Decoder, Finish, Item, Limits};
//!
//! let mut decoder = Decoder::new(Limits::default());
//! let mut words = Vec::new();
//! for chunk in [&b"data: hel"[..], b"lo\n\nda", b"ta: world\r\n\r\n"] {
//!     let mut items = decoder.feed(chunk);
//!     while let Some(item) = items.next() {
//!         if let Item::Event(event) = item? {
//!             words.push(event.data.to_vec());
//!         }
//!     }
//! }
//! assert_eq!(words, [b"hello", b"world"]);
//! assert_eq!(decoder.finish(), Finish::Clean);
//! # Ok::<(), streamkeeper_sse::DecodeError>(())
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod decode;
mod encode;
mod item;
mod line;
#[cfg(any(test, fuzzing))]
pub mod oracle;
mod owned;
#[cfg(test)]
mod properties;
mod value;

pub use decode::{Decoder, Items};
pub use encode::{END_OF_BLOCK, KEEP_ALIVE, write_body, write_comment, write_id, write_retry};
pub use item::{DecodeError, Event, Finish, Item, Limits};
pub use owned::OwnedEvent;
pub use value::{Comment, EventName, Id, ValueError};
