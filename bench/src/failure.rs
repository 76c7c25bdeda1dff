//! Why a run ended without a result.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::load::StreamFault;

/// Ends the whole run: there is no partial result.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
    #[error("{name} did not start; it said: {output}")]
    NotStarted { name: &'static str, output: String },
    #[error("{} is missing: build it with `cargo build --release`, or name another with --streamkeeper", .0.display())]
    NoBinary(PathBuf),
    #[error("no scenario is called {0:?}; there are {1}")]
    NoScenario(String, String),
    #[error("no peer that is here is called {0:?}; there are {1}")]
    NoPeer(String, String),
    #[error("{peer}, {scenario}: a stream was not what it had to be")]
    Stream { peer: &'static str, scenario: String, source: StreamFault },
    #[error("{what} took longer than {seconds} s: {got} of {expected}")]
    TooSlow { what: &'static str, seconds: u64, got: u64, expected: u64 },
    #[error("{got} events were read where {expected} were sent")]
    Count { got: u64, expected: u64 },
    #[error("Redis holds {got} entries where {expected} had to come within {seconds} s")]
    Stored { got: u64, expected: u64, seconds: u64 },
    #[error("Redis did not answer as it should")]
    Store(#[from] redis::RedisError),
    #[error("{0} cannot be understood: {1:?}")]
    Proc(String, String),
}

impl Failure {
    /// For `map_err`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
