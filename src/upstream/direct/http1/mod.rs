//! HTTP/1.1 as a client speaks it, over any stream of bytes: one request, and the body of its answer bit by bit.
//!
//! | module | what it holds |
//! |---|---|
//! | `request` | a request as bytes |
//! | `head` | the head of an answer, read once it is whole |
//! | `framing` | where a body ends, and its bytes without what frames them |
//! | `chunked` | the framing that comes in pieces |
//! | `exchange` | a request goes out, a head comes back |
//! | `body` | what comes after the head |
//! | `scratch` | the buffer that all streams of a thread read into |
//!
//! Made for answers that say nothing most of the time: between two reads nothing is held but the state of the framing.
//! As strict as hyper, which is its oracle (`fuzz/fuzz_targets/http1.rs` names what differs). Not here: connections,
//! their reuse, TLS, upgrades, request bodies that are not there yet.
//!
//! Source: RFC 9112.

mod body;
mod chunked;
mod exchange;
mod framing;
mod head;
mod request;
pub mod scratch;
#[cfg(test)]
mod tests;

pub use body::{Body, Flow};
pub(super) use exchange::poll_read;
pub use exchange::{Failed, exchange};
pub use request::Request;

use std::io;

/// Why an answer cannot be had, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The connection ended before the answer's head was whole.
    #[error("connection closed before the answer's head was whole")]
    NoHead,
    /// The connection ended before the answer's body was whole.
    #[error("connection closed before the answer was whole")]
    Cut,
    /// The head cannot be read.
    #[error("the answer's head is no HTTP/1: {0}")]
    Head(&'static str),
    /// The chunks of the body cannot be read.
    #[error("the answer's chunks are no HTTP/1: {0}")]
    Chunks(&'static str),
}
