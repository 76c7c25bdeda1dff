//! Every metric's name, in one place. Labels come from closed sets: routes and upstreams as configured, codes,
//! results. What the numbers mean for operators: the table in README.md.

use std::time::Duration;

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use streamkeeper_session::{BreakerState, Fault, Gap};

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

/// Buckets for times that range from a token's gap to a long answer.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0];

/// Sets up the recorder of this process; the handle renders it for `/metrics`.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for name in [DURATION, FIRST_EVENT, INTERVAL] {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &SECONDS)?;
    }
    let handle = builder.install_recorder()?;
    describe();
    for name in [ACTIVE, SESSIONS, ATTACHED, RING_BYTES, ORPHANS, DRAINING, CONNECTIONS] {
        gauge!(name).set(0.0);
    }
    for name in [REPLAYED, EVICTED, SAVED, REPAIRED] {
        counter!(name).absolute(0);
    }
    Ok(handle)
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
    describe_histogram!(INTERVAL, Unit::Seconds, "Time between two arrivals of events");
    describe_counter!(TIMEOUTS, "Timeouts, by stage");
    describe_gauge!(RING_BYTES, Unit::Bytes, "Memory of all rings");
    describe_counter!(EVICTED, "Events dropped from rings to stay inside a bound");
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
    interval: Histogram,
    first_event: Histogram,
    route: String,
}

impl StreamMeter {
    /// The meter of a session that begins now on `route`.
    pub fn begin(route: &str) -> Self {
        gauge!(ACTIVE).increment(1.0);
        Self {
            events: counter!(EVENTS, "route" => route.to_owned()),
            interval: histogram!(INTERVAL, "route" => route.to_owned()),
            first_event: histogram!(FIRST_EVENT, "route" => route.to_owned()),
            route: route.to_owned(),
        }
    }

    /// So many events came; `since_last`: since the ones before, if there were any; `age`: since the start.
    pub fn events(&self, count: u64, since_last: Option<Duration>, age: Duration) {
        self.events.increment(count);
        match since_last {
            Some(interval) => self.interval.record(interval),
            None => self.first_event.record(age),
        }
    }

    /// It ended.
    pub fn end(&self, outcome: &'static str, age: Duration) {
        gauge!(ACTIVE).decrement(1.0);
        histogram!(DURATION, "route" => self.route.clone(), "outcome" => outcome).record(age);
    }
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
        counter!(EVICTED).increment(events);
    }
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
