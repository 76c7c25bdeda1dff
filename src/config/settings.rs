//! The configuration as the program uses it: every value checked, every default filled in.
//!
//! Not here: how any of it is written down (see `file`). A `Settings` that exists is valid,
//! so nothing downstream validates again. Keys and meanings follow the design's section 2.

mod network;
mod pem;
mod store;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
pub use network::Network;
pub use pem::{Identity, Pem};
pub use store::{OnFailure, Redis, Store, Topology};
use streamkeeper_session::Plan;
pub use streamkeeper_session::{BreakerPlan, Detach, Retry, Rung, Timeouts};
pub use upstream::{Budget, Credential, Endpoint, Health, Models, Protocol, Upstream};

use super::effective::Effective;
use super::secret::Secret;

/// Everything `streamkeeper run` needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients connect.
    pub listen: Listen,
    /// Where operators connect.
    pub admin: Admin,
    /// All upstreams; routes share them.
    pub upstreams: Vec<Arc<Upstream>>,
    /// All routes, most specific first: the first that matches is the one.
    pub routes: Vec<Arc<Route>>,
    /// Bounds of one session's ring.
    pub session: Session,
    /// Which store keeps the sessions.
    pub store: Store,
    /// Caps on everything a peer controls.
    pub limits: Limits,
    /// The `retry:` hint sent to clients.
    pub retry_hint: RetryHint,
    /// Keep-alives to clients while the upstream is silent.
    pub heartbeat: Heartbeat,
    /// HTTP/1.1 of event streams.
    pub http1: Http1,
    /// How the process goes away.
    pub drain: Drain,
    /// Logs, traces and what errors may reveal.
    pub telemetry: Telemetry,
    /// All of this once more, key by key and fit to be seen.
    pub effective: Effective,
}

/// The data port.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Address and port; loopback by default.
    pub address: SocketAddr,
    /// `Host` names that are answered (case-insensitive, without port); empty answers all. Guards against DNS rebinding.
    pub hosts: Vec<String>,
    /// Path prefix of the reserved paths, without a trailing slash: `/_streamkeeper`.
    pub prefix: String,
    /// Who this is to clients; `None`: connections are plain.
    pub tls: Option<Identity>,
    /// Whose word is taken for where a request came from; `None`: anybody's forwarding headers are passed on.
    pub trusted_proxies: Option<Vec<Network>>,
    /// Connections begin with a PROXY header; where `trusted_proxies` is there, those of its members only.
    pub proxy_protocol: bool,
    /// Threads that serve clients, each with its own connections; 0: as many as there are cores.
    pub workers: usize,
}

impl Listen {
    /// Whether `peer` is one of those whose word is taken for where a request came from; `None` if nobody was named.
    pub fn believes(&self, peer: IpAddr) -> Option<bool> {
        self.trusted_proxies.as_ref().map(|trusted| trusted.iter().any(|network| network.contains(peer)))
    }
}

/// HTTP/1.1 of event streams.
#[derive(Debug, Clone, Copy)]
pub struct Http1 {
    /// Their bytes go from socket to ring to socket without hyper's connections between; `false`: all HTTP is hyper's.
    pub direct: bool,
}

/// The admin port.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address and port; loopback by default.
    pub address: SocketAddr,
    /// Bearer token; required when the address is not loopback.
    pub token: Option<Secret>,
}

/// What happens to requests that match.
#[derive(Debug, Clone)]
pub struct Route {
    /// A metric label, unique: methods and host where configured, and the path prefix: `POST chat.example.com/v1`.
    pub name: String,
    /// Path prefix; matches on segment borders. `/` matches all.
    pub path: String,
    /// Methods; empty matches all.
    pub methods: Vec<Method>,
    /// Host name without port, lower case; `None` matches all.
    pub host: Option<String>,
    /// Where the requests go.
    pub upstream: Arc<Upstream>,
    /// Where they go when that one cannot answer, in this order.
    pub failover: Vec<Arc<Upstream>>,
    /// Which wire is spoken.
    pub dialect: DialectChoice,
    /// Markers of the `generic` dialect.
    pub generic: Generic,
    /// Who numbers the events.
    pub ids: Ids,
    /// Where a session of kept ids is named.
    pub session_key: Option<SessionKey>,
    /// Cookies that count as credentials beside the usual headers.
    pub credential_cookies: Vec<String>,
    /// Time limits of a stream.
    pub timeouts: Timeouts,
    /// Only content puts off the idle limit; pings and empty deltas do not.
    pub idle_on_content: bool,
    /// Tries before the first content.
    pub retry: Retry,
    /// The stand-in when no stream can be had.
    pub fallback: Option<Fallback>,
    /// What to try after content was delivered, in this order.
    pub after_partial: Vec<Rung>,
    /// How a model is asked to go on; needed by the rung `continuation`.
    pub prefill: Option<Prefill>,
    /// What happens to the upstream when no client is attached.
    pub detach: Detach,
    /// The response head is sent at the latest after this time, so that heartbeats can start.
    pub commit_after: Duration,
    /// A resume whose events are gone is refused with 410 instead of signalled.
    pub strict_resume: bool,
    /// Whether `Upgrade` requests (WebSocket) pass.
    pub upgrade: bool,
    /// The two plans of its sessions, made when the first one begins.
    pub(super) plans: OnceLock<[Arc<Plan>; 2]>,
}

impl Route {
    /// What this route allows for one session. `known_before_head`: its client can come back without having seen the head.
    pub fn plan(&self, known_before_head: bool) -> Arc<Plan> {
        let [unknown, known] = self.plans.get_or_init(|| [false, true].map(|known| Arc::new(self.make_plan(known))));
        Arc::clone(if known_before_head { known } else { unknown })
    }

    fn make_plan(&self, known_before_head: bool) -> Plan {
        let endpoints = |upstream: &Arc<Upstream>| u32::try_from(upstream.endpoints.len()).unwrap_or(u32::MAX);
        Plan {
            timeouts: self.timeouts,
            commit_after: self.commit_after,
            retry: self.retry,
            fallback: self.fallback.map(|fallback| fallback.timeout),
            after_partial: self.after_partial.clone(),
            detach: self.detach,
            endpoints: endpoints(&self.upstream),
            failover: self.failover.iter().map(endpoints).collect(),
            known_before_head,
            idle_on_content: self.idle_on_content,
        }
    }
}

/// Which dialect a route speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialectChoice {
    /// By path and body; generic where nothing else fits.
    Auto,
    /// OpenAI chat completions and completions, Azure, Mistral, and the servers compatible with them.
    OpenAi,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Anthropic,
    /// Gemini's `streamGenerateContent` with `alt=sse`.
    Gemini,
    /// Cohere v2 chat.
    Cohere,
    /// MCP over streamable HTTP.
    Mcp,
    /// LangGraph runs.
    LangGraph,
    /// LangServe.
    LangServe,
    /// The AI SDK's UI message stream.
    AiSdk,
    /// Any other event stream.
    Generic,
}

/// What marks the end and an error in a `generic` stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Generic {
    /// Event names that end the stream well, such as `done`.
    pub done_events: Vec<String>,
    /// Data that ends the stream well, such as `[DONE]` (compared whole).
    pub done_data: Vec<String>,
    /// Event names that report an error; default `error`.
    pub error_events: Vec<String>,
}

/// How a server is told to go on with a message it did not finish. Servers that speak one wire differ, so a route says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefill {
    /// A last assistant message with `"prefix": true` (Mistral, DeepSeek).
    Prefix,
    /// `continue_final_message: true`, `add_generation_prompt: false` and a last assistant message (vLLM).
    ContinueFinalMessage,
    /// A last assistant message, no more (llama.cpp, Anthropic where the model takes it).
    Trailing,
}

/// Who numbers the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// The upstream's own ids if its first event has one, else ours.
    Auto,
    /// Ours always.
    Issue,
    /// The upstream's, as they are.
    Keep,
    /// None at all.
    Off,
}

/// Where a request names its session when the upstream numbers its own events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionKey {
    /// A query parameter.
    Query(String),
    /// A request header.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
}

/// The same request without streaming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// Dial → whole answer.
    pub timeout: Duration,
}

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Events kept for replay.
    pub max_events: usize,
    /// Bytes kept for replay.
    pub max_bytes: usize,
    /// How long a finished session can still be read.
    pub retention: Duration,
}

/// Caps on everything a peer controls. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once.
    pub connections: usize,
    /// Sessions whose upstream is being read, at once.
    pub sessions: usize,
    /// The same for one principal; callers without credentials are only under `sessions`.
    pub sessions_per_principal: usize,
    /// Clients attached to one session at once.
    pub readers_per_session: usize,
    /// All rings together.
    pub ring_bytes: usize,
    /// Body of a request that asks for a stream (it is kept for retries).
    pub request_body: usize,
    /// Body of a JSON answer that is turned into events, or of an upstream's error.
    pub answer_body: usize,
    /// One line of an upstream's stream.
    pub line: usize,
    /// One event of an upstream's stream.
    pub event: usize,
    /// Request headers: how many.
    pub headers: usize,
    /// Request line and headers together.
    pub header_bytes: usize,
    /// New or idle connection → the next request's headers complete.
    pub header_timeout: Duration,
    /// Between two pieces of a request body.
    pub body_timeout: Duration,
    /// A write that makes no progress for this long ends the client's connection; it may come back by id.
    pub write_timeout: Duration,
    /// Kernel send buffer of a client's socket, so that a slow reader lags in the ring.
    pub send_buffer: usize,
    /// HTTP/2 streams on one client connection.
    pub h2_streams: u32,
}

/// The `retry:` hint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryHint {
    /// Off: no hint is sent.
    pub enabled: bool,
    /// Centre of the hint while all is well.
    pub base: Duration,
    /// Centre of the hint while the upstream is ill or the proxy drains or sheds load.
    pub ill: Duration,
    /// Part of the centre by which a hint may differ, 0.0 to 1.0.
    pub jitter: f64,
}

/// Keep-alives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Silence → keep-alive; zero switches them off.
    pub interval: Duration,
}

/// How the process goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// SIGTERM → streams still running get their terminal event.
    pub timeout: Duration,
    /// With the Redis store: SIGTERM → the last of the clients that can come back is sent away; zero: all at once. At most
    /// `timeout`.
    pub spread: Duration,
}

/// Logs, traces and what errors may reveal.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// A `tracing` filter such as `info` or `streamkeeper=debug`.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Error events carry the cause and, where an app reported one, its traceback.
    pub development: bool,
    /// Where spans go; `None`: there are none.
    pub otlp: Option<Otlp>,
}

/// A collector of spans, OTLP over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Its base URL, without a slash at its end; `/v1/traces` is added.
    pub endpoint: String,
    /// Sent with every batch; secrets are marked as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The part of the traces that begin here which is kept, 0.0 to 1.0. With a caller's trace the caller decides.
    pub sample: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
