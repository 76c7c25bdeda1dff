//! Structured logs on standard error: text on a terminal, JSON otherwise. One line per stream, none per event.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Telemetry};

/// Says what is wrong with a filter, if anything is.
///
/// # Errors
/// What to write instead.
pub fn check(telemetry: &Telemetry) -> Result<(), String> {
    let wrong = |error| format!("telemetry.log: {error}; write a level such as `info`, or `warn,streamkeeper=debug`");
    EnvFilter::try_new(&telemetry.log).map(drop).map_err(wrong)
}

/// Sets up the logger of this process, from settings that were checked. Does nothing if there is one already.
pub fn install(telemetry: &Telemetry) {
    let filter = EnvFilter::try_new(&telemetry.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let text = match telemetry.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if text { builder.with_target(false).try_init() } else { builder.json().flatten_event(true).try_init() };
}
