//! The body of a streamed answer: tells its events at the asked pace, obeys its run's control, and fails where the
//! script says.
//!
//! ```text
//! Telling ──last event──────────────────▶ Over (clean end)
//!    │ truncate@N, error@N ─────────────▶ Over
//!    └ reset@N, kill ──half an event────▶ Breaking ──▶ Over (the body ends with an error)
//! ```
//!
//! It is a body and not a task, so that a client that leaves takes the generation with it: hyper drops the body, the
//! body drops the run. A body that ends with an error makes hyper close the connection without the final chunk, which
//! is what a reset in mid-answer looks like on the wire.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;

use super::chat;
use super::faults::{Fault, Script};
use super::runs::{Killed, Run};

/// Why a body ended with an error: because that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the demo upstream broke the connection, as it was asked to")]
pub(super) struct Broken;

/// The state of one telling.
struct Telling {
    events: VecDeque<Bytes>,
    /// The number of the next event, from 1.
    number: u32,
    pace: Duration,
    fault: Option<Fault>,
    run: Run,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    Telling,
    Breaking,
    Over,
}

type Step = (Telling, Option<Result<Bytes, Broken>>);

/// A streamed answer as a response body.
pub(super) struct Answer {
    /// The step in progress; `None` after the end.
    step: Option<Pin<Box<dyn Future<Output = Step> + Send>>>,
}

impl Answer {
    /// Tells `events` as `script` says, under the control of `run`. A fault that stands before the head (`500`, …)
    /// has no effect here.
    pub(super) fn new(events: VecDeque<Bytes>, script: Script, run: Run) -> Self {
        let Script { pace, fault, .. } = script;
        let telling = Telling { events, number: 1, pace, fault, run, phase: Phase::Telling };
        Self { step: Some(Box::pin(telling.next())) }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(step) = self.step.as_mut() else {
            return Poll::Ready(None);
        };
        let (telling, told) = ready!(step.as_mut().poll(cx));
        // After the end the state is dropped at once: the run must not stay listed while the connection idles.
        self.step = match &told {
            Some(Ok(_)) => Some(Box::pin(telling.next())),
            Some(Err(Broken)) | None => None,
        };
        Poll::Ready(told.map(|told| told.map(Frame::data)))
    }
}

impl Telling {
    async fn next(mut self) -> Step {
        let told = match self.phase {
            Phase::Telling => self.tell().await.map(Ok),
            Phase::Breaking => {
                // Once pending, so that hyper writes the half event out before it learns of the error.
                tokio::task::yield_now().await;
                self.phase = Phase::Over;
                Some(Err(Broken))
            }
            Phase::Over => None,
        };
        (self, told)
    }

    async fn tell(&mut self) -> Option<Bytes> {
        let event = self.events.pop_front()?;
        let pause = if self.number == 1 { Duration::ZERO } else { self.pace };
        if self.run.ready(pause).await == Err(Killed) {
            return Some(self.break_in(&event));
        }
        let number = self.number;
        self.number += 1;
        match self.fault {
            Some(Fault::Reset(at)) if at == number => Some(self.break_in(&event)),
            Some(Fault::Truncate(at)) if at == number => {
                self.phase = Phase::Over;
                None
            }
            Some(Fault::Error(at)) if at == number => {
                self.phase = Phase::Over;
                Some(chat::error_event())
            }
            Some(Fault::Stall(at)) if at == number => {
                self.run.stall();
                match self.run.ready(Duration::ZERO).await {
                    Ok(()) => Some(event),
                    Err(Killed) => Some(self.break_in(&event)),
                }
            }
            _ => Some(event),
        }
    }

    /// The first half of `event`; what follows is the break.
    fn break_in(&mut self, event: &Bytes) -> Bytes {
        self.phase = Phase::Breaking;
        event.slice(..event.len() / 2)
    }
}
