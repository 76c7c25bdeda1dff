//! What finished streams take up in the store, by Redis' own count of each session's keys (`MEMORY USAGE`, every
//! entry), and by what the whole server allocated more.

use super::run::{Run, SETTLE};
use super::{Metric, Sample};
use crate::failure::Failure;
use crate::store::Store;

impl Run<'_> {
    pub(super) fn kept(&self, events: u32) -> Result<Sample, Failure> {
        // Only peers with a store are asked.
        let Some(store) = &self.started.store else { return Ok(Vec::new()) };
        let streams = self.scenario.streams;
        self.whole_streams(streams, 1)?;
        let (one, used) = (store.key_bytes()?, settled(store)?);
        self.whole_streams(streams, events)?;
        let (all, used) = (store.key_bytes()?.saturating_sub(one), settled(store)?.saturating_sub(used));
        let per_session = |bytes: u64| bytes as f64 / f64::from(streams);
        let further = (all as f64 - one as f64) / f64::from(streams) / f64::from(events.saturating_sub(1).max(1));
        Ok(vec![
            (Metric::KeptOne, per_session(one) / 1024.0),
            (Metric::KeptAll, per_session(all) / 1024.0),
            (Metric::KeptUsed, per_session(used) / 1024.0),
            (Metric::KeptEvent, further),
        ])
    }
}

/// Once nothing is on its way any more.
fn settled(store: &Store) -> Result<u64, Failure> {
    std::thread::sleep(SETTLE);
    store.used_bytes()
}
