//! An event stream to a client's socket, without hyper: the head, then one write per wake with everything that is ready.
//!
//! What is written lies in a buffer of the thread's, not of the stream's: a stream owns bytes only while its client's
//! socket takes no more. It reads nothing ahead of the reader's cursor, so a slow client lags in the session's ring.
//!
//! Not here: what is said and when (`front/events`), and everything before the head (hyper's part).
//! Source: RFC 9112 sections 6.1, 7.1, 9.3, 9.6.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head::{Framing, Terms};
use crate::front::{Events, PIECE, Piece};

/// Room before a chunk's data for its size: eight hexadecimal digits and a line end.
const SIZE_LINE: usize = 10;
/// The end of one chunk, or of the last one and the body.
const CHUNK_END: &[u8] = b"\r\n";
const BODY_END: &[u8] = b"0\r\n\r\n";

thread_local! {
    /// Where pieces are put together, whoever they are for.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(PIECE + PIECE / 8));
}

/// How a stream ended, as far as its connection is concerned: all of it is written.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Another request may follow.
    Whole,
    /// The connection ends with it.
    Ended,
    /// The client is to notice a break.
    Broken,
}

/// What a client may do while it is told a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Take nothing, for so long.
    pub(super) pause: Duration,
    /// Say so many bytes; then it is not listened to until the stream is over.
    pub(super) said: usize,
}

/// A stream being written.
pub(super) struct Stream {
    events: Events,
    terms: Terms,
    bounds: Bounds,
    /// The head, and later what the socket has not taken yet.
    left: Vec<u8>,
    /// How much of `left` it has.
    taken: usize,
    /// Since when it takes nothing: rings when that is too long.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What the client said while it was listening: its next request, for all we know.
    said: Vec<u8>,
    /// The first piece goes out together with the head, if it is there already.
    began: bool,
    last: Option<Piece>,
}

impl Stream {
    /// With `head` first; `said`: what the client has sent beyond its request.
    pub(super) fn new(events: Events, terms: Terms, head: Vec<u8>, said: Vec<u8>, bounds: Bounds) -> Self {
        Self { events, terms, bounds, left: head, taken: 0, stalled: None, said, began: false, last: None }
    }

    /// Ready when all is written. `news` is woken by those of the session, the task of `cx` by all else.
    ///
    /// # Errors
    /// `TimedOut`: the client took nothing for too long. Others: the client is gone.
    pub(super) fn poll<S>(&mut self, cx: &mut Context<'_>, news: &Waker, socket: &mut S) -> Poll<io::Result<Outcome>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if self.began {
                match self.poll_left(cx, socket) {
                    Poll::Pending => {
                        self.poll_stalled(cx)?;
                        break;
                    }
                    Poll::Ready(done) => done?,
                }
            }
            if let Some(last) = self.last {
                return Poll::Ready(Ok(match last {
                    Piece::LastThenBreak => Outcome::Broken,
                    _ if self.terms.keep_alive => Outcome::Whole,
                    _ => Outcome::Ended,
                }));
            }
            let piece = SCRATCH.with_borrow_mut(|scratch| self.poll_piece(cx, news, socket, scratch))?;
            let first = !std::mem::replace(&mut self.began, true);
            if piece.is_pending() && !first {
                break;
            }
        }
        self.poll_client(cx, socket)?;
        Poll::Pending
    }

    /// The same for news alone, in the middle of a stream whose task has been polled: what else it waits for, it still
    /// does.
    pub(super) fn poll_news<S>(
        &mut self,
        cx: &mut Context<'_>,
        news: &Waker,
        socket: &mut S,
    ) -> Poll<io::Result<Outcome>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.began && self.left.is_empty() && self.last.is_none() {
            let piece = SCRATCH.with_borrow_mut(|scratch| self.poll_piece(cx, news, socket, scratch))?;
            let all = matches!(piece, Poll::Pending | Poll::Ready(Piece::All));
            if all && self.left.is_empty() && Pin::new(&mut *socket).poll_flush(cx)?.is_ready() {
                return Poll::Pending;
            }
        }
        self.poll(cx, news, socket)
    }

    /// What the client has sent meanwhile.
    pub(super) fn into_said(self) -> Bytes {
        self.said.into()
    }

    /// Writes what was left over.
    fn poll_left<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.get(self.taken..).filter(|rest| !rest.is_empty()) {
            self.taken += ready!(poll_some(cx, socket, rest))?;
            self.stalled = None;
        }
        if self.taken > 0 {
            (self.left, self.taken) = (Vec::new(), 0);
        }
        ready!(Pin::new(socket).poll_flush(cx))?;
        // TLS keeps what its socket does not take, so that a pause can begin and end without anything being left here.
        self.stalled = None;
        Poll::Ready(Ok(()))
    }

    /// Puts the next piece together and writes it; what the socket does not take is left over.
    fn poll_piece<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        news: &Waker,
        socket: &mut S,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<Piece>> {
        scratch.clear();
        scratch.resize(SIZE_LINE, 0);
        let piece = ready!(self.events.body.poll_write(cx, news, scratch));
        let start = match self.terms.framing {
            Framing::Chunked => frame(scratch, piece),
            Framing::Close => SIZE_LINE,
        };
        let framed = scratch.get(start..).unwrap_or_default();
        self.last = matches!(piece, Piece::Last | Piece::LastThenBreak).then_some(piece);
        let mut written = 0;
        if self.left.is_empty()
            && !framed.is_empty()
            && let Poll::Ready(some) = poll_some(cx, socket, framed)
        {
            written = some?;
        }
        self.left.extend_from_slice(framed.get(written..).unwrap_or_default());
        Poll::Ready(Ok(piece))
    }

    /// Nothing can be written: for how long has it been so?
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.bounds.pause)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Finds out whether the client is still there. What it says meanwhile is kept, within bounds.
    fn poll_client<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> io::Result<()> {
        while self.said.len() < self.bounds.said {
            let mut piece = [MaybeUninit::uninit(); 512];
            let mut piece = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut *socket).poll_read(cx, &mut piece) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(())) => self.said.extend_from_slice(piece.filled()),
            }
        }
        Ok(())
    }
}

/// Writes some of `data`, at least one byte of it.
fn poll_some<S>(cx: &mut Context<'_>, socket: &mut S, data: &[u8]) -> Poll<io::Result<usize>>
where
    S: AsyncWrite + Unpin,
{
    match ready!(Pin::new(socket).poll_write(cx, data))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

/// Makes a chunk of what stands in `buffer` behind the room for its size, and says where it begins.
fn frame(buffer: &mut Vec<u8>, piece: Piece) -> usize {
    let mut size = buffer.len() - SIZE_LINE;
    let mut start = SIZE_LINE;
    if size > 0 {
        buffer.extend_from_slice(CHUNK_END);
        let line = CHUNK_END.iter().rev().copied();
        let digits = std::iter::from_fn(|| {
            let digit = (size > 0).then(|| b"0123456789abcdef".get(size % 16).copied().unwrap_or(b'0'));
            size /= 16;
            digit
        });
        for byte in line.chain(digits) {
            start = start.saturating_sub(1);
            if let Some(place) = buffer.get_mut(start) {
                *place = byte;
            }
        }
    }
    if piece == Piece::Last {
        buffer.extend_from_slice(BODY_END);
    }
    start
}

#[cfg(test)]
mod tests;
