//! Many short streams: what it costs to begin and end one.

use super::run::{Run, counted, percentiles, whole};
use super::{Metric, Sample};
use crate::failure::Failure;
use crate::load::Load;
use crate::upstream::Flow;

/// Streams at a time.
pub(super) const LANES: u32 = 32;

impl Run<'_> {
    pub(super) fn setup(&self, reuse: bool) -> Result<Sample, Failure> {
        self.streams_in_lanes(self.scenario.streams / 10, reuse)?;
        self.streams_in_lanes(self.scenario.streams, reuse)
    }

    fn streams_in_lanes(&self, streams: u32, reuse: bool) -> Result<Sample, Failure> {
        let plan = self.plan(streams, 1, Flow::Burst);
        let stored = self.stored()?;
        self.bench.upstream.open(plan).go()?;
        let watched = self.watched(None)?;
        let (before, start) = (watched.used()?, self.bench.clock.now());
        let ids = self.peer.gives_ids();
        let mut load = self.bench.clients.lanes(plan, self.started.address, ids, LANES, reuse);
        let ended = |load: &Load| load.ended() as u64;
        self.wait(&mut load, "playing all streams", u64::from(LANES), ended)?;
        let took = self.bench.clock.now() - start;
        self.all_stored(stored, whole(plan))?;
        let used = watched.used()?.since(before);
        let connections = load.connections();
        let harvest = counted(load, u64::from(streams))?;

        let each = |value: u64| value as f64 / f64::from(streams);
        let mut sample = Vec::new();
        if self.started.process.is_some() {
            sample.push((Metric::SetupCpu, each(used.proxy.nanos) / 1_000.0));
        }
        if self.started.store.is_some() {
            sample.push((Metric::SetupStoreCpu, each(used.store.nanos) / 1_000.0));
        }
        let first = &harvest.latencies;
        sample.extend(percentiles(&[(Metric::First50, first, 0.5), (Metric::First99, first, 0.99)]));
        sample.push((Metric::SetupRate, f64::from(streams) * 1e9 / took as f64));
        sample.push((Metric::Connections, each(connections)));
        Ok(sample)
    }
}
