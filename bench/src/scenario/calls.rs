//! System calls instead of time: how many of which kind the whole proxy makes per event, as strace counts them. What is
//! watched so runs slower; the counts are those of a proxy that is not overtaken by its load.

use std::time::Duration;

use super::run::Run;
use super::{Metric, Sample};
use crate::clock::{Nanos, nanos};
use crate::failure::Failure;
use crate::strace::{Calls, Strace};

/// Before calls are counted.
const WARM: Duration = Duration::from_secs(1);
/// The schedule goes on for so long after the calls were counted.
const AFTER: Duration = Duration::from_secs(2);

impl Run<'_> {
    pub(super) fn calls(&self, interval: Nanos, measured: Duration) -> Result<Sample, Failure> {
        let (plan, _) = self.schedule(interval, WARM, measured + AFTER);
        let mut play = self.open(plan, 0..0)?;
        let start = play.playing.go()?;
        self.bench.clock.sleep_until(start + nanos(WARM));
        let strace = Strace::attach(&self.started.pids()?, self.bench.ground.directory)?;
        let (events, at) = (play.load.events(), self.bench.clock.now());
        self.bench.clock.sleep_until(at + nanos(measured));
        let events = play.load.events() - events;
        let calls = strace.detach()?;
        play.playing.end();
        self.all_read(&mut play)?;
        self.harvest(play)?;
        Ok(per_event(&calls, events))
    }

    pub(super) fn calls_of_bursts(&self, events: u32) -> Result<Sample, Failure> {
        self.bursts_once(events / 10)?;
        let strace = Strace::attach(&self.started.pids()?, self.bench.ground.directory)?;
        let events = self.bursts_once(events)?;
        let calls = strace.detach()?;
        let mut sample = per_event(&calls, events);
        let read = calls.recv.saturating_sub(calls.recv_again);
        if read > 0 {
            sample.push((Metric::SendsPerRecv, calls.send as f64 / read as f64));
        }
        Ok(sample)
    }
}

fn per_event(calls: &Calls, events: u64) -> Sample {
    let each = |count: u64| count as f64 / events.max(1) as f64;
    [
        (Metric::Recv, calls.recv),
        (Metric::RecvAgain, calls.recv_again),
        (Metric::Send, calls.send),
        (Metric::Write, calls.write),
        (Metric::Futex, calls.futex),
        (Metric::EpollWait, calls.epoll_wait),
        (Metric::OtherCalls, calls.other),
    ]
    .map(|(metric, count)| (metric, each(count)))
    .into()
}
