//! The scenarios: what is played, when figures are taken, and which.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Nanos, nanos};
use crate::event::Shape;
use crate::failure::Failure;
use crate::load::{Clients, Harvest, Load, Waited};
use crate::peer::{Peer, Started};
use crate::proc;
use crate::stats::percentile;
use crate::upstream::{Flow, Plan, Playing, Upstream};

/// How long any stage may take before the run is given up.
const LIMIT: Duration = Duration::from_secs(60);
/// From the last byte of a stage of silence to the look at memory.
const SETTLE: Duration = Duration::from_millis(500);

/// One row of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// CPU of the proxy, µs per event.
    Cpu,
    /// How often a thread of the proxy was put on a CPU, per event.
    Slices,
    /// Median latency, µs, from when an event was due to when a client had it.
    P50,
    /// 99th percentile of the same.
    P99,
    /// How late the upstream itself was, µs: part of the latency of every peer.
    Lateness,
    /// Seconds from the first event to the end of the last stream.
    Wall,
    /// KiB of user memory per stream, before its first event.
    Empty,
    /// KiB of user memory per stream, after its first event.
    Opened,
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
        /// While they are.
        measured: Duration,
    },
    /// Everything at once.
    Burst {
        /// Events per stream.
        events: u32,
        /// How often, one after the other.
        rounds: u32,
    },
    /// Open and silent.
    Silent,
}

/// What every measurement needs.
pub(crate) struct Bench {
    /// The run's clock.
    pub(crate) clock: Clock,
    /// The upstream.
    pub(crate) upstream: Upstream,
    /// The clients.
    pub(crate) clients: Clients,
}

/// The scenarios of a whole run, or smaller ones for a look.
pub(crate) fn all(quick: bool) -> Vec<Scenario> {
    let (warm, measured, events, rounds, silent) =
        if quick { (500, 1_500, 2_000, 1, 500) } else { (1_000, 3_000, 10_000, 2, 2_000) };
    let kind = Kind::Paced { rate: 50, warm: Duration::from_millis(warm), measured: Duration::from_millis(measured) };
    let burst = Kind::Burst { events, rounds };
    vec![
        Scenario { name: "paced", shape: Shape::Generic, streams: 200, kind },
        Scenario { name: "paced-openai", shape: Shape::OpenAi, streams: 200, kind },
        Scenario { name: "burst", shape: Shape::Generic, streams: 32, kind: burst },
        Scenario { name: "burst-openai", shape: Shape::OpenAi, streams: 32, kind: burst },
        Scenario { name: "silent", shape: Shape::Generic, streams: silent, kind: Kind::Silent },
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
        }
    }

    /// Whether there is anything to learn from `peer`: without a proxy there is no memory of one.
    pub(crate) fn concerns(&self, peer: &dyn Peer) -> bool {
        !(matches!(self.kind, Kind::Silent) && peer.name() == "direct")
    }

    /// Plays it once to `peer`, which was just started and is warmed up first.
    ///
    /// # Errors
    ///
    /// A stream that was not what it had to be, or a stage that took too long.
    pub(crate) fn measure(&self, bench: &Bench, peer: &dyn Peer, started: &Started) -> Result<Sample, Failure> {
        let run = Run { scenario: self, bench, peer, started };
        match self.kind {
            Kind::Paced { rate, warm, measured } => run.paced(rate, warm, measured),
            Kind::Burst { events, rounds } => run.bursts(events, rounds),
            Kind::Silent => run.silent(),
        }
    }
}

struct Run<'a> {
    scenario: &'a Scenario,
    bench: &'a Bench,
    peer: &'a dyn Peer,
    started: &'a Started,
}

impl Run<'_> {
    fn paced(&self, rate: u32, warm: Duration, measured: Duration) -> Result<Sample, Failure> {
        let interval = 1_000_000_000 / u64::from(rate);
        let count = |duration: Duration| u32::try_from(nanos(duration) / interval).unwrap_or(u32::MAX);
        let window = count(warm)..count(warm) + count(measured);
        // The streams are still running when the last figure is taken.
        let plan =
            self.plan(self.scenario.streams, window.end + count(Duration::from_millis(200)), Flow::Paced { interval });
        let (playing, mut load) = self.open(plan, window)?;
        let pids = self.started.pids()?;
        let start = playing.go()?;
        self.bench.clock.sleep_until(start + nanos(warm));
        let (cpu, events) = (proc::cpu(&pids)?, load.events());
        self.bench.clock.sleep_until(start + nanos(warm) + nanos(measured));
        let (cpu, events) = (proc::cpu(&pids)?.since(cpu), load.events() - events);
        let mut lateness = playing.end();
        lateness.sort_unstable();
        self.all_ended(&mut load)?;
        let harvest = self.harvest(load, plan)?;
        let mut sample = per_event(cpu, events, !pids.is_empty());
        let latencies = &harvest.latencies;
        for (metric, values, share) in
            [(Metric::P50, latencies, 0.5), (Metric::P99, latencies, 0.99), (Metric::Lateness, &lateness, 0.99)]
        {
            sample.extend(percentile(values, share).map(|value| (metric, value as f64 / 1_000.0)));
        }
        Ok(sample)
    }

    fn bursts(&self, events: u32, rounds: u32) -> Result<Sample, Failure> {
        self.burst(events / 10)?;
        let pids = self.started.pids()?;
        let (mut cpu, mut wall, mut total) = (proc::Cpu::default(), 0, 0);
        for _ in 0..rounds {
            let before = proc::cpu(&pids)?;
            let (took, events) = self.burst(events)?;
            let used = proc::cpu(&pids)?.since(before);
            cpu = proc::Cpu { nanos: cpu.nanos + used.nanos, slices: cpu.slices + used.slices };
            wall += took;
            total += events;
        }
        let mut sample = per_event(cpu, total, !pids.is_empty());
        sample.push((Metric::Wall, wall as f64 / 1e9 / f64::from(rounds)));
        Ok(sample)
    }

    /// How long it took, and how many events it had.
    fn burst(&self, events: u32) -> Result<(Nanos, u64), Failure> {
        let plan = self.plan(self.scenario.streams, events, Flow::Burst);
        let (playing, mut load) = self.open(plan, 0..0)?;
        let start = playing.go()?;
        self.all_ended(&mut load)?;
        let took = self.bench.clock.now() - start;
        Ok((took, self.harvest(load, plan)?.tally.events))
    }

    fn silent(&self) -> Result<Sample, Failure> {
        let few = self.plan(32, 1, Flow::Burst);
        let (playing, mut load) = self.open(few, 0..0)?;
        playing.go()?;
        self.all_ended(&mut load)?;
        self.harvest(load, few)?;
        std::thread::sleep(SETTLE);

        let pids = self.started.pids()?;
        let base = proc::memory(&pids)?;
        let plan = self.plan(self.scenario.streams, 1, Flow::Silent);
        let all = u64::from(plan.streams);
        let (playing, mut load) = self.open(plan, 0..0)?;
        self.wait(&mut load, "receiving all heads", all, Load::heads)?;
        std::thread::sleep(SETTLE);
        let empty = proc::memory(&pids)?;
        playing.go()?;
        self.wait(&mut load, "receiving the first events", all, Load::events)?;
        std::thread::sleep(SETTLE);
        let opened = proc::memory(&pids)?;
        playing.end();
        self.all_ended(&mut load)?;
        self.harvest(load, plan)?;
        let per_stream = |memory: u64| (memory as f64 - base as f64) / f64::from(plan.streams);
        Ok(vec![(Metric::Empty, per_stream(empty)), (Metric::Opened, per_stream(opened))])
    }

    fn plan(&self, streams: u32, events: u32, flow: Flow) -> Plan {
        Plan { shape: self.scenario.shape, streams, events, flow }
    }

    /// Opens all streams of `plan` and waits until the upstream has them.
    fn open(&self, plan: Plan, measured: std::ops::Range<u32>) -> Result<(Arc<Playing>, Load), Failure> {
        let playing = self.bench.upstream.open(plan);
        let mut load = self.bench.clients.open(plan, self.started.address, self.peer.gives_ids(), measured);
        self.wait(&mut load, "opening all streams", u64::from(plan.streams), |_| playing.ready())?;
        Ok((playing, load))
    }

    fn all_ended(&self, load: &mut Load) -> Result<(), Failure> {
        let streams = u64::from(load.streams());
        self.wait(load, "reading all streams to their end", streams, |load| load.ended() as u64)
    }

    fn wait(
        &self,
        load: &mut Load,
        what: &'static str,
        expected: u64,
        got: impl Fn(&Load) -> u64,
    ) -> Result<(), Failure> {
        load.wait(LIMIT, |load| got(load) >= expected).map_err(|waited| match waited {
            Waited::Fault(source) => {
                Failure::Stream { peer: self.peer.name(), scenario: self.scenario.name.into(), source }
            }
            Waited::Late => Failure::TooSlow { what, seconds: LIMIT.as_secs(), got: got(load), expected },
        })
    }

    /// The streams have checked themselves; this checks that none of them was forgotten.
    fn harvest(&self, load: Load, plan: Plan) -> Result<Harvest, Failure> {
        let harvest = load.harvest();
        let expected = u64::from(plan.streams) * u64::from(plan.events);
        let got = harvest.tally.events;
        if got == expected { Ok(harvest) } else { Err(Failure::Count { got, expected }) }
    }
}

fn per_event(cpu: proc::Cpu, events: u64, proxied: bool) -> Sample {
    if !proxied || events == 0 {
        return Vec::new();
    }
    vec![(Metric::Cpu, cpu.nanos as f64 / 1_000.0 / events as f64), (Metric::Slices, cpu.slices as f64 / events as f64)]
}
