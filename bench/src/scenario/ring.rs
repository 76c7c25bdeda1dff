//! What it takes to keep events: growth of user memory per byte of event, while sessions are live and after they ended.

use super::run::Run;
use super::{Metric, Sample};
use crate::failure::Failure;
use crate::load::Load;
use crate::upstream::Flow;

impl Run<'_> {
    pub(super) fn ring(&self, events: u32) -> Result<Sample, Failure> {
        let streams = self.scenario.streams;
        self.whole_streams(32, 1)?;
        let plan = self.plan(streams, events, Flow::Silent);
        let mut play = self.open(plan, 0..0)?;
        self.wait(&mut play.load, "receiving all heads", u64::from(streams), Load::heads)?;
        let base = self.settled_memory()?;
        play.playing.go()?;
        let all = u64::from(streams) * u64::from(events);
        self.wait(&mut play.load, "receiving all events", all, Load::events)?;
        let live = self.settled_memory()?;
        play.playing.end();
        self.all_read(&mut play)?;
        self.harvest(play)?;
        let ended = self.settled_memory()?;
        let payload = all as f64 * self.scenario.shape.event_bytes() as f64;
        let per_byte = |memory: u64| (memory as f64 - base as f64) * 1024.0 / payload;
        Ok(vec![(Metric::Kept, per_byte(live)), (Metric::KeptEnded, per_byte(ended))])
    }
}
