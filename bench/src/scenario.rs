//! The scenarios: what is played, to whom, and what is measured.

mod kept;
mod run;
mod storm;

use std::time::Duration;

use crate::clock::Clock;
use crate::event::Shape;
use crate::failure::Failure;
use crate::load::Clients;
use crate::peer::{Ground, Peer, Started};
use crate::upstream::Upstream;
use run::Run;

/// One row of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// CPU of the proxy, µs per event.
    Cpu,
    /// How often a thread of the proxy was put on a CPU, per event.
    Slices,
    /// CPU of the store beside the proxy, µs per event.
    StoreCpu,
    /// Median latency, µs, from when an event was due to when a client had it.
    P50,
    /// 99th percentile of the same.
    P99,
    /// How late the upstream itself was, µs: part of the latency of every peer.
    Lateness,
    /// Seconds from the first event to the end of the last stream.
    Wall,
    /// Events per second, from the first one until the store holds the last.
    Stored,
    /// KiB of user memory per stream, before its first event.
    Empty,
    /// KiB of user memory per stream, after its first event.
    Opened,
    /// Seconds from the first reconnect until the last client has what it missed.
    Replayed,
    /// CPU of the proxies, µs per client that came back.
    ReplayCpu,
    /// CPU of the store, µs per client that came back.
    ReplayStoreCpu,
    /// KiB in the store of a session with one event.
    KeptOne,
    /// KiB in the store of a session with all of its events.
    KeptAll,
    /// The same, by what the whole server allocated more.
    KeptUsed,
    /// Bytes in the store of each further event.
    KeptEvent,
}

/// What one peer did once.
pub(crate) type Sample = Vec<(Metric, f64)>;

/// What is played to every peer.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What `--scenario` calls it.
    pub(crate) name: &'static str,
    /// The shape of the events.
    pub(crate) shape: Shape,
    /// How many streams.
    pub(crate) streams: u32,
    /// What they do.
    pub(crate) kind: Kind,
}

/// What the streams of a scenario do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Events by a schedule.
    Paced {
        /// Events per second and stream.
        rate: u32,
        /// Before figures are taken.
        warm: Duration,
        /// While figures are taken.
        measured: Duration,
    },
    /// Events as fast as they are taken.
    Burst {
        /// Events per stream.
        events: u32,
        /// How often.
        rounds: u32,
    },
    /// One event, then nothing.
    Silent,
    /// All clients leave and come back at once.
    Storm {
        /// Events that each of them missed.
        missed: u32,
    },
    /// Whole streams, for what the store needs to keep them.
    Kept {
        /// Events per stream.
        events: u32,
    },
}

/// What every measurement needs.
pub(crate) struct Bench<'a> {
    /// The run's clock.
    pub(crate) clock: Clock,
    /// The upstream.
    pub(crate) upstream: Upstream,
    /// The clients.
    pub(crate) clients: Clients,
    /// What peers are started with.
    pub(crate) ground: Ground<'a>,
}

/// The scenarios of a whole run, or smaller ones for a look.
pub(crate) fn all(quick: bool) -> Vec<Scenario> {
    let (warm, measured, events, rounds, silent, kept) =
        if quick { (500, 1_500, 2_000, 1, 500, 50) } else { (1_000, 3_000, 10_000, 2, 2_000, 200) };
    let kind = Kind::Paced { rate: 50, warm: Duration::from_millis(warm), measured: Duration::from_millis(measured) };
    let burst = Kind::Burst { events, rounds };
    vec![
        Scenario { name: "paced", shape: Shape::Generic, streams: 200, kind },
        Scenario { name: "paced-openai", shape: Shape::OpenAi, streams: 200, kind },
        Scenario { name: "burst", shape: Shape::Generic, streams: 32, kind: burst },
        Scenario { name: "burst-openai", shape: Shape::OpenAi, streams: 32, kind: burst },
        Scenario { name: "silent", shape: Shape::Generic, streams: silent, kind: Kind::Silent },
        Scenario { name: "storm", shape: Shape::Generic, streams: silent, kind: Kind::Storm { missed: 64 } },
        Scenario { name: "kept", shape: Shape::OpenAi, streams: kept, kind: Kind::Kept { events: 500 } },
    ]
}

impl Scenario {
    /// What its table is called.
    pub(crate) fn title(&self) -> String {
        let Self { name, shape, streams, kind } = self;
        let events = format!("{} ({} bytes per event)", shape.name(), shape.event_bytes());
        match kind {
            Kind::Paced { rate, measured, .. } => {
                format!("{name}: {streams} streams at {rate} events/s for {} s, {events}", measured.as_secs_f64())
            }
            Kind::Burst { events: count, rounds } => {
                format!("{name}: {streams} streams × {count} events as fast as possible, × {rounds}, {events}")
            }
            Kind::Silent => format!("{name}: {streams} streams, open and silent, {events}"),
            Kind::Storm { missed } => {
                format!("{name}: {streams} clients come back at once for {missed} events each, {events}")
            }
            Kind::Kept { events: count } => {
                format!("{name}: {streams} finished streams of {count} events in Redis, {events}")
            }
        }
    }

    /// Whether there is anything to learn from `peer`. Who only copies bytes copies one shape like the other, and what
    /// the store costs does not depend on the shape either.
    pub(crate) fn concerns(&self, peer: &dyn Peer) -> bool {
        match self.kind {
            Kind::Paced { .. } | Kind::Burst { .. } => {
                self.shape == Shape::Generic || !(peer.name() == "haproxy" || peer.has_store())
            }
            // Without a proxy there is no memory of one.
            Kind::Silent => peer.name() != "direct",
            Kind::Storm { .. } => peer.gives_ids(),
            Kind::Kept { .. } => peer.has_store(),
        }
    }

    /// Plays it once to `peer`, which was just started and is warmed up first.
    ///
    /// # Errors
    ///
    /// A stream that was not what it had to be, or a stage that took too long.
    pub(crate) fn measure(&self, bench: &Bench<'_>, peer: &dyn Peer, started: &Started) -> Result<Sample, Failure> {
        let run = Run { scenario: self, bench, peer, started };
        match self.kind {
            Kind::Paced { rate, warm, measured } => run.paced(rate, warm, measured),
            Kind::Burst { events, rounds } => run.bursts(events, rounds),
            Kind::Silent => run.silent(),
            Kind::Storm { missed } => run.storm(missed),
            Kind::Kept { events } => run.kept(events),
        }
    }
}
