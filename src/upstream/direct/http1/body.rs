//! The body of an answer, as it comes. While it is silent it holds its connection and where in the framing it stands.

use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::{Unsent, poll_read};
use super::framing::{End, Framing};
use super::{Broken, scratch};

/// How a body goes on after what was given.
#[derive(Debug)]
pub enum Flow<E = Broken> {
    /// There may be more.
    More,
    /// It is whole.
    Over,
    /// The rest will not come.
    Broken(E),
}

/// The body of an answer. Dropping it before its end ends the connection.
#[derive(Debug)]
pub struct Body<S> {
    /// Gone once no more can be read.
    io: Option<S>,
    framing: Framing,
    /// What came together with the head.
    early: Box<[u8]>,
    /// The rest of a request that was answered before it was all there.
    unsent: Option<Box<Unsent>>,
    reusable: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Body<S> {
    pub(super) fn new(io: S, framing: Framing, early: Box<[u8]>, unsent: Option<Unsent>, keep_alive: bool) -> Self {
        // What follows a whole answer is nobody's.
        let reusable = keep_alive && (early.is_empty() || !framing.is_over());
        Self { io: Some(io), framing, early, unsent: unsent.map(Box::new), reusable }
    }

    /// Waits for bytes, gives them to `sink`, and says how the body goes on. `sink` is called at most once, with what one
    /// read brought, its framing removed; it must not read another body. `Pending` means that it was not called.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(&[u8])) -> Poll<Flow> {
        if self.framing.is_over() {
            return Poll::Ready(Flow::Over);
        }
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            if let Some(flow) = self.take(&mut early, sink) {
                return Poll::Ready(flow);
            }
        }
        self.send_on(cx);
        scratch::with(|scratch| {
            loop {
                let Some(io) = &mut self.io else { return Poll::Ready(Flow::Broken(Broken::Cut)) };
                let flow = match ready!(poll_read(io, cx, scratch)) {
                    Ok(0) => Some(self.closed()),
                    Ok(read) => self.take(scratch.get_mut(..read).unwrap_or_default(), sink),
                    Err(error) => Some(self.broken(error.into())),
                };
                if let Some(flow) = flow {
                    return Poll::Ready(flow);
                }
            }
        })
    }

    /// The connection, if the body is whole and another request may follow.
    pub fn into_idle(&mut self) -> Option<S> {
        self.io.take_if(|_| self.framing.is_over() && self.reusable && self.unsent.is_none())
    }

    /// Gives on what `bytes` hold of the body; `None`: nothing but framing.
    fn take(&mut self, bytes: &mut [u8], sink: &mut dyn FnMut(&[u8])) -> Option<Flow> {
        let part = self.framing.unframe(bytes);
        let data = bytes.get(part.data).filter(|data| !data.is_empty());
        if let Some(data) = data {
            sink(data);
        }
        match part.end {
            End::Open => data.map(|_| Flow::More),
            End::Over { used } => {
                self.reusable &= used == bytes.len();
                Some(Flow::Over)
            }
            End::Broken(why) => Some(self.broken(why)),
        }
    }

    #[cfg(test)]
    pub(super) fn io(&mut self) -> &mut S {
        self.io.as_mut().expect("a connection that can be read")
    }

    fn closed(&mut self) -> Flow {
        if matches!(self.framing, Framing::UntilClose) {
            self.framing = Framing::Length(0);
            self.io = None;
            return Flow::Over;
        }
        self.broken(Broken::Cut)
    }

    fn broken(&mut self, why: Broken) -> Flow {
        self.io = None;
        Flow::Broken(why)
    }

    fn send_on(&mut self, cx: &mut Context<'_>) {
        if let (Some(unsent), Some(io)) = (&mut self.unsent, &mut self.io)
            && let Poll::Ready(sent) = unsent.poll_send(io, cx)
        {
            self.unsent = None;
            self.reusable &= sent.is_ok();
        }
    }
}
