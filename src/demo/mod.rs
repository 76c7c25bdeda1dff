//! `streamkeeper demo`: an upstream that speaks like an OpenAI-compatible LLM and fails on request, and the page to
//! try it with.
//!
//! What it is not: a model (it answers with canned text and says so), and not part of the proxy. Nothing outside the
//! `demo` command imports it, and but for `command` it imports nothing of the proxy: it stands on the other side of the wire, exactly
//! where a real service would, and the page reaches it through the proxy like everybody else.
//!
//! - [`upstream`]: the listener and the routes
//! - `chat`: what is asked, and the two forms of the answer (events, JSON)
//! - `text`: the words of the answer
//! - `faults`: the grammar of `?fault=` and `x-demo-fault`
//! - `runs`: live control of a generation: kill, stall, resume
//! - `play`: the response body that tells an answer at its pace and fails where it was told to
//! - `assets`: the page
//! - `command`: how the proxy in front is configured, and what is printed
//!
//! Source: the chat completions wire format as OpenAI documents it; the faults are those of the project's catalogue.

mod assets;
mod chat;
mod command;
mod faults;
mod play;
mod runs;
mod text;
pub mod upstream;

pub use command::{greeting, settings};

#[cfg(test)]
mod upstream_tests;
