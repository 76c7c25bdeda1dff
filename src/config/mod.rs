//! The configuration: from TOML, flags and the environment to [`Settings`] that are valid by being there.
//!
//! ```text
//! text ─ file::table ─▶ Table ─ Flags::write_into ─▶ Table ─ file::settings ─▶ Settings | every Problem
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | the result: checked values, nothing optional that has a default |
//! | `file`, `upstreams`, `routes`, `store` | the keys, their defaults, the checks between them |
//! | `reader`, `keys` | one call reads one key; collects problems, knows what is unknown |
//! | `values`, `units` | what a single string may mean |
//! | [`Effective`] | all keys with the values in use, to be shown and compared |
//! | [`mod@env`] | variables and files the configuration points to |
//! | [`secret`] | a string that does not print |
//! | [`follow()`] | what a running process can take over of a new configuration |
//!
//! Not here: when to read it again (`crate::reload`), and the flags' own syntax.

mod effective;
pub mod env;
mod file;
mod flags;
mod follow;
mod keys;
mod problem;
mod reader;
mod routes;
pub mod secret;
pub mod settings;
mod store;
mod units;
mod upstreams;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use effective::{Change, Effective};
pub use env::Env;
pub use flags::Flags;
pub use follow::{Followed, follow};
pub use problem::{LoadError, Problem, Problems};
pub use secret::Secret;
pub use settings::*;
pub use upstreams::CREDENTIAL_HEADERS;

/// Reads a file, lets the flags override it, and takes secrets from this process's environment.
///
/// # Errors
/// The file cannot be read, the flags do not fit it, or it is wrong: every problem then, not only the first.
pub fn load(path: &Path, flags: &Flags) -> Result<Settings, LoadError> {
    load_from(path, flags, &env::Process)
}

/// [`load`] in another world, in which the file itself is, too.
///
/// # Errors
/// As [`load`].
pub fn load_from(path: &Path, flags: &Flags, env: &dyn Env) -> Result<Settings, LoadError> {
    let text = env.read(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
    with_flags(&text, flags, env)
}

/// Settings without a file: `--upstream` names the only upstream, all else has its default or a flag.
///
/// # Errors
/// Without `flags.upstream` there is nowhere to send anything; or a flag is wrong.
pub fn without_file(flags: &Flags) -> Result<Settings, LoadError> {
    with_flags("", flags, &env::Empty)
}

/// One upstream named `upstream`, one route `/` to it, every other value its default.
///
/// # Errors
/// The URL is no endpoint.
pub fn for_upstream(url: &str) -> Result<Settings, Problems> {
    file::settings(flags::only_upstream(url), &env::Empty)
}

/// Reads a configuration's text; variables and secret files come from `env`.
///
/// # Errors
/// Every problem there is, each with its TOML path.
pub fn parse(text: &str, env: &dyn Env) -> Result<Settings, Problems> {
    file::settings(file::table(text)?, env)
}

fn with_flags(text: &str, flags: &Flags, env: &dyn Env) -> Result<Settings, LoadError> {
    let mut table = file::table(text)?;
    flags.write_into(&mut table)?;
    Ok(file::settings(table, env)?)
}
