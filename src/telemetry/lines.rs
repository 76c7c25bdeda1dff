//! Log lines on their way to a sink that may be slow, full or gone: a bounded queue, and one thread that writes.
//!
//! Nobody who logs ever waits for the sink. What does not fit is dropped and counted. Not here: how a line looks
//! (`logs`).

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::metrics;

/// What waits for the sink at most, in bytes; as much again may be on its way into it.
const ROOM: usize = 1 << 20;

/// Where log lines are put.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    news: Condvar,
    /// Everything is written.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: u64,
    /// The thread is busy with what it took.
    writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Lines for `sink`, written by a thread of their own for as long as the process lives.
    ///
    /// # Errors
    /// When the thread cannot be had.
    pub(super) fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let taken = Arc::clone(&queue);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&taken, sink))?;
        Ok(Self(queue))
    }

    /// Waits until everything is written, but no longer than `within`.
    pub(super) fn flush(&self, within: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.text.is_empty();
        drop(self.0.idle.wait_timeout_while(self.0.lock(), within, busy));
    }
}

fn write_all(queue: &Queue, mut sink: impl Write) {
    loop {
        let (text, lines) = {
            let mut waiting = queue.lock();
            waiting.writing = false;
            if waiting.text.is_empty() {
                queue.idle.notify_all();
            }
            let empty = |waiting: &mut Waiting| waiting.text.is_empty();
            let mut waiting = queue.news.wait_while(waiting, empty).unwrap_or_else(PoisonError::into_inner);
            waiting.writing = true;
            (std::mem::take(&mut waiting.text), std::mem::take(&mut waiting.lines))
        };
        // How many of them arrived nobody can tell.
        if sink.write_all(&text).and_then(|()| sink.flush()).is_err() {
            metrics::log_lines_dropped(lines);
        }
    }
}

/// One write is one line: so the formatter has it.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.text.len() + line.len() > ROOM {
            drop(waiting);
            metrics::log_lines_dropped(1);
        } else {
            waiting.text.extend_from_slice(line);
            waiting.lines += 1;
            drop(waiting);
            self.0.news.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that takes a piece when it is let, and shows it.
    struct Sink {
        let_through: Receiver<()>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Sink {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.let_through.recv().map_err(|_| io::ErrorKind::StorageFull)?;
            let _ = self.took.send(text.to_vec());
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink() -> (Lines, Sender<()>, Receiver<Vec<u8>>) {
        let (go, let_through) = channel();
        let (took, taken) = channel();
        (Lines::to(Sink { let_through, took }).unwrap(), go, taken)
    }

    fn log(mut lines: &Lines, line: &[u8]) {
        lines.write_all(line).unwrap();
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (lines, go, taken) = sink();
        drop((0..100).map(|_| go.send(())).collect::<Vec<_>>());
        (0..100).for_each(|n| log(&lines, format!("{n}\n").as_bytes()));
        lines.flush(Duration::from_secs(10));
        let text = taken.try_iter().flatten().collect::<Vec<_>>();
        assert_eq!(String::from_utf8(text).unwrap(), (0..100).map(|n| format!("{n}\n")).collect::<String>());
    }

    #[test]
    fn a_sink_that_takes_nothing_holds_nobody_up_and_what_waits_for_it_is_bounded() {
        let (lines, go, taken) = sink();
        let line = [b'x'; 1000];
        (0..10_000).for_each(|_| log(&lines, &line));
        assert!(lines.0.lock().text.len() <= ROOM);
        lines.flush(Duration::ZERO); // nor does leaving
        drop((0..3).map(|_| go.send(())).collect::<Vec<_>>());
        lines.flush(Duration::from_secs(10));
        let arrived: usize = taken.try_iter().map(|text| text.len()).sum();
        assert!((ROOM / 2..=2 * ROOM).contains(&arrived), "{arrived} bytes of 10,000,000");
        assert_eq!(arrived % line.len(), 0, "no line was cut");
    }

    #[test]
    fn a_sink_that_is_full_is_tried_again_with_the_next_lines() {
        let (lines, go, taken) = sink();
        drop(taken);
        drop(go); // from here on every write fails
        log(&lines, b"a\n");
        lines.flush(Duration::from_secs(10));
        log(&lines, b"b\n");
        lines.flush(Duration::from_secs(10));
        let waiting = lines.0.lock();
        assert!(waiting.text.is_empty() && !waiting.writing, "it was tried and given up: {waiting:?}");
    }
}
