//! What an open stream takes up while nothing happens on it: in the proxy, and in the kernel of the whole machine, where
//! the upstream's and the client's own sockets are to be taken off (the direct run has only those).

use super::run::Run;
use super::{Metric, Sample};
use crate::failure::Failure;
use crate::load::Load;
use crate::proc::{self, Kernel};
use crate::upstream::Flow;

impl Run<'_> {
    pub(super) fn silent(&self) -> Result<Sample, Failure> {
        self.whole_streams(32, 1)?;
        let base = self.settled_memory()?;
        let kernel = proc::kernel()?;
        let plan = self.plan(self.scenario.streams, 1, Flow::Silent);
        let all = u64::from(plan.streams);
        let mut play = self.open(plan, 0..0)?;
        self.wait(&mut play.load, "receiving all heads", all, Load::heads)?;
        let empty = self.settled_memory()?;
        play.playing.go()?;
        self.wait(&mut play.load, "receiving the first events", all, Load::events)?;
        let opened = self.settled_memory()?;
        let held = self.held()?;
        let now = proc::kernel()?;
        play.playing.end();
        self.all_read(&mut play)?;
        self.harvest(play)?;

        let per_stream = |now: u64, before: u64| (now as f64 - before as f64) / f64::from(plan.streams);
        let mut sample = Vec::new();
        if self.started.process.is_some() {
            sample.extend([(Metric::Empty, per_stream(empty, base)), (Metric::Opened, per_stream(opened, base))]);
            sample.extend(held);
        }
        let Kernel { slab, buffers } = kernel;
        sample.extend(slab.zip(now.slab).map(|(before, now)| (Metric::Slab, per_stream(now, before))));
        sample.push((Metric::Buffers, per_stream(now.buffers, buffers)));
        Ok(sample)
    }
}
