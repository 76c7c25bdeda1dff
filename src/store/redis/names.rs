//! Second names of sessions, the same for all replicas: an Idempotency-Key leads whoever repeats a request to the
//! session of the first one, wherever that is; a route's session key leads to the newest session.
//!
//! A name holds `<session> <fingerprint>`. It may outlive its session; then it is as good as free.

use redis::{Cmd, Value, cmd};
use streamkeeper_session::SessionId;

use super::link::Trouble;
use super::record::bytes;
use super::shared::Shared;

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) session: SessionId,
    pub(super) fingerprint: u128,
    /// As it stands in Redis.
    text: Vec<u8>,
}

impl Named {
    fn read(value: Value) -> Option<Self> {
        let text = bytes(value)?;
        let (session, fingerprint) = std::str::from_utf8(&text).ok()?.split_once(' ')?;
        let session = session.parse().ok()?;
        Some(Self { session, fingerprint: u128::from_str_radix(fingerprint, 16).ok()?, text })
    }
}

fn text(session: SessionId, fingerprint: u128) -> String {
    format!("{session} {fingerprint:032x}")
}

/// What `key` leads to.
///
/// # Errors
/// When Redis could not be asked.
pub(super) async fn get(shared: &Shared, key: u128) -> Result<Option<Named>, Trouble> {
    let mut get = cmd("GET");
    get.arg(shared.keys.name(key));
    Ok(Named::read(shared.link.ask_one(get).await?))
}

/// Gives `key` to `session`, if it is free, or still holds `instead_of`. `false` if somebody else was faster.
///
/// # Errors
/// When Redis could not be asked.
pub(super) async fn claim(
    shared: &Shared,
    key: u128,
    (session, fingerprint): (SessionId, u128),
    instead_of: Option<&Named>,
    lifetime: u64,
) -> Result<bool, Trouble> {
    let (name, wanted) = (shared.keys.name(key), text(session, fingerprint));
    let claim: Cmd = match instead_of {
        None => {
            let mut set = cmd("SET");
            set.arg(name).arg(wanted).arg("NX").arg("PX").arg(lifetime);
            set
        }
        Some(seen) => {
            let mut rename = shared.scripts.rename(&name);
            rename.arg(&seen.text[..]).arg(wanted).arg(lifetime);
            rename
        }
    };
    Ok(matches!(shared.ask_script(claim).await?, Value::Okay | Value::Int(1)))
}

/// The command that gives `key` to nobody, if it is still `session`'s.
pub(super) fn release(shared: &Shared, key: u128, (session, fingerprint): (SessionId, u128)) -> Cmd {
    let mut rename = shared.scripts.rename(&shared.keys.name(key));
    rename.arg(text(session, fingerprint)).arg("").arg(0);
    rename
}

/// The command that gives `key` to `session`, whoever had it.
pub(super) fn take(shared: &Shared, key: u128, session: SessionId, lifetime: u64) -> Cmd {
    let mut set = cmd("SET");
    set.arg(shared.keys.name(key)).arg(text(session, 0)).arg("PX").arg(lifetime);
    set
}
