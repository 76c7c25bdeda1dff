//! Streamkeeper: a sidecar reverse proxy that makes Server-Sent-Events traffic of LLM services resilient.
//!
//! Table of contents, from the ground up (imports run downward only; docs/ARCHITECTURE.md says why):
//!
//! - `streamkeeper_sse`, `streamkeeper_session`: the codec and the session core, without sockets, clocks or a runtime
//! - [`config`]: from a file to checked values
//! - [`dialect`]: what each wire means
//! - [`store`]: where sessions live between a client that left and one that comes back
//! - [`upstream`]: connections to the services behind
//! - [`pump`]: reads one upstream into one session
//! - [`front`]: the request path
//! - [`admin`], [`telemetry`]: what operators see
//! - [`app`], [`server`], [`descriptors`], [`drain`], [`live`], [`reload`], [`run`], [`version`], [`workers`]: one process from start to exit
//! - [`demo`]: something to try it with

pub mod admin;
pub mod app;
pub mod clock;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod dialect;
pub mod drain;
pub mod front;
pub mod header_lines;
pub mod live;
pub mod principal;
pub mod pump;
pub mod reload;
pub mod run;
pub mod server;
mod state;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod version;
pub mod workers;
