//! What a running process can follow of a new configuration, and what waits for the next start.
//!
//! Sockets that listen, the store and the logger are set up once. What belongs to them keeps its value.

use super::effective::Change;
use super::settings::{Settings, Telemetry};

/// A new configuration as a running process can have it.
#[derive(Debug)]
pub struct Followed {
    /// The new settings, with the old values where those have to stay.
    pub settings: Settings,
    /// What differs from the settings that were in use.
    pub changed: Vec<Change>,
    /// What is wanted and needs a restart: from the value in use to the wanted one.
    pub waiting: Vec<Change>,
}

/// What a process with `current` makes of `wanted`.
pub fn follow(current: &Settings, wanted: Settings) -> Followed {
    let asked = wanted.effective.clone();
    let mut settings = wanted;
    let mut kept = vec!["listen.address", "listen.workers", "http1", "store", "telemetry"];
    settings.listen.address = current.listen.address;
    settings.listen.workers = current.listen.workers;
    settings.http1 = current.http1;
    settings.store = current.store.clone();
    settings.telemetry = Telemetry { development: settings.telemetry.development, ..current.telemetry.clone() };
    if settings.admin.address != current.admin.address {
        // The old port stays open, so what guards it stays as well.
        settings.admin = current.admin.clone();
        kept.push("admin");
    }
    for path in kept {
        settings.effective.keep(&current.effective, path);
    }
    settings.effective.keep(&asked, "telemetry.development");
    Followed {
        changed: current.effective.changes(&settings.effective),
        waiting: settings.effective.changes(&asked),
        settings,
    }
}
