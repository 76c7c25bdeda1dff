//! What a response's body can be here, together with what must live as long as it does.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::admit::InFlight;
use super::events::EventBody;
use super::stall::Written;
use crate::upstream::BoxError;

/// The body of every response of the data port.
#[derive(Debug)]
pub struct AnswerBody {
    kind: Kind,
    /// Given back when the body is done or dropped.
    in_flight: Option<InFlight>,
    written: Option<Written>,
}

#[derive(Debug)]
enum Kind {
    Whole(Full<Bytes>),
    Passed(Incoming),
    Events(Box<EventBody>),
}

/// A stream on its way to a socket.
#[derive(Debug)]
pub(crate) struct Events {
    /// It.
    pub(crate) body: Box<EventBody>,
    /// Given back when the last of it is written.
    _in_flight: Option<InFlight>,
}

#[cfg(test)]
impl Events {
    /// All that `session` says, for a client that comes now.
    pub(crate) fn of(session: &std::sync::Arc<crate::store::LiveSession>) -> Self {
        Self { body: Box::new(EventBody::from_the_start(session)), _in_flight: None }
    }
}

impl AnswerBody {
    /// A body that is there already.
    pub fn whole(body: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(Full::new(body.into())), in_flight: None, written: None }
    }

    /// An upstream's body as it comes.
    pub fn passed(body: Incoming) -> Self {
        Self { kind: Kind::Passed(body), in_flight: None, written: None }
    }

    /// A stream.
    pub(crate) fn events(body: EventBody) -> Self {
        Self { kind: Kind::Events(Box::new(body)), in_flight: None, written: None }
    }

    /// Keeps `permit` until the body is done.
    #[must_use]
    pub(super) fn holding(mut self, permit: InFlight) -> Self {
        self.in_flight = Some(permit);
        self
    }

    /// The stream that it is, for somebody who writes it to a socket; else itself.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn into_events(self) -> Result<Events, Self> {
        match self.kind {
            Kind::Events(body) => Ok(Events { body, _in_flight: self.in_flight }),
            kind => Err(Self { kind, ..self }),
        }
    }

    /// Notes when it gives something.
    #[must_use]
    pub(super) fn noting(mut self, written: Option<Written>) -> Self {
        self.written = written;
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.kind {
            Kind::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Passed(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Events(body) => Pin::new(body.as_mut()).poll_frame(cx),
        };
        if let Some(written) = &self.written {
            written.asked(matches!(frame, Poll::Ready(Some(Ok(_)))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(body) => body.is_end_stream(),
            Kind::Passed(body) => body.is_end_stream(),
            Kind::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(body) => body.size_hint(),
            Kind::Passed(body) => body.size_hint(),
            Kind::Events(body) => body.size_hint(),
        }
    }
}
