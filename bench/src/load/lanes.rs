//! Clients that have one short stream after the other: each lane plays its share in turn, on a connection that it keeps
//! if it may, or on a new one for each stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Done, Progress, READ, StreamFault, head};
use crate::check::{Checker, Expected, Tally};
use crate::chunked::Chunked;
use crate::clock::{Clock, Nanos};
use crate::event::Ask;
use crate::upstream::Plan;

/// One lane.
pub(super) struct Lane {
    pub(super) plan: Plan,
    pub(super) address: SocketAddr,
    /// Its number and how many there are.
    pub(super) number: u32,
    pub(super) of: u32,
    /// Whether a connection is used again.
    pub(super) reuse: bool,
    pub(super) ids: bool,
    pub(super) clock: Clock,
    pub(super) progress: Arc<Progress>,
}

impl Lane {
    /// Plays its share. The latencies are the times from the request, or from the connect before it, to the first event.
    pub(super) async fn run(self) -> Result<Done, StreamFault> {
        let (mut tally, mut latencies) = (Tally::default(), Vec::new());
        let mut kept = None;
        let mut buffer = vec![0; READ];
        for stream in (self.number..self.plan.streams).step_by(self.of.max(1) as usize) {
            let start = self.clock.now();
            let reused = kept.is_some();
            let mut socket = self.connection(kept.take()).await?;
            let mut played = self.stream(&mut socket, stream, &mut buffer, start).await;
            // The other side may close a kept connection just when it is used; a client then takes a new one.
            if reused && matches!(played, Err(StreamFault::NoAnswer | StreamFault::Io(_))) {
                socket = self.connection(None).await?;
                played = self.stream(&mut socket, stream, &mut buffer, start).await;
            }
            let Played { sum, first, closes } = played?;
            tally = tally.plus(sum);
            latencies.push(first);
            kept = (self.reuse && !closes).then_some(socket);
        }
        Ok(Done { stream: self.number, tally, latencies, first_id: None })
    }

    async fn connection(&self, kept: Option<TcpStream>) -> Result<TcpStream, StreamFault> {
        if let Some(socket) = kept {
            return Ok(socket);
        }
        self.progress.connections.fetch_add(1, Ordering::Relaxed);
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    async fn stream(
        &self,
        socket: &mut TcpStream,
        stream: u32,
        buffer: &mut [u8],
        start: Nanos,
    ) -> Result<Played, StreamFault> {
        let Plan { shape, events, .. } = self.plan;
        let mut checker = Checker::new(Expected { shape, stream, events, ids: self.ids });
        let mut chunked = Chunked::new();
        socket.write_all(&shape.request(&self.address.to_string(), stream, Ask::Stream)).await?;
        let (head, mut from, mut filled) = head::read(socket, buffer).await?;
        let mut first = None;
        loop {
            let mut bytes = buffer.get(from..filled).unwrap_or_default();
            while let Some(data) = chunked.next(&mut bytes)? {
                checker.feed(data, |_| {
                    first.get_or_insert_with(|| self.clock.now() - start);
                })?;
            }
            if chunked.done() {
                let sum = checker.finish()?;
                self.progress.events.fetch_add(sum.events, Ordering::Relaxed);
                return Ok(Played { sum, first: first.unwrap_or_default(), closes: head.closes });
            }
            (from, filled) = (0, socket.read(buffer).await?);
            if filled == 0 {
                return Err(StreamFault::Closed);
            }
        }
    }
}

struct Played {
    sum: Tally,
    first: Nanos,
    closes: bool,
}
