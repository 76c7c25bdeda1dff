//! Any text as a configuration: settings that keep their promises, or problems that say something.
//!
//! Input: the text of the file. The module is taken in by its path: the proxy's crate with all that it links would make
//! the target slow to build, and the configuration needs none of it.
#![no_main]

// Only a part of the module is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../src/config/mod.rs"]
mod config;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match config::parse(text, &config::env::Empty) {
        Ok(settings) => {
            assert!(!settings.routes.is_empty(), "something is served");
            assert!(
                settings
                    .upstreams
                    .iter()
                    .all(|one| !one.endpoints.is_empty())
            );
            assert!(
                settings
                    .routes
                    .iter()
                    .all(|one| one.path.starts_with('/') && !one.timeouts.total.is_zero())
            );
            assert!(settings.limits.event <= settings.session.max_bytes);
            assert!(settings.session.max_bytes <= settings.limits.ring_bytes);
        }
        Err(problems) => {
            assert!(problems.iter().count() > 0, "a refusal has a reason");
            assert!(
                problems
                    .iter()
                    .all(|one| !one.path.is_empty() && !one.message.is_empty())
            );
        }
    }
});
