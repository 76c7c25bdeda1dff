//! Several clients on one stream: the one that began it, and others that attach to its session by name.

use std::sync::Arc;
use std::time::Duration;

use super::run::{Run, counted, percentiles};
use super::{Metric, Sample};
use crate::clock::{Nanos, nanos};
use crate::failure::Failure;
use crate::load::{Load, Part};

impl Run<'_> {
    pub(super) fn fan_out(
        &self,
        readers: u32,
        interval: Nanos,
        warm: Duration,
        measured: Duration,
    ) -> Result<Sample, Failure> {
        let (plan, window) = self.schedule(interval, warm, measured);
        let mut play = self.open(plan, window.clone())?;
        self.wait(&mut play.load, "receiving all heads", u64::from(plan.streams), Load::heads)?;
        let part = Part::Attached { sessions: Arc::new(play.load.sessions()), copies: readers.saturating_sub(1) };
        let others = u64::from(plan.streams) * u64::from(readers.saturating_sub(1));
        let mut attached = self.bench.clients.open(plan, self.started.address, true, &part, window);
        self.wait(&mut attached, "attaching to all streams", others, Load::heads)?;

        let watched = self.watched(None)?;
        let start = play.playing.go()?;
        self.bench.clock.sleep_until(start + nanos(warm));
        let delivered = |play: &Load, attached: &Load| play.events() + attached.events();
        let (used, events) = (watched.used()?, delivered(&play.load, &attached));
        self.bench.clock.sleep_until(start + nanos(warm) + nanos(measured));
        let (used, events) = (watched.used()?.since(used), delivered(&play.load, &attached) - events);
        play.playing.end();
        self.all_read(&mut play)?;
        self.wait(&mut attached, "reading all streams to their end", others, |load| load.ended() as u64)?;

        let mut latencies = counted(attached, others * u64::from(plan.events))?.latencies;
        latencies.extend(self.harvest(play)?.latencies);
        latencies.sort_unstable();
        let mut sample = self.per_event(used, events);
        sample.extend(percentiles(&[(Metric::P50, &latencies, 0.5), (Metric::P99, &latencies, 0.99)]));
        Ok(sample)
    }
}
