//! Which program this is.

/// The version, as in `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build knew it.
pub const COMMIT: Option<&str> = option_env!("STREAMKEEPER_BUILD_COMMIT");

/// Both, as in `0.1.0 (1f2e3d4)`.
pub const BUILD: &str = env!("STREAMKEEPER_BUILD");
