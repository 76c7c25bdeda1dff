//! An event stream to a client's socket, without hyper: the head, then one write per wake with everything that is ready.
//!
//! What is written lies in a buffer of the thread's, not of the stream's: a stream owns bytes only while its client's
//! socket takes no more. It reads nothing ahead of the reader's cursor, so a slow client lags in the session's ring.
//!
//! Not here: what is said and when (`front/events`), and everything before the head (hyper's part).
//! Source: RFC 9112 sections 6.1, 7.1, 9.3, 9.6.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::head::Framing;
use super::transport::Transport;
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

/// How a stream ended, as far as its connection is concerned.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All is written, and the client knows it from the framing. What it has sent meanwhile.
    Whole(Bytes),
    /// All is written; the client will know it from the end of the connection.
    Ended,
    /// All is written, and the client is to notice a break.
    Broken,
}

/// A stream being written.
pub(super) struct Stream {
    events: Events,
    framing: Framing,
    /// Goes out with the first piece if there is one already.
    head: Vec<u8>,
    /// What the socket has not taken yet, and how much of it it has.
    left: Vec<u8>,
    taken: usize,
    /// Since when it takes nothing: rings when that is too long.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What the client said while it was listening: its next request, for all we know.
    said: BytesMut,
    /// The client may say so much; then it is not listened to until the stream is over.
    said_most: usize,
    last: Option<Piece>,
}

impl Stream {
    /// With `head` first; `said`: what the client has sent beyond its request.
    pub(super) fn new(events: Events, framing: Framing, head: Vec<u8>, said: BytesMut, said_most: usize) -> Self {
        Self { events, framing, head, left: Vec::new(), taken: 0, stalled: None, said, said_most, last: None }
    }

    /// Writes it all.
    ///
    /// # Errors
    /// `TimedOut`: the client took nothing for `limit`. Others: the client is gone.
    pub(super) async fn write(mut self, socket: &mut Transport, limit: Duration) -> io::Result<Outcome> {
        poll_fn(|cx| self.poll(cx, socket, limit)).await?;
        Ok(match (self.last, self.framing) {
            (Some(Piece::LastThenBreak), _) => Outcome::Broken,
            (_, Framing::Chunked) => Outcome::Whole(self.said.freeze()),
            (_, Framing::Close) => Outcome::Ended,
        })
    }

    /// Ready when all is written.
    fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Transport, limit: Duration) -> Poll<io::Result<()>> {
        loop {
            match self.poll_left(cx, socket) {
                Poll::Pending => {
                    self.poll_stalled(cx, limit)?;
                    break;
                }
                Poll::Ready(done) => done?,
            }
            if self.last.is_some() {
                return Poll::Ready(Ok(()));
            }
            let piece = SCRATCH.with_borrow_mut(|scratch| self.poll_piece(cx, socket, scratch))?;
            if piece.is_pending() && self.left.is_empty() {
                break;
            }
        }
        self.poll_client(cx, socket)?;
        Poll::Pending
    }

    /// Writes what was left over.
    fn poll_left(&mut self, cx: &mut Context<'_>, socket: &mut Transport) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.get(self.taken..).filter(|rest| !rest.is_empty()) {
            self.taken += ready!(poll_some(cx, socket, rest))?;
            self.stalled = None;
        }
        if self.taken > 0 {
            (self.left, self.taken) = (Vec::new(), 0);
        }
        Pin::new(socket).poll_flush(cx)
    }

    /// Puts the next piece together and writes it; what the socket does not take is left over.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Transport,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        scratch.clear();
        scratch.resize(SIZE_LINE, 0);
        let piece = self.events.body.poll_write(cx, scratch);
        let start = match (piece, self.framing) {
            (Poll::Ready(piece), Framing::Chunked) => frame(scratch, piece),
            _ => SIZE_LINE,
        };
        let framed = scratch.get(start..).unwrap_or_default();
        if !self.head.is_empty() {
            self.left = std::mem::take(&mut self.head);
            self.left.extend_from_slice(framed);
        }
        let piece = ready!(piece);
        self.last = (piece != Piece::Some).then_some(piece);
        if self.left.is_empty() && !framed.is_empty() {
            let written = match poll_some(cx, socket, framed) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.left.extend_from_slice(framed.get(written..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing can be written: for how long has it been so?
    fn poll_stalled(&mut self, cx: &mut Context<'_>, limit: Duration) -> io::Result<()> {
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Finds out whether the client is still there. What it says meanwhile is kept, within bounds.
    fn poll_client(&mut self, cx: &mut Context<'_>, socket: &mut Transport) -> io::Result<()> {
        while self.said.len() < self.said_most {
            let mut piece = [0; 512];
            let mut piece = ReadBuf::new(&mut piece);
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
fn poll_some(cx: &mut Context<'_>, socket: &mut Transport, data: &[u8]) -> Poll<io::Result<usize>> {
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
mod tests {
    use super::*;

    fn framed(data: &[u8], piece: Piece) -> Vec<u8> {
        let mut buffer = vec![0; SIZE_LINE];
        buffer.extend_from_slice(data);
        let start = frame(&mut buffer, piece);
        buffer.split_off(start)
    }

    #[test]
    fn a_piece_is_one_chunk() {
        assert_eq!(framed(b"data: 1\n\n", Piece::Some), b"9\r\ndata: 1\n\n\r\n");
        let long = vec![b'x'; 0xabcd];
        let whole = framed(&long, Piece::Some);
        assert!(whole.starts_with(b"abcd\r\nxxx") && whole.ends_with(b"xxx\r\n"), "{}", whole.len());
        assert_eq!(whole.len(), 4 + 2 + long.len() + 2);
    }

    #[test]
    fn the_last_piece_ends_the_body_in_the_same_write() {
        assert_eq!(framed(b":\n", Piece::Last), b"2\r\n:\n\r\n0\r\n\r\n");
        assert_eq!(framed(b"", Piece::Last), b"0\r\n\r\n");
    }

    #[test]
    fn a_body_that_is_broken_off_has_no_end() {
        assert_eq!(framed(b":\n", Piece::LastThenBreak), b"2\r\n:\n\r\n");
        assert_eq!(framed(b"", Piece::LastThenBreak), b"");
    }
}
