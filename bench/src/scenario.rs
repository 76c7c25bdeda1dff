//! The scenarios: what is played, to whom, and what is measured.

mod calls;
mod fan_out;
mod kept;
mod list;
mod metric;
mod ring;
mod run;
mod setup;
mod silent;
mod startup;
mod storm;

use std::time::Duration;

use crate::clock::{Clock, nanos};
use crate::event::Shape;
use crate::failure::Failure;
use crate::load::Clients;
use crate::peer::{Ground, Peer, Started};
use crate::upstream::Upstream;
pub(crate) use list::{all, counted, soaked};
pub(crate) use metric::Metric;
pub(crate) use run::Run;

/// What one peer did once.
pub(crate) type Sample = Vec<(Metric, f64)>;

/// What is played to every peer.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What `--scenario` calls it. The points of a curve share a name.
    pub(crate) name: &'static str,
    /// The shape of the events.
    pub(crate) shape: Shape,
    /// How many streams.
    pub(crate) streams: u32,
    /// What they do.
    pub(crate) kind: Kind,
    /// The peers that it is played to; all that it concerns, if none is named.
    pub(crate) only: &'static [&'static str],
    /// Its place on a curve, if it is a point of one.
    pub(crate) at: Option<u32>,
    /// In how many blocks it is played at most.
    pub(crate) blocks: u32,
}

/// What the streams of a scenario do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Events by a schedule.
    Paced {
        /// From one event of a stream to its next.
        interval: Duration,
        /// Before figures are taken.
        warm: Duration,
        /// While figures are taken.
        measured: Duration,
    },
    /// Events by a schedule to several clients per stream.
    FanOut {
        /// Clients per stream.
        readers: u32,
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
    /// So many events, then nothing, for what the proxy needs to keep them.
    Ring {
        /// Events per stream.
        events: u32,
    },
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
    /// Many streams of one event.
    Setup {
        /// Whether clients use a connection again.
        reuse: bool,
    },
    /// From running the program to its first stream, and what it takes up idle.
    Startup,
    /// System calls while events come by a schedule.
    Calls {
        /// Events per second and stream.
        rate: u32,
        /// While they are counted.
        measured: Duration,
    },
    /// System calls of bursts.
    CallsBurst {
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

impl Scenario {
    /// Of generic events, for all that it concerns, in every block.
    fn new(name: &'static str, streams: u32, kind: Kind) -> Self {
        Self { name, shape: Shape::Generic, streams, kind, only: &[], at: None, blocks: u32::MAX }
    }

    /// What its table is called; of a curve, what all its points have in common.
    pub(crate) fn title(&self) -> String {
        let Self { name, shape, streams, kind, .. } = self;
        let events = match shape {
            Shape::Sized(_) => "by bytes per event".to_owned(),
            Shape::Generic | Shape::OpenAi => format!("{} ({} bytes per event)", shape.name(), shape.event_bytes()),
        };
        let what = match kind {
            Kind::Paced { measured, .. } if self.at.is_some() && !matches!(shape, Shape::Sized(_)) => {
                format!("10,000 events/s in all for {} s, by number of streams", measured.as_secs_f64())
            }
            Kind::Paced { interval, measured, .. } => {
                let rate = 1.0 / interval.as_secs_f64();
                format!("{streams} streams at {rate} events/s for {} s", measured.as_secs_f64())
            }
            Kind::FanOut { rate, .. } => format!("{streams} streams at {rate} events/s, by clients per stream"),
            Kind::Burst { rounds, .. } if self.at.is_some() => {
                format!("{streams} streams as fast as possible, 2 MiB or 20,000 events each, × {rounds}")
            }
            Kind::Burst { events: count, rounds } => {
                format!("{streams} streams × {count} events as fast as possible, × {rounds}")
            }
            Kind::Silent if self.at.is_some() => "silent streams, by their number".to_owned(),
            Kind::Silent => format!("{streams} streams, open and silent"),
            Kind::Ring { .. } => format!("{streams} sessions, by events that each keeps"),
            Kind::Storm { missed } => format!("{streams} clients come back at once for {missed} events each"),
            Kind::Kept { events: count } => format!("{streams} finished streams of {count} events in Redis"),
            Kind::Setup { reuse: true } => {
                format!("{streams} streams of one event, {} at a time, connections used again", setup::LANES)
            }
            Kind::Setup { reuse: false } => {
                format!("{streams} streams of one event, {} at a time, each on a new connection", setup::LANES)
            }
            Kind::Startup => "started with all files in the page cache".to_owned(),
            Kind::Calls { rate, measured } => {
                format!("system calls, {streams} streams at {rate} events/s for {} s", measured.as_secs_f64())
            }
            Kind::CallsBurst { events: count } => {
                format!("system calls, {streams} streams × {count} events as fast as possible")
            }
        };
        format!("{name}: {what}, {events}")
    }

    /// Whether there is anything to learn from `peer`.
    pub(crate) fn concerns(&self, peer: &dyn Peer) -> bool {
        if !self.only.is_empty() {
            return self.only.contains(&peer.name());
        }
        match self.kind {
            Kind::Storm { .. } | Kind::Ring { .. } | Kind::FanOut { .. } => peer.gives_ids(),
            Kind::Kept { .. } => peer.has_store(),
            // What is no program does not start.
            Kind::Startup => peer.program().is_some() && !peer.has_store(),
            // Without a proxy there is no memory of one, but the kernel's of the rest.
            _ => true,
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
            Kind::Paced { interval, warm, measured } => run.paced(nanos(interval), warm, measured),
            Kind::FanOut { readers, rate, warm, measured } => run.fan_out(readers, interval(rate), warm, measured),
            Kind::Burst { events, rounds } => run.bursts(events, rounds),
            Kind::Silent => run.silent(),
            Kind::Ring { events } => run.ring(events),
            Kind::Storm { missed } => run.storm(missed),
            Kind::Kept { events } => run.kept(events),
            Kind::Setup { reuse } => run.setup(reuse),
            Kind::Startup => run.startup(),
            Kind::Calls { rate, measured } => run.calls(interval(rate), measured),
            Kind::CallsBurst { events } => run.calls_of_bursts(events),
        }
    }
}

/// From one event to the next, in nanoseconds, at so many per second.
fn interval(rate: u32) -> u64 {
    1_000_000_000 / u64::from(rate.max(1))
}
