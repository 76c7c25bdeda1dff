//! The upstream: a minimal HTTP/1.1 server that plays one [`Plan`] at a time. Each event is a chunk of its own.
//! It costs as little as it can, because it shares the machine with what is measured.

mod pacer;
mod request;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::clock::{Clock, Nanos};
use crate::event::{Shape, Stamp, Template};
use crate::failure::Failure;
use pacer::{Paced, Pacer};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
    transfer-encoding: chunked\r\n\r\n";
/// What one write of a burst carries.
const BURST_WRITE: usize = 64 * 1024;

/// What the upstream plays to all of its clients alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The shape of its events.
    pub(crate) shape: Shape,
    /// How many streams there will be.
    pub(crate) streams: u32,
    /// Events per stream.
    pub(crate) events: u32,
    /// When they are sent.
    pub(crate) flow: Flow,
}

/// When events are sent, once the plan is told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// By a schedule: one event every `interval` on each stream, the streams spread evenly over it. A plan that falls
    /// behind catches up; it never skips and never shifts the schedule.
    Paced {
        /// From one event of a stream to its next.
        interval: Nanos,
    },
    /// As fast as it is taken.
    Burst,
    /// All events at once, then nothing until the plan is told to end.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Waiting,
    Going,
    Ending,
}

/// The server. Runs until the process ends.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    stage: Arc<Stage>,
}

#[derive(Debug)]
struct Stage {
    clock: Clock,
    playing: Mutex<Option<Arc<Playing>>>,
}

impl Upstream {
    /// Listens on a free loopback port, on a thread of its own.
    ///
    /// # Errors
    ///
    /// No port, no thread.
    pub(crate) fn start(clock: Clock) -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::io("listen"))?;
        let address = listener.local_addr().map_err(Failure::io("listen"))?;
        listener.set_nonblocking(true).map_err(Failure::io("listen"))?;
        // The backlog of std is 128: too short for 2,000 streams at once.
        rustix::net::listen(&listener, 4096).map_err(|error| Failure::io("listen")(error.into()))?;
        let stage = Arc::new(Stage { clock, playing: Mutex::new(None) });
        let runtime = crate::runtime()?;
        let served = Arc::clone(&stage);
        let serve = move || runtime.block_on(accept(listener, served));
        std::thread::Builder::new().name("upstream".into()).spawn(serve).map_err(Failure::io("start a thread"))?;
        Ok(Self { address, stage })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests from now on belong to `plan`; they get their head at once, and events when the plan goes.
    pub(crate) fn open(&self, plan: Plan) -> Arc<Playing> {
        let playing = Arc::new(Playing {
            plan,
            clock: self.stage.clock,
            ready: AtomicU64::new(0),
            paced: Mutex::new(Vec::new()),
            phase: watch::Sender::new(Phase::Waiting),
            pacer: Mutex::new(None),
        });
        *self.stage.playing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&playing));
        playing
    }
}

/// A plan that is being played.
#[derive(Debug)]
pub(crate) struct Playing {
    plan: Plan,
    clock: Clock,
    ready: AtomicU64,
    paced: Mutex<Vec<Paced>>,
    phase: watch::Sender<Phase>,
    pacer: Mutex<Option<JoinHandle<Vec<Nanos>>>>,
}

impl Playing {
    /// Streams that were asked for so far.
    pub(crate) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Acquire)
    }

    /// Starts the events; returns when the first is due.
    ///
    /// # Errors
    ///
    /// No thread.
    pub(crate) fn go(&self) -> Result<Nanos, Failure> {
        let now = self.clock.now();
        if let Flow::Paced { interval } = self.plan.flow {
            let streams = std::mem::take(&mut *self.paced.lock().unwrap_or_else(PoisonError::into_inner));
            let start = now + 20_000_000;
            let pacer = Pacer { clock: self.clock, plan: self.plan, interval, start };
            let thread = std::thread::Builder::new().name("pacer".into()).spawn(move || pacer.run(streams));
            *self.pacer.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(thread.map_err(Failure::io("start a thread"))?);
            return Ok(start);
        }
        self.phase.send_replace(Phase::Going);
        Ok(now)
    }

    /// Ends the streams that are still open. For a paced plan: waits for its last event and returns how late each
    /// event was written, against the schedule.
    pub(crate) fn end(&self) -> Vec<Nanos> {
        let pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lateness = pacer.and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.phase.send_replace(Phase::Ending);
        lateness
    }

    async fn reach(&self, phase: Phase) {
        let mut watched = self.phase.subscribe();
        // The sender is this very object, so it cannot be gone.
        let _ = watched.wait_for(|now| *now >= phase).await;
    }

    async fn play(&self, socket: &Arc<TcpStream>, stream: u32) -> io::Result<()> {
        write_all(socket, HEAD).await?;
        match self.plan.flow {
            Flow::Paced { .. } => {
                let paced = Paced::new(Arc::clone(socket), stream);
                self.paced.lock().unwrap_or_else(PoisonError::into_inner).push(paced);
                self.ready.fetch_add(1, Ordering::AcqRel);
                self.reach(Phase::Ending).await;
            }
            Flow::Burst => {
                self.ready.fetch_add(1, Ordering::AcqRel);
                self.reach(Phase::Going).await;
                self.burst(socket, stream).await?;
                write_all(socket, &self.plan.shape.end()).await?;
            }
            Flow::Silent => {
                self.ready.fetch_add(1, Ordering::AcqRel);
                self.reach(Phase::Going).await;
                self.burst(socket, stream).await?;
                self.reach(Phase::Ending).await;
                write_all(socket, &self.plan.shape.end()).await?;
            }
        }
        Ok(())
    }

    async fn burst(&self, socket: &TcpStream, stream: u32) -> io::Result<()> {
        let mut template = Template::new(self.plan.shape);
        let mut buffer = Vec::with_capacity(BURST_WRITE + 512);
        for number in 0..self.plan.events {
            buffer.extend_from_slice(template.stamped(Stamp { stream, number, due: self.clock.now() }));
            if buffer.len() >= BURST_WRITE {
                write_all(socket, &buffer).await?;
                buffer.clear();
                // So that one stream does not go ahead of all others.
                tokio::task::yield_now().await;
            }
        }
        write_all(socket, &buffer).await
    }
}

async fn accept(listener: std::net::TcpListener, stage: Arc<Stage>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        // A failed accept shows as a stream that never starts.
        if let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { converse(&Arc::new(socket), &stage).await });
        }
    }
}

/// One connection: request after request. What goes wrong here shows at the client, which says so.
async fn converse(socket: &Arc<TcpStream>, stage: &Stage) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(stream) = request::read(socket, &mut buffer).await? {
        let playing = stage.playing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(playing) = playing else { return Ok(()) };
        playing.play(socket, stream).await?;
    }
    Ok(())
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
