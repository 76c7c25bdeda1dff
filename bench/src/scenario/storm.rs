//! The reconnect storm: every client has its first event and loses its connection, all come back at once, and each
//! must get what it missed. With a store they come back at another replica, which has not seen their streams before.

use std::sync::Arc;

use super::run::{Run, Used, counted, whole};
use super::{Metric, Sample};
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::load::{Load, Part};
use crate::peer::Started;
use crate::upstream::Flow;

/// Clients that come back before it counts.
const WARM: u32 = 32;

impl Run<'_> {
    pub(super) fn storm(&self, missed: u32) -> Result<Sample, Failure> {
        let other = self.peer.start_beside(self.started, &self.bench.ground)?;
        self.reconnect(WARM, missed, other.as_ref())?;
        let streams = self.scenario.streams;
        let (took, used) = self.reconnect(streams, missed, other.as_ref())?;
        let each = |nanos: u64| nanos as f64 / 1_000.0 / f64::from(streams);
        let mut sample = vec![(Metric::Replayed, took as f64 / 1e9), (Metric::ReplayCpu, each(used.proxy.nanos))];
        if self.started.store.is_some() {
            sample.push((Metric::ReplayStoreCpu, each(used.store.nanos)));
        }
        Ok(sample)
    }

    fn reconnect(&self, streams: u32, missed: u32, other: Option<&Started>) -> Result<(Nanos, Used), Failure> {
        let plan = self.plan(streams, 1 + missed, Flow::Silent);
        let stored = self.stored()?;
        let mut play = self.open_part(plan, &Part::Events, 0..0)?;
        play.playing.go()?;
        self.all_read(&mut play)?;
        self.all_stored(stored, u64::from(plan.streams) * u64::from(plan.events))?;
        let ids = counted(play.load, u64::from(plan.streams) * u64::from(plan.events))?.first_ids;

        let watched = self.watched(other)?;
        let (before, start) = (watched.used()?, self.bench.clock.now());
        let address = other.unwrap_or(self.started).address;
        let part = Part::AfterFirst(Arc::new(ids));
        let mut load = self.bench.clients.open(plan, address, self.peer.gives_ids(), &part, 0..0);
        let all = u64::from(streams) * u64::from(missed);
        self.wait(&mut load, "replaying what was missed", all, Load::events)?;
        let (took, used) = (self.bench.clock.now() - start, watched.used()?.since(before));

        play.playing.end();
        let ended = |load: &Load| load.ended() as u64;
        self.wait(&mut load, "reading all streams to their end", u64::from(streams), ended)?;
        self.all_stored(stored, whole(plan))?;
        counted(load, all)?;
        Ok((took, used))
    }
}
