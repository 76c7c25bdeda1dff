//! The schedule of a paced plan, kept by one thread. tokio's timers round up to a millisecond, which is more than what
//! is measured; a thread that sleeps until the next slot is some tens of microseconds late, and says by how much.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Plan;
use crate::clock::{Clock, Nanos};
use crate::event::{Stamp, Template};

/// Streams are spread over an interval in steps of about this.
const STEP: Nanos = 1_000_000;
/// How long the last bytes may take to be accepted.
const FLUSH: Duration = Duration::from_secs(10);

/// One stream and what its socket would not take yet.
#[derive(Debug)]
pub(super) struct Paced {
    socket: Arc<TcpStream>,
    stream: u32,
    backlog: Vec<u8>,
    failed: bool,
}

impl Paced {
    /// A stream that has sent its head.
    pub(super) fn new(socket: Arc<TcpStream>, stream: u32) -> Self {
        Self { socket, stream, backlog: Vec::new(), failed: false }
    }

    fn send(&mut self, bytes: &[u8]) {
        if !self.flush() {
            self.backlog.extend_from_slice(bytes);
            return;
        }
        let written = self.write(bytes);
        self.backlog.extend_from_slice(bytes.get(written..).unwrap_or_default());
    }

    /// Whether nothing is left to send.
    fn flush(&mut self) -> bool {
        if !self.backlog.is_empty() {
            let backlog = std::mem::take(&mut self.backlog);
            let written = self.write(&backlog);
            self.backlog = backlog.get(written..).unwrap_or_default().to_vec();
        }
        self.backlog.is_empty()
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.failed {
            return bytes.len();
        }
        match self.socket.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                // The client misses its events and says so.
                self.failed = true;
                bytes.len()
            }
        }
    }
}

/// Plays one paced plan.
#[derive(Debug)]
pub(super) struct Pacer {
    pub(super) clock: Clock,
    pub(super) plan: Plan,
    pub(super) interval: Nanos,
    pub(super) start: Nanos,
}

impl Pacer {
    /// Blocks until all is sent; returns by how much each event was late.
    pub(super) fn run(self, mut streams: Vec<Paced>) -> Vec<Nanos> {
        // The kernel may otherwise let every sleep last 50 µs longer. Without the right to do so it is only less exact.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        streams.sort_by_key(|paced| paced.stream);
        let mut template = Template::new(self.plan.shape);
        let slots = slots(self.interval);
        let mut lateness = Vec::with_capacity(streams.len() * self.plan.events as usize);
        for number in 0..self.plan.events {
            for slot in 0..slots {
                let due = self.start + u64::from(number) * self.interval + slot * self.interval / slots;
                self.clock.sleep_until(due);
                let first = usize::try_from(slot).unwrap_or(usize::MAX);
                let step = usize::try_from(slots).unwrap_or(usize::MAX);
                for paced in streams.iter_mut().skip(first).step_by(step) {
                    lateness.push(self.clock.now().saturating_sub(due));
                    paced.send(template.stamped(Stamp { stream: paced.stream, number, due }));
                }
            }
        }
        self.end(&mut streams);
        lateness
    }

    fn end(&self, streams: &mut [Paced]) {
        let end = self.plan.shape.end();
        for paced in streams.iter_mut() {
            paced.send(&end);
        }
        let deadline = self.clock.now() + crate::clock::nanos(FLUSH);
        while self.clock.now() < deadline {
            // Every stream gets its turn, also behind one that is stuck.
            let stuck = streams.iter_mut().filter_map(|paced| (!paced.flush()).then_some(())).count();
            if stuck == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How many groups of streams share one interval.
fn slots(interval: Nanos) -> u64 {
    (interval / STEP).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_over_their_interval_by_milliseconds() {
        assert_eq!(slots(20_000_000), 20);
        assert_eq!(slots(1_500_000), 1);
        assert_eq!(slots(10), 1);
    }
}
