//! Counts the result of each request to an upstream, once, however it came about: an answer, a fault, a timeout, or
//! the session's end. An answer counts as `ok` when it is whole, not when it begins.

use crate::telemetry::metrics;

/// What is still to be counted.
#[derive(Debug)]
pub(super) struct Tally {
    uncounted: bool,
    /// The kind of the stand-in or mending request that is out.
    fallback: Option<&'static str>,
}

impl Tally {
    /// For no request.
    pub(super) fn nothing() -> Self {
        Self { uncounted: false, fallback: None }
    }

    /// For a request that is out already.
    pub(super) fn adopted() -> Self {
        Self { uncounted: true, fallback: None }
    }

    /// A request goes out; `fallback`: its kind, if it stands in for a stream or mends one.
    pub(super) fn out(&mut self, fallback: Option<&'static str>) {
        *self = Self { uncounted: true, fallback };
    }

    /// The request that is out, if there is one, is over: well, or with this code.
    pub(super) fn over(&mut self, code: Option<&'static str>) {
        if std::mem::take(&mut self.uncounted) {
            metrics::attempt(code.unwrap_or("ok"));
        }
        if let Some(kind) = self.fallback.take() {
            metrics::fallback(kind, if code.is_none() { "ok" } else { "failed" });
        }
    }
}
