//! What a client sees of each thing that can go wrong behind the proxy, on every wire: the failure catalogue.
//!
//! Stories about time are in `timeouts.rs`, about another way to the answer in `fallback.rs` and `mending.rs`.

mod support;

/// Before any content: a real status, or another try that nobody notices.
#[path = "failures/before_content.rs"]
mod before_content;
/// A 200 that is no stream, or begins with an error.
#[path = "failures/disguised.rs"]
mod disguised;
/// In the middle of a stream: one terminal event, last.
#[path = "failures/mid_stream.rs"]
mod mid_stream;
/// Bytes that are odd, hostile or compressed.
#[path = "failures/odd_bytes.rs"]
mod odd_bytes;
/// Errors that an upstream reports inside its stream.
#[path = "failures/reported.rs"]
mod reported;
