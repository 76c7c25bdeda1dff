//! No proxy: what the upstream, the kernel and the clients cost by themselves.

use super::{Ground, Peer, Started};
use crate::failure::Failure;

/// Clients talk to the upstream.
pub(super) struct Direct;

impl Peer for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn version(&self) -> String {
        "no proxy".into()
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Started, Failure> {
        Ok(Started { address: ground.upstream, process: None, store: None })
    }
}
