//! Every metric's name, in one place. Labels come from closed sets: routes and upstreams as configured, codes,
//! results. What the numbers mean for operators: docs/metrics.md, which a test compares with this file.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use streamkeeper_session::{BreakerState, Code, Fault, Gap, GapReason, Kind};

use super::histogram::{self, Histograms};
use super::process::Usage;
use crate::version;

const ERRORS: &str = "stream_errors_total";
const DURATION: &str = "stream_duration_seconds";
const ACTIVE: &str = "stream_active";
const SESSIONS: &str = "stream_sessions";
const ATTACHED: &str = "stream_attached_clients";
const EVENTS: &str = "stream_events_total";
const RESUMES: &str = "stream_resumes_total";
const REPLAYED: &str = "stream_replayed_events_total";
const GAPS: &str = "stream_gaps_total";
const ATTEMPTS: &str = "stream_upstream_attempts_total";
const FALLBACKS: &str = "stream_fallbacks_total";
const FIRST_EVENT: &str = "stream_time_to_first_event_seconds";
const INTERVAL: &str = "stream_event_interval_seconds";
const TIMEOUTS: &str = "stream_timeouts_total";
const RING_BYTES: &str = "stream_ring_bytes";
const EVICTED: &str = "stream_ring_evicted_events_total";
const HELD: &str = "stream_upstream_holds_total";
const ORPHANS: &str = "stream_orphans";
const SAVED: &str = "stream_saved_generations_total";
const DRAINING: &str = "stream_draining";
const BREAKER: &str = "stream_breaker_state";
const REPAIRED: &str = "stream_utf8_repairs_total";
const LIMIT: &str = "stream_limit";
const REFUSED: &str = "stream_limit_refusals_total";
const CONNECTIONS: &str = "stream_connections";
const STORE_UP: &str = "stream_store_up";
const STORE_ERRORS: &str = "stream_store_errors_total";
const STORE_APPENDED: &str = "stream_store_appended_events_total";
const STORE_BEHIND: &str = "stream_store_behind_sessions";
const TAKEOVERS: &str = "stream_takeovers_total";
const RELOADS: &str = "stream_config_reloads_total";
const RELOAD_OK: &str = "stream_config_reload_ok";
const LOADED: &str = "stream_config_loaded_timestamp_seconds";
const SPANS_DROPPED: &str = "stream_spans_dropped_total";
const LINES_DROPPED: &str = "stream_log_lines_dropped_total";
const BUILD_INFO: &str = "stream_build_info";
const MEMORY: &str = "process_resident_memory_bytes";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";

/// A first event takes from a cached answer's time to that of a model that thinks before it speaks.
const FIRST_EVENT_SECONDS: [f64; 16] =
    [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0];
/// Events come from many within a millisecond to one within the idle limit.
const INTERVAL_SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Recorded in with every wake.
static INTERVALS: Histograms = Histograms::new(INTERVAL, "Time between two arrivals of events", &INTERVAL_SECONDS);
/// A whole answer: from a word to the total limit.
const DURATION_SECONDS: [f64; 12] = [0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// How a stream ends, as `stream_duration_seconds` says it.
const OUTCOMES: [&str; 3] = ["completed", "failed", "refused"];
const RESUME_RESULTS: [&str; 6] = ["replayed", "joined", "seen_whole", "gap", "not_found", "upstream"];
const FALLBACK_KINDS: [&str; 4] = ["before_content", "after_partial", "native_resume", "continuation"];
const REFUSALS: [&str; 11] = [
    "sessions",
    "sessions_per_principal",
    "ring_bytes",
    "readers_per_session",
    "request_body",
    "headers",
    "header_timeout",
    "body_timeout",
    "write_timeout",
    "hosts",
    "retry_budget",
];

/// Looked up once there is a recorder: a full ring evicts with every event.
static EVICTIONS: OnceLock<Counter> = OnceLock::new();

/// Sets up the recorder of this process, which [`render`] shows.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let buckets = |name: &str| Matcher::Full(name.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(buckets(FIRST_EVENT), &FIRST_EVENT_SECONDS)?
        .set_buckets_for_metric(buckets(DURATION), &DURATION_SECONDS)?
        .install_recorder()?;
    describe();
    EVICTIONS.get_or_init(|| counter!(EVICTED));
    gauge!(BUILD_INFO, "version" => version::VERSION, "commit" => version::COMMIT.unwrap_or("unknown")).set(1.0);
    for name in [ACTIVE, SESSIONS, ATTACHED, RING_BYTES, ORPHANS, DRAINING, CONNECTIONS] {
        gauge!(name).set(0.0);
    }
    for name in [REPLAYED, EVICTED, HELD, SAVED, REPAIRED, SPANS_DROPPED, LINES_DROPPED] {
        counter!(name).absolute(0);
    }
    for result in ["ok", "unchanged", "failed"] {
        counter!(RELOADS, "result" => result).absolute(0);
    }
    zero_closed_sets();
    config_loaded();
    Ok(handle)
}

/// Everything, in the text format of Prometheus.
pub fn render(recorder: &PrometheusHandle) -> String {
    let mut text = recorder.render();
    INTERVALS.render(&mut text);
    text
}

/// A counter that first appears with 1 hides its first event from `increase` and `rate`: each of a closed set is there
/// with 0 from the start.
fn zero_closed_sets() {
    for reason in [GapReason::Evicted, GapReason::Epoch, GapReason::Lost] {
        counter!(GAPS, "reason" => reason.as_str()).absolute(0);
    }
    for result in RESUME_RESULTS {
        counter!(RESUMES, "result" => result).absolute(0);
    }
    for kind in FALLBACK_KINDS {
        for result in ["ok", "failed"] {
            counter!(FALLBACKS, "kind" => kind, "result" => result).absolute(0);
        }
    }
    for name in REFUSALS {
        counter!(REFUSED, "name" => name).absolute(0);
    }
    counter!(ATTEMPTS, "result" => "ok").absolute(0);
    for code in Code::ALL {
        counter!(ATTEMPTS, "result" => code.as_str()).absolute(0);
        if let Some(stage) = code.stage() {
            counter!(TIMEOUTS, "stage" => stage).absolute(0);
        }
    }
}

/// What a route counts is there with 0 before its first stream. Known routes are not touched.
pub fn zero_route(route: &str) {
    for code in Code::ALL {
        // What an upstream reports has the type that it says.
        let kinds: &[Kind] = if *code == Code::UpstreamError { &Kind::ALL } else { &[code.kind()] };
        for kind in kinds {
            counter!(ERRORS, "error_type" => kind.as_str(), "code" => code.as_str(), "route" => route.to_owned())
                .absolute(0);
        }
    }
    counter!(EVENTS, "route" => route.to_owned()).absolute(0);
    let _ = (INTERVALS.of(route), histogram!(FIRST_EVENT, "route" => route.to_owned()));
    for outcome in OUTCOMES {
        let _ = histogram!(DURATION, "route" => route.to_owned(), "outcome" => outcome);
    }
}

/// What a shared store counts is there with 0 from its start.
pub fn zero_store() {
    counter!(STORE_APPENDED).absolute(0);
    gauge!(STORE_BEHIND).set(0.0);
    for kind in ["connect", "timeout", "refused", "lost", "fenced"] {
        counter!(STORE_ERRORS, "kind" => kind).absolute(0);
    }
    for result in ["taken", "owner_lost", "lost_race"] {
        counter!(TAKEOVERS, "result" => result).absolute(0);
    }
}

/// What this process takes of its machine.
pub fn process(usage: &Usage) {
    gauge!(MEMORY).set(usage.memory as f64);
    gauge!(OPEN_FDS).set(usage.descriptors as f64);
    gauge!(MAX_FDS).set(usage.descriptors_most as f64);
}

fn describe() {
    describe_counter!(ERRORS, "Streams that ended in an error, or were answered with one");
    describe_histogram!(DURATION, Unit::Seconds, "Request accepted to end of the upstream's answer");
    describe_gauge!(ACTIVE, "Sessions whose upstream is being read");
    describe_gauge!(SESSIONS, "Sessions held, the finished ones included");
    describe_gauge!(ATTACHED, "Clients attached to sessions");
    describe_counter!(EVENTS, "Events read from upstreams");
    describe_counter!(RESUMES, "Clients that came back, by what became of it");
    describe_counter!(REPLAYED, "Events sent from a ring to clients that came back");
    describe_counter!(GAPS, "Gaps signalled to clients, by reason");
    describe_counter!(ATTEMPTS, "Requests sent to upstreams, by result");
    describe_counter!(FALLBACKS, "Requests that stand in for a stream or mend one, by kind and result");
    describe_histogram!(FIRST_EVENT, Unit::Seconds, "Request accepted to first event of the upstream");
    describe_counter!(TIMEOUTS, "Timeouts, by stage");
    describe_gauge!(RING_BYTES, Unit::Bytes, "Memory of all rings");
    describe_counter!(EVICTED, "Events dropped from rings to stay inside a bound");
    describe_counter!(HELD, "Times that an upstream was not read on because its clients were far behind");
    describe_gauge!(ORPHANS, "Running sessions nobody is attached to");
    describe_counter!(SAVED, "Answers that a client came back to instead of paying for another");
    describe_gauge!(DRAINING, "1 while this process goes away");
    describe_gauge!(BREAKER, "The worst breaker of an upstream's endpoints: 0 closed, 1 half-open, 2 open");
    describe_counter!(REPAIRED, "Invalid UTF-8 sequences replaced in upstream events");
    describe_gauge!(LIMIT, "Configured limits, by name");
    describe_counter!(REFUSED, "Requests refused because of a limit, by its name");
    describe_gauge!(CONNECTIONS, "Client connections");
    describe_gauge!(STORE_UP, "1 while sessions are kept in Redis, 0 while it cannot be used");
    describe_counter!(STORE_ERRORS, "What went wrong with Redis, by kind");
    describe_counter!(STORE_APPENDED, "Events that Redis has taken");
    describe_gauge!(STORE_BEHIND, "Sessions with events that Redis does not have yet");
    describe_counter!(TAKEOVERS, "Sessions whose owner was gone, by what became of them here");
    describe_counter!(RELOADS, "Times that the configuration was read again, by what became of it");
    describe_gauge!(RELOAD_OK, "1 while the configuration in force is the newest one, 0 after one was refused");
    describe_gauge!(LOADED, Unit::Seconds, "When the configuration in force was read, in seconds since 1970");
    describe_counter!(SPANS_DROPPED, "Spans that did not get to the collector");
    describe_counter!(LINES_DROPPED, "Log lines that did not get to standard error");
    describe_gauge!(MEMORY, Unit::Bytes, "Resident memory of this process");
    describe_gauge!(OPEN_FDS, "Open file descriptors");
    describe_gauge!(MAX_FDS, "File descriptors that this process may open");
    describe_gauge!(BUILD_INFO, "1: which program this is");
}

/// A stream ended in `fault`, or was refused with it.
pub fn error(fault: &Fault, route: &str) {
    counter!(ERRORS, "error_type" => fault.kind.as_str(), "code" => fault.code.as_str(), "route" => route.to_owned())
        .increment(1);
    if let Some(stage) = fault.code.stage() {
        counter!(TIMEOUTS, "stage" => stage).increment(1);
    }
}

/// What a session counts; looked up once, used per wake.
pub struct StreamMeter {
    events: Counter,
    interval: Arc<histogram::Histogram>,
}

impl StreamMeter {
    /// The meter of a session that begins now on `route`.
    pub fn begin(route: &str) -> Self {
        gauge!(ACTIVE).increment(1.0);
        Self { events: counter!(EVENTS, "route" => route.to_owned()), interval: INTERVALS.of(route) }
    }

    /// So many events came; `since_last`: since the ones before.
    pub fn events(&self, count: u64, since_last: Duration) {
        self.events.increment(count);
        self.interval.record(since_last);
    }

    /// The first events came, so many; `age`: since the session's start.
    pub fn first_events(&self, route: &str, count: u64, age: Duration) {
        self.events.increment(count);
        histogram!(FIRST_EVENT, "route" => route.to_owned()).record(age);
    }
}

/// A session of `route` ended.
pub fn ended(route: &str, outcome: &'static str, age: Duration) {
    gauge!(ACTIVE).decrement(1.0);
    histogram!(DURATION, "route" => route.to_owned(), "outcome" => outcome).record(age);
}

/// A request to an upstream had this result: `ok` or a fault's code.
pub fn attempt(result: &'static str) {
    counter!(ATTEMPTS, "result" => result).increment(1);
}

/// A request that stands in for a stream (`before_content`, `after_partial`) or mends one (`native_resume`,
/// `continuation`) had this result (`ok`, `failed`).
pub fn fallback(kind: &'static str, result: &'static str) {
    counter!(FALLBACKS, "kind" => kind, "result" => result).increment(1);
}

/// A client came back; `result`: `replayed`, `joined`, `seen_whole`, `gap`, `not_found`, `upstream`.
pub fn resume(result: &'static str) {
    counter!(RESUMES, "result" => result).increment(1);
}

/// Events were sent again from a ring.
pub fn replayed(events: u64) {
    counter!(REPLAYED).increment(events);
}

/// A gap was signalled.
pub fn gap(gap: &Gap) {
    counter!(GAPS, "reason" => gap.reason.as_str()).increment(1);
}

/// Events were dropped from a ring.
pub fn evicted(events: u64) {
    if events > 0 {
        match EVICTIONS.get() {
            Some(counter) => counter.increment(events),
            None => counter!(EVICTED).increment(events),
        }
    }
}

/// An upstream is not read on, for its clients are far behind.
pub fn held() {
    counter!(HELD).increment(1);
}

/// A second client reads an answer that was paid for once.
pub fn saved_generation() {
    counter!(SAVED).increment(1);
}

/// Clients came (+) or went (−).
pub fn attached(by: i32) {
    gauge!(ATTACHED).increment(f64::from(by));
}

/// Client connections came (+) or went (−).
pub fn connections(by: i32) {
    gauge!(CONNECTIONS).increment(f64::from(by));
}

/// The store as it is now.
pub fn store_gauges(sessions: usize, orphans: usize, ring_bytes: usize) {
    gauge!(SESSIONS).set(sessions as f64);
    gauge!(ORPHANS).set(orphans as f64);
    gauge!(RING_BYTES).set(ring_bytes as f64);
}

/// This process goes away.
pub fn draining() {
    gauge!(DRAINING).set(1.0);
}

/// Invalid UTF-8 was replaced.
pub fn utf8_repairs(count: usize) {
    if count > 0 {
        counter!(REPAIRED).increment(count as u64);
    }
}

/// The worst breaker of an upstream's endpoints.
pub fn breaker_state(upstream: &str, worst: BreakerState) {
    let value = match worst {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    gauge!(BREAKER, "upstream" => upstream.to_owned()).set(value);
}

/// A limit as configured.
pub fn limit(name: &'static str, value: f64) {
    gauge!(LIMIT, "name" => name).set(value);
}

/// A request was refused because of a limit.
pub fn refused(limit: &'static str) {
    counter!(REFUSED, "name" => limit).increment(1);
}

/// The configuration in force was read now.
pub fn config_loaded() {
    gauge!(RELOAD_OK).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(LOADED).set(now.as_secs_f64());
}

/// A new configuration was not taken; the one in force stays.
pub fn config_rejected() {
    gauge!(RELOAD_OK).set(0.0);
}

/// The configuration was read again: `ok` (taken), `unchanged`, `failed` (refused).
pub fn config_reload(result: &'static str) {
    counter!(RELOADS, "result" => result).increment(1);
    if result == "failed" { config_rejected() } else { config_loaded() }
}

/// Whether Redis can be used.
pub fn store_up(up: bool) {
    gauge!(STORE_UP).set(f64::from(u8::from(up)));
}

/// Something went wrong with Redis: `connect`, `timeout`, `refused`, `lost`, `fenced`.
pub fn store_error(kind: &'static str) {
    counter!(STORE_ERRORS, "kind" => kind).increment(1);
}

/// Redis has taken events.
pub fn store_appended(events: u64) {
    if events > 0 {
        counter!(STORE_APPENDED).increment(events);
    }
}

/// So many sessions have something that Redis does not have.
pub fn store_behind(sessions: usize) {
    gauge!(STORE_BEHIND).set(sessions as f64);
}

/// The owner of a session was gone: `taken` (somebody goes on with it here), `owner_lost`, `lost_race`.
pub fn takeover(result: &'static str) {
    counter!(TAKEOVERS, "result" => result).increment(1);
}

/// Spans were dropped: there was no room for them, or no collector that took them.
pub fn spans_dropped(spans: u64) {
    counter!(SPANS_DROPPED).increment(spans);
}

/// Log lines were dropped: nobody reads them fast enough, or they cannot be written.
pub fn log_lines_dropped(lines: u64) {
    counter!(LINES_DROPPED).increment(lines);
}
