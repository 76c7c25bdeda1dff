//! What the stories share: a whole proxy in this process, an upstream that plays scripts, a client that notices
//! everything, and time that moves when it is told to. Real loopback sockets on both sides; no HTTP framework where a
//! fault has to be exact.
//!
//! ```text
//! let llm = upstream().event("a").event("b").end().start().await;
//! let proxy = Proxy::before(&llm, "").await;
//! let mut reply = proxy.get("/chat").events().await;
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`collector`] | what a collector of spans gets |
//! | [`configured`] | a proxy whose configuration is a file |
//! | [`pki`] | certificates, and TLS of test clients and upstreams |
//! | [`script`] | what an upstream does with one request, written as a chain |
//! | [`upstream`] | the upstream that does it, and what it saw |
//! | [`proxy`] | the proxy under test, from TOML |
//! | [`client`], [`reply`] | requests and replies of one client, HTTP/1.1 by hand |
//! | [`events`] | a naive, strict reader of event streams: the oracle |
//! | [`time`] | paused time beside real sockets |
//! | [`wire`] | one story on every wire |

#![allow(dead_code, unreachable_pub, unused_imports, reason = "every story uses another part of this")]

pub mod client;
pub mod collector;
pub mod configured;
pub mod events;
pub mod pki;
pub mod proxy;
pub mod reply;
pub mod script;
pub mod time;
pub mod upstream;
pub mod wire;

use std::future::Future;
use std::time::Duration;

pub use client::Request;
pub use collector::{Collector, Told};
pub use configured::Configured;
pub use events::Event;
pub use proxy::Proxy;
pub use reply::{BodyEnd, Reply};
pub use script::{Gate, Script, upstream};
pub use upstream::{Seen, Upstream};
pub use wire::{Failure, Story, Wire};

/// How long a story waits for something that must happen. Only a broken proxy ever waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for what must happen; says what it was if it does not. With paused time the watchdog of [`time::freeze`]
/// stands in.
pub async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
