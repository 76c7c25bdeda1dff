//! One scenario, one peer, once: opening streams, taking figures, checking that nothing is missing. Paced streams
//! and bursts are here; the others stand beside.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bench, Kind, Metric, Sample, Scenario};
use crate::clock::{Nanos, nanos};
use crate::event::Shape;
use crate::failure::Failure;
use crate::load::{Harvest, Load, Part, Waited};
use crate::peer::{Peer, Started};
use crate::proc::{self, Cpu, Pid};
use crate::stats::percentile;
use crate::upstream::{Flow, Plan, Playing};

/// How long any stage may take before the run is given up.
const LIMIT: Duration = Duration::from_secs(60);
/// From the last byte of a stage of silence to the look at memory.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks at what the store holds.
const LOOK: Duration = Duration::from_millis(5);

/// Between two looks at memory that is still changing, and how often it is looked at.
const STILL: Duration = Duration::from_millis(250);
const STILL_LOOKS: usize = 16;

/// See the module.
pub(crate) struct Run<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) bench: &'a Bench<'a>,
    pub(crate) peer: &'a dyn Peer,
    pub(crate) started: &'a Started,
}

/// A plan that is being played and read.
pub(super) struct Play {
    pub(super) plan: Plan,
    pub(super) playing: Arc<Playing>,
    pub(super) load: Load,
    /// What the store held before it.
    stored: u64,
}

/// CPU of the proxy and of the store beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) proxy: Cpu,
    pub(super) store: Cpu,
}

impl Used {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { proxy: self.proxy.since(earlier.proxy), store: self.store.since(earlier.store) }
    }

    fn plus(self, other: Self) -> Self {
        Self { proxy: self.proxy.plus(other.proxy), store: self.store.plus(other.store) }
    }
}

/// The processes whose CPU is counted.
pub(super) struct Watched {
    proxy: Vec<Pid>,
    store: Vec<Pid>,
}

impl Watched {
    pub(super) fn used(&self) -> Result<Used, Failure> {
        Ok(Used { proxy: proc::cpu(&self.proxy)?, store: proc::cpu(&self.store)? })
    }
}

/// How one burst went.
struct Burst {
    /// Until the clients had all.
    read: Nanos,
    /// Until the store had all, too.
    stored: Nanos,
    events: u64,
}

impl Run<'_> {
    pub(super) fn paced(&self, interval: Nanos, warm: Duration, measured: Duration) -> Result<Sample, Failure> {
        let (plan, window) = self.schedule(interval, warm, measured);
        let mut play = self.open(plan, window)?;
        let watched = self.watched(None)?;
        let start = play.playing.go()?;
        self.bench.clock.sleep_until(start + nanos(warm));
        let (used, events) = (watched.used()?, play.load.events());
        self.bench.clock.sleep_until(start + nanos(warm) + nanos(measured));
        let (used, events) = (watched.used()?.since(used), play.load.events() - events);
        let mut lateness = play.playing.end();
        lateness.sort_unstable();
        let held = self.held()?;
        self.all_read(&mut play)?;
        let harvest = self.harvest(play)?;
        let mut sample = self.per_event(used, events);
        let mut timed = vec![(Metric::Lateness, &lateness, 0.99)];
        if !self.scenario.shape.is_short() {
            timed.extend([(Metric::P50, &harvest.latencies, 0.5), (Metric::P99, &harvest.latencies, 0.99)]);
        }
        sample.extend(percentiles(&timed));
        sample.extend(held);
        Ok(sample)
    }

    /// One round of the paced scenario, `look`ing every so often while it goes on. Returns how many events were read.
    pub(crate) fn soaked(
        &self,
        every: Duration,
        mut look: impl FnMut() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let Kind::Paced { interval, warm, measured } = self.scenario.kind else { return Ok(0) };
        let (plan, _) = self.schedule(nanos(interval), warm, measured);
        let mut play = self.open(plan, 0..0)?;
        let start = play.playing.go()?;
        let mut next = start;
        while next + nanos(every) < start + nanos(measured) {
            next += nanos(every);
            self.bench.clock.sleep_until(next);
            look()?;
        }
        play.playing.end();
        self.all_read(&mut play)?;
        Ok(self.harvest(play)?.tally.events)
    }

    /// A paced plan, and the numbers of the events that are measured. Its streams are still running when the last
    /// figure is taken.
    pub(super) fn schedule(&self, interval: Nanos, warm: Duration, measured: Duration) -> (Plan, Range<u32>) {
        let count = |duration: Duration| u32::try_from(nanos(duration).div_ceil(interval)).unwrap_or(u32::MAX);
        let window = count(warm)..count(warm) + count(measured);
        let events = window.end + count(Duration::from_millis(200));
        (self.plan(self.scenario.streams, events, Flow::Paced { interval }), window)
    }

    pub(super) fn bursts(&self, events: u32, rounds: u32) -> Result<Sample, Failure> {
        self.burst(events / 10)?;
        let watched = self.watched(None)?;
        let mut used = Used::default();
        let mut sum = Burst { read: 0, stored: 0, events: 0 };
        for _ in 0..rounds {
            let before = watched.used()?;
            let Burst { read, stored, events } = self.burst(events)?;
            used = used.plus(watched.used()?.since(before));
            sum = Burst { read: sum.read + read, stored: sum.stored + stored, events: sum.events + events };
        }
        let mut sample = self.per_event(used, sum.events);
        sample.push((Metric::Wall, sum.read as f64 / 1e9 / f64::from(rounds)));
        if self.started.store.is_some() {
            sample.push((Metric::Stored, sum.events as f64 * 1e9 / sum.stored as f64));
        }
        Ok(sample)
    }

    /// User memory in all, now; nothing without a proxy.
    pub(super) fn held(&self) -> Result<Option<(Metric, f64)>, Failure> {
        let pids = self.started.pids()?;
        let memory = proc::memory(&pids)?;
        Ok((!pids.is_empty()).then_some((Metric::Held, memory as f64 / 1024.0)))
    }

    /// User memory in KiB once it no longer changes.
    pub(super) fn settled_memory(&self) -> Result<u64, Failure> {
        std::thread::sleep(SETTLE);
        let pids = self.started.pids()?;
        let mut memory = proc::memory(&pids)?;
        for _ in 0..STILL_LOOKS {
            std::thread::sleep(STILL);
            let now = proc::memory(&pids)?;
            if now.abs_diff(memory) <= memory / 500 {
                return Ok(now);
            }
            memory = now;
        }
        Ok(memory)
    }

    pub(super) fn bursts_once(&self, events: u32) -> Result<u64, Failure> {
        Ok(self.burst(events)?.events)
    }

    fn burst(&self, events: u32) -> Result<Burst, Failure> {
        let plan = self.plan(self.scenario.streams, events, Flow::Burst);
        let mut play = self.open(plan, 0..0)?;
        let start = play.playing.go()?;
        self.all_read(&mut play)?;
        let read = self.bench.clock.now() - start;
        self.all_stored(play.stored, whole(plan))?;
        let stored = self.bench.clock.now() - start;
        Ok(Burst { read, stored, events: self.harvest(play)?.tally.events })
    }

    /// Plays `streams` streams of `events` events to their end, as fast as they are taken.
    pub(super) fn whole_streams(&self, streams: u32, events: u32) -> Result<(), Failure> {
        let mut play = self.open(self.plan(streams, events, Flow::Burst), 0..0)?;
        play.playing.go()?;
        self.all_read(&mut play)?;
        self.harvest(play).map(drop)
    }

    pub(super) fn plan(&self, streams: u32, events: u32, flow: Flow) -> Plan {
        Plan { shape: self.scenario.shape, streams, events, flow }
    }

    /// Opens all streams of `plan` and waits until the upstream has them.
    pub(super) fn open(&self, plan: Plan, measured: Range<u32>) -> Result<Play, Failure> {
        self.open_part(plan, &Part::Whole, measured)
    }

    pub(super) fn open_part(&self, plan: Plan, part: &Part, measured: Range<u32>) -> Result<Play, Failure> {
        let stored = self.stored()?;
        let playing = self.bench.upstream.open(plan);
        let mut load = self.bench.clients.open(plan, self.started.address, self.peer.gives_ids(), part, measured);
        self.wait(&mut load, "opening all streams", u64::from(plan.streams), |_| playing.ready())?;
        Ok(Play { plan, playing, load, stored })
    }

    pub(super) fn all_read(&self, play: &mut Play) -> Result<(), Failure> {
        let streams = u64::from(play.load.streams());
        self.wait(&mut play.load, "reading all streams to their end", streams, |load| load.ended() as u64)
    }

    pub(super) fn wait(
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

    /// The streams have checked themselves; this checks that none of them was forgotten, here or in the store.
    pub(super) fn harvest(&self, play: Play) -> Result<Harvest, Failure> {
        self.all_stored(play.stored, whole(play.plan))?;
        counted(play.load, u64::from(play.plan.streams) * u64::from(play.plan.events))
    }

    /// What the store holds; without one nothing.
    pub(super) fn stored(&self) -> Result<u64, Failure> {
        self.started.store.as_ref().map_or(Ok(0), crate::store::Store::entries)
    }

    /// Waits until the store, if there is one, holds so many `more` entries than it did `before`.
    pub(super) fn all_stored(&self, before: u64, more: u64) -> Result<(), Failure> {
        if self.started.store.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            let got = self.stored()?.saturating_sub(before);
            if got == more {
                return Ok(());
            }
            if got > more || Instant::now() > deadline {
                return Err(Failure::Stored { got, expected: more, seconds: LIMIT.as_secs() });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What the peer's processes, and those of `other`, use.
    pub(super) fn watched(&self, other: Option<&Started>) -> Result<Watched, Failure> {
        let mut proxy = self.started.pids()?;
        if let Some(other) = other {
            proxy.extend(other.pids()?);
        }
        let store = self.started.store.as_ref().map_or(Ok(Vec::new()), crate::store::Store::pids)?;
        Ok(Watched { proxy, store })
    }

    pub(super) fn per_event(&self, used: Used, events: u64) -> Sample {
        if self.started.process.is_none() || events == 0 {
            return Vec::new();
        }
        let micros = |cpu: Cpu| cpu.nanos as f64 / 1_000.0 / events as f64;
        let slices = used.proxy.slices as f64 / events as f64;
        let mut sample = vec![(Metric::Cpu, micros(used.proxy)), (Metric::Slices, slices)];
        if let Shape::Sized(_) = self.scenario.shape {
            let bytes = self.scenario.shape.event_bytes() as f64;
            sample.push((Metric::CpuPerMb, micros(used.proxy) * 1_000.0 / bytes));
        }
        if self.started.store.is_some() {
            sample.push((Metric::StoreCpu, micros(used.store)));
        }
        sample
    }
}

/// In µs, of nanoseconds that ascend.
pub(super) fn percentiles(of: &[(Metric, &Vec<Nanos>, f64)]) -> Sample {
    let found = of.iter().map(|(metric, values, share)| (*metric, percentile(values, *share)));
    found.filter_map(|(metric, value)| Some((metric, value? as f64 / 1_000.0))).collect()
}

/// Checks how many events were read in all.
pub(super) fn counted(load: Load, expected: u64) -> Result<Harvest, Failure> {
    let harvest = load.harvest();
    let got = harvest.tally.events;
    if got == expected { Ok(harvest) } else { Err(Failure::Count { got, expected }) }
}

/// What the store holds of a plan that was played to its end: besides the events the end of the answer, and a seal.
pub(super) fn whole(plan: Plan) -> u64 {
    u64::from(plan.streams) * (u64::from(plan.events) + u64::from(plan.shape.end_events()) + 1)
}
