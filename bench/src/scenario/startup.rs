//! From running the program to the end of the first stream through it, and what it takes up before that. The program's
//! pages are in the page cache: what is measured is the program, not the disk.

use super::run::{Run, SETTLE};
use super::{Metric, Sample};
use crate::failure::Failure;
use crate::proc;
use crate::stats::Spread;

/// Starts of which the middle one is taken.
const STARTS: usize = 5;
const MIB: f64 = 1024.0;

impl Run<'_> {
    pub(super) fn startup(&self) -> Result<Sample, Failure> {
        let mut starts = Vec::new();
        let mut idle = None;
        for _ in 0..STARTS {
            let started = self.peer.start(&self.bench.ground)?;
            let Some(process) = &started.process else { return Ok(Vec::new()) };
            let run = Run { started: &started, ..*self };
            run.whole_streams(1, 1)?;
            starts.push(process.spawned().elapsed().as_secs_f64() * 1_000.0);
            idle = Some(started);
        }
        std::thread::sleep(SETTLE);
        let pids = idle.as_ref().map_or(Ok(Vec::new()), crate::peer::Started::pids)?;
        let mut sample: Sample = Spread::of(&starts).map(|spread| (Metric::Start, spread.median)).into_iter().collect();
        sample.push((Metric::IdleResident, proc::resident(&pids)? as f64 / MIB));
        sample.push((Metric::Idle, proc::memory(&pids)? as f64 / MIB));
        let program = self.peer.program().and_then(|program| std::fs::metadata(program).ok());
        sample.extend(program.map(|file| (Metric::Binary, file.len() as f64 / MIB / MIB)));
        Ok(sample)
    }
}
