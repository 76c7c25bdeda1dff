//! The clients: N streams on one thread, each read to its end and checked. An open loop: they never slow the upstream
//! down, and an event's latency counts from when it was due.

mod head;
mod lanes;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::check::{Checker, Expected, Mismatch, Tally};
use crate::chunked::{BadChunk, Chunked};
use crate::clock::{Clock, Nanos};
use crate::event::Ask;
use crate::failure::Failure;
use crate::upstream::Plan;
use lanes::Lane;

/// Connections that are being opened at once. One that is open may still wait to be accepted: whoever accepts too slowly
/// for his backlog loses attempts, which the kernel makes again after a second, and the storm shows it.
const OPENING: usize = 100;
const READ: usize = 16 * 1024;
const POLL: Duration = Duration::from_millis(2);

/// Which part of its stream a client reads.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// All events; then it leaves before the end.
    Events,
    /// What follows the first event, whose id stands here in the place of the stream.
    AfterFirst(Arc<Vec<String>>),
    /// All of it, by `copies` clients for each stream beside the one that began it, whose session stands here in the
    /// place of the stream.
    Attached { sessions: Arc<Vec<String>>, copies: u32 },
}

impl Part {
    fn copies(&self) -> u32 {
        if let Self::Attached { copies, .. } = self { *copies } else { 1 }
    }

    fn ask(&self, stream: u32) -> Ask<'_> {
        match self {
            Self::Whole | Self::Events => Ask::Stream,
            Self::AfterFirst(ids) => ids.get(stream as usize).map_or(Ask::Stream, |id| Ask::After(id)),
            Self::Attached { sessions, .. } => {
                sessions.get(stream as usize).map_or(Ask::Stream, |session| Ask::Attach(session))
            }
        }
    }
}

/// What went wrong with one stream.
#[derive(Debug, Error)]
pub(crate) enum StreamFault {
    #[error("its connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("its head is not that of a chunked stream: {0}")]
    Head(String),
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("its connection was closed before the end")]
    Closed,
    #[error("its connection was closed without an answer")]
    NoAnswer,
}

/// The thread that runs all clients.
#[derive(Debug)]
pub(crate) struct Clients {
    handle: Handle,
    clock: Clock,
}

impl Clients {
    /// Starts the thread. It runs until the process ends.
    ///
    /// # Errors
    ///
    /// No thread.
    pub(crate) fn start(clock: Clock) -> Result<Self, Failure> {
        let runtime = crate::runtime()?;
        let handle = runtime.handle().clone();
        let serve = move || runtime.block_on(crate::stop_on_signal());
        std::thread::Builder::new().name("clients".into()).spawn(serve).map_err(Failure::io("start a thread"))?;
        Ok(Self { handle, clock })
    }

    /// Opens the plan's streams at `address`. Latencies are kept of the events whose number is in `measured`.
    pub(crate) fn open(&self, plan: Plan, address: SocketAddr, ids: bool, part: &Part, measured: Range<u32>) -> Load {
        let progress = Arc::new(Progress::default());
        let opening = Arc::new(Semaphore::new(OPENING));
        let (sender, results) = mpsc::channel();
        let numbers = (0..part.copies()).flat_map(|_| 0..plan.streams);
        let tasks = numbers.map(|stream| {
            let client = Client {
                expected: Expected { shape: plan.shape, stream, events: plan.events, ids },
                address,
                part: part.clone(),
                measured: measured.clone(),
                clock: self.clock,
                progress: Arc::clone(&progress),
                opening: Arc::clone(&opening),
            };
            let sender = sender.clone();
            // Nobody listens any more if another stream has failed.
            let task = async move { drop(sender.send(client.run().await)) };
            self.handle.spawn(task).abort_handle()
        });
        Load { tasks: tasks.collect(), results, progress, done: Vec::new() }
    }

    /// Plays the plan's streams at `address`, `lanes` at a time, each lane on a connection that it keeps or on a new one
    /// for every stream. What [ends](Load::ended) is then a lane.
    pub(crate) fn lanes(&self, plan: Plan, address: SocketAddr, ids: bool, lanes: u32, reuse: bool) -> Load {
        let progress = Arc::new(Progress::default());
        let (sender, results) = mpsc::channel();
        let tasks = (0..lanes).map(|number| {
            let (clock, progress) = (self.clock, Arc::clone(&progress));
            let lane = Lane { plan, address, number, of: lanes, reuse, ids, clock, progress };
            let sender = sender.clone();
            // Nobody listens any more if another lane has failed.
            let task = async move { drop(sender.send(lane.run().await)) };
            self.handle.spawn(task).abort_handle()
        });
        Load { tasks: tasks.collect(), results, progress, done: Vec::new() }
    }
}

#[derive(Debug, Default)]
struct Progress {
    heads: AtomicU64,
    events: AtomicU64,
    connections: AtomicU64,
    sessions: Mutex<Vec<(u32, String)>>,
}

/// What one stream brought.
#[derive(Debug)]
struct Done {
    stream: u32,
    tally: Tally,
    latencies: Vec<Nanos>,
    first_id: Option<String>,
}

/// Streams that are being read. Dropped, it closes them.
#[derive(Debug)]
pub(crate) struct Load {
    tasks: Vec<AbortHandle>,
    results: mpsc::Receiver<Result<Done, StreamFault>>,
    progress: Arc<Progress>,
    done: Vec<Done>,
}

/// What all streams brought together.
#[derive(Debug)]
pub(crate) struct Harvest {
    /// What came.
    pub(crate) tally: Tally,
    /// Of the measured events, ascending.
    pub(crate) latencies: Vec<Nanos>,
    /// Of the first event of each stream, where clients [left](Part::Events) with all events of a peer that gives ids.
    pub(crate) first_ids: Vec<String>,
}

/// Why waiting ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Waited {
    /// A stream failed.
    Fault(StreamFault),
    /// It took too long.
    Late,
}

impl Load {
    /// Response heads so far.
    pub(crate) fn heads(&self) -> u64 {
        self.progress.heads.load(Ordering::Relaxed)
    }

    /// Events so far.
    pub(crate) fn events(&self) -> u64 {
        self.progress.events.load(Ordering::Relaxed)
    }

    /// Connections that [lanes](Clients::lanes) have opened so far.
    pub(crate) fn connections(&self) -> u64 {
        self.progress.connections.load(Ordering::Relaxed)
    }

    /// The sessions that were named so far, in the order of their streams.
    pub(crate) fn sessions(&self) -> Vec<String> {
        let mut sessions = self.progress.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sessions.sort_unstable();
        sessions.into_iter().map(|(_, session)| session).collect()
    }

    /// Blocks until `reached`.
    ///
    /// # Errors
    ///
    /// The first stream that fails, or the time is over.
    pub(crate) fn wait(&mut self, limit: Duration, reached: impl Fn(&Self) -> bool) -> Result<(), Waited> {
        let deadline = Instant::now() + limit;
        loop {
            while let Ok(result) = self.results.try_recv() {
                self.done.push(result.map_err(Waited::Fault)?);
            }
            if reached(self) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Waited::Late);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Streams that were opened.
    pub(crate) fn streams(&self) -> u32 {
        u32::try_from(self.tasks.len()).unwrap_or(u32::MAX)
    }

    /// Streams that were read to their end.
    pub(crate) fn ended(&self) -> usize {
        self.done.len()
    }

    /// What the ended streams brought.
    pub(crate) fn harvest(mut self) -> Harvest {
        let mut done = std::mem::take(&mut self.done);
        done.sort_unstable_by_key(|done| done.stream);
        let tally = done.iter().fold(Tally::default(), |sum, done| sum.plus(done.tally));
        let mut latencies: Vec<Nanos> = done.iter().flat_map(|done| done.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        let first_ids = done.into_iter().filter_map(|done| done.first_id).collect();
        Harvest { tally, latencies, first_ids }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Client {
    expected: Expected,
    address: SocketAddr,
    part: Part,
    measured: Range<u32>,
    clock: Clock,
    progress: Arc<Progress>,
    opening: Arc<Semaphore>,
}

impl Client {
    async fn run(self) -> Result<Done, StreamFault> {
        let stream = self.expected.stream;
        let ask = self.part.ask(stream);
        let checker = match ask {
            Ask::After(id) => Checker::after_first(self.expected, id)?,
            Ask::Stream | Ask::Attach(_) => Checker::new(self.expected),
        };
        let mut socket = {
            let _permit = self.opening.acquire().await;
            TcpStream::connect(self.address).await?
        };
        socket.set_nodelay(true)?;
        let request = self.expected.shape.request(&self.address.to_string(), stream, ask);
        socket.write_all(&request).await?;
        let mut buffer = vec![0; READ];
        let (head, mut from, mut filled) = head::read(&mut socket, &mut buffer).await?;
        if let Some(session) = head.session {
            self.progress.sessions.lock().unwrap_or_else(PoisonError::into_inner).push((stream, session));
        }
        self.progress.heads.fetch_add(1, Ordering::Relaxed);
        let mut body = Body { chunked: Chunked::new(), checker, latencies: Vec::new() };
        loop {
            self.take(buffer.get(from..filled).unwrap_or_default(), &mut body)?;
            if matches!(self.part, Part::Events) && body.checker.has_all_events() {
                let first_id = body.checker.first_id();
                return Ok(Done { stream, tally: body.checker.tally(), latencies: body.latencies, first_id });
            }
            if body.chunked.done() {
                let tally = body.checker.finish()?;
                return Ok(Done { stream, tally, latencies: body.latencies, first_id: None });
            }
            (from, filled) = (0, socket.read(&mut buffer).await?);
            if filled == 0 {
                return Err(StreamFault::Closed);
            }
        }
    }

    fn take(&self, mut bytes: &[u8], body: &mut Body) -> Result<(), StreamFault> {
        let now = self.clock.now();
        let mut events = 0;
        while let Some(data) = body.chunked.next(&mut bytes)? {
            body.checker.feed(data, |stamp| {
                events += 1;
                if self.measured.contains(&stamp.number) {
                    body.latencies.push(now.saturating_sub(stamp.due));
                }
            })?;
        }
        self.progress.events.fetch_add(events, Ordering::Relaxed);
        Ok(())
    }
}

struct Body {
    chunked: Chunked,
    checker: Checker,
    latencies: Vec<Nanos>,
}
