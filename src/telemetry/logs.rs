//! Structured logs on standard error: text on a terminal, JSON otherwise. One line per stream, none per event. A log
//! that nobody reads, or that is full, holds nothing up (`lines`).

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::lines::Lines;
use crate::config::{LogFormat, Telemetry};

/// How long the end of the process waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Says what is wrong with a filter, if anything is.
///
/// # Errors
/// What to write instead.
pub fn check(telemetry: &Telemetry) -> Result<(), String> {
    let wrong = |error| format!("telemetry.log: {error}; write a level such as `info`, or `warn,streamkeeper=debug`");
    EnvFilter::try_new(&telemetry.log).map(drop).map_err(wrong)
}

/// Writes the last lines when it is dropped, within a second.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Sets up the logger of this process, from settings that were checked. Changes nothing if there is one already.
///
/// # Errors
/// When there can be no thread that writes.
pub fn install(telemetry: &Telemetry) -> io::Result<Flush> {
    let filter = EnvFilter::try_new(&telemetry.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let text = match telemetry.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let lines = Lines::to(io::stderr())?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone()).with_ansi(colours);
    let _ = if text { builder.with_target(false).try_init() } else { builder.json().flatten_event(true).try_init() };
    Ok(Flush(lines))
}
