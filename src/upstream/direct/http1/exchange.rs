//! A request goes out, the head of its answer comes back. Both at once: an upstream may answer, and even refuse to read
//! on, before it has all of a large request.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::Heads;
use super::{Body, Broken, Request, scratch};

/// There is no answer.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub why: Broken,
    /// No byte of the request left: it can be sent elsewhere without being sent twice.
    pub untouched: bool,
}

/// What of a request is still to be sent.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: Chain<Bytes, Bytes>,
    /// Something was sent.
    touched: bool,
}

/// Sends `request` over `io` and waits for the head of its answer. Dropping the future ends the connection.
///
/// # Errors
/// When there will be no head, or none that can be read.
pub async fn exchange<S>(mut io: S, request: &Request) -> Result<Response<Body<S>>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut unsent = Some(Unsent { bytes: request.head.clone().chain(request.body.clone()), touched: false });
    let (mut touched, mut all_sent) = (false, true);
    let mut heads = Heads::default();
    let head = poll_fn(|cx| {
        if let Some(sending) = &mut unsent {
            let sent = sending.poll_send(&mut io, cx);
            touched = sending.touched;
            match sent {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => unsent = None,
                Poll::Ready(Err(error)) if !touched => return Poll::Ready(Err(Broken::Io(error))),
                // It may have answered before it went away.
                Poll::Ready(Err(_)) => (unsent, all_sent) = (None, false),
            }
        }
        scratch::with(|scratch| {
            loop {
                let count = ready!(poll_read(&mut io, cx, scratch))?;
                let Some(read) = scratch.get(..count).filter(|read| !read.is_empty()) else {
                    return Poll::Ready(Err(Broken::NoHead));
                };
                if let Some(head) = heads.push(read, &request.method)? {
                    return Poll::Ready(Ok(head));
                }
            }
        })
    })
    .await
    .map_err(|why| Failed { why, untouched: !touched })?;
    let body = Body::new(io, head.framing, head.early, unsent, head.keep_alive && all_sent);
    Ok(head.response.map(|()| body))
}

/// Reads once; gives how much came, which is nothing at the end.
pub(in super::super) fn poll_read<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

impl Unsent {
    /// Sends what the connection takes; ready when all is gone.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = self.bytes.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            match ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.bytes.advance(sent),
            }
            self.touched = true;
        }
        Pin::new(io).poll_flush(cx)
    }
}
