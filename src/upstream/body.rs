//! The body of an upstream's answer to a session, whoever reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body as _;
use hyper::body::Incoming;

use super::BoxError;
use super::direct::{
    self,
    http1::{Flow, scratch},
};

/// The body of an answer. Dropping it before its end ends the upstream's work.
#[derive(Debug)]
pub enum Body {
    /// Read by hyper.
    Hyper(Incoming),
    /// Read here.
    Direct(direct::Body),
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Self::Hyper(incoming)
    }
}

impl Body {
    /// Waits for bytes, gives what is ready to `sink` (up to about [`scratch::SIZE`] at once), and says how the body goes
    /// on. `sink` must not read another body. `Pending` means that it was not called.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut(&[u8])) -> Poll<Flow<BoxError>> {
        match self {
            Self::Direct(body) => body.poll_data(cx, sink),
            Self::Hyper(body) => scratch::with(|scratch| poll_frames(body, cx, scratch, sink)),
        }
    }
}

/// Collects frames, which are chunks as they came: `sink` gets few large pieces instead of many small ones.
fn poll_frames(
    body: &mut Incoming,
    cx: &mut Context<'_>,
    scratch: &mut [u8],
    sink: &mut dyn FnMut(&[u8]),
) -> Poll<Flow<BoxError>> {
    let (mut filled, mut taken) = (0, 0);
    let flow = loop {
        if taken >= scratch.len() {
            break Some(Flow::More);
        }
        let data = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => break (taken > 0).then_some(Flow::More),
            Poll::Ready(None) => break Some(Flow::Over),
            Poll::Ready(Some(Err(error))) => break Some(Flow::Broken(error.into())),
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(), // trailers are nothing here
        };
        taken += data.len();
        if let Some(room) = scratch.get_mut(filled..filled + data.len()) {
            room.copy_from_slice(&data);
            filled += data.len();
        } else {
            sink(scratch.get(..filled).unwrap_or_default());
            sink(&data);
            filled = 0;
        }
    };
    if filled > 0 {
        sink(scratch.get(..filled).unwrap_or_default());
    }
    flow.map_or(Poll::Pending, Poll::Ready)
}
