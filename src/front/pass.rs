//! Everything that is not a stream passes, both ways as it comes. A response that turns out to be an event stream goes
//! on as a session: the app did not have to say so beforehand.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, UPGRADE};
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use streamkeeper_session::{Code, Fault};
use tokio::time::Sleep;
use tower::ServiceExt as _;

use super::classify::{UpstreamCall, Work, broken, too_slow};
use super::serve::{Start, outgoing};
use super::{Answer, AnswerBody, Next, Refused, calls, upgrade};
use crate::app::App;
use crate::dialect;
use crate::pump::Begin;
use crate::telemetry::metrics;
use crate::upstream::headers::strip_hop_by_hop;
use crate::upstream::{BoxError, Dialler, Try, UpstreamBody};

/// Passes a call, or hands on one that is a stream.
pub(super) async fn pass(app: Arc<App>, mut call: Box<UpstreamCall>, next: Next<Start>) -> Result<Answer, Refused> {
    if matches!(call.work, Work::Stream(_)) {
        return next.oneshot(Start { call, begin: Begin::Dial }).await;
    }
    let trouble = Arc::new(OnceLock::new());
    let as_asked = |body: &Bytes| app.upstreams.of(&call.route).map_or_else(|| body.clone(), |to| to.body(body));
    let (body, kept) = match std::mem::replace(&mut call.work, Work::PassRead(Bytes::new())) {
        Work::PassRead(body) | Work::Stream(body) => {
            (Full::new(as_asked(&body)).map_err(never).boxed_unsync(), Some(body))
        }
        Work::Pass(body) => (Paced::new(body, app.settings.limits.body_timeout, &trouble).boxed_unsync(), None),
    };
    // Without its body a request can be sent again only if it had none.
    let was_read = kept.is_some();
    let repeatable = was_read || call.head.method == Method::GET;
    call.work = Work::PassRead(kept.unwrap_or_default());
    let (spoken, route) = (Arc::clone(&call.dialect), Arc::clone(&call.route));
    let refused = |fault: Fault| {
        let fault = trouble.get().cloned().unwrap_or(fault);
        metrics::error(&fault, &route.name);
        Refused::from(fault).spoken_in(&spoken)
    };
    let Some(dialler) = app.upstreams.of(&call.route) else { return Err(refused(Code::Internal.into())) };
    if call.head.headers.contains_key(UPGRADE) && call.route.upgrade {
        return upgrade::upgrade(dialler, &mut call, body).await.map_err(refused);
    }
    let response = match &call.work {
        Work::PassRead(whole) if was_read && spoken.only_generates() => calls::answer(&app, &call, whole).await,
        _ => send(dialler, &call, body).await,
    };
    let response = response.map_err(refused)?;
    if is_stream(&call, &response) {
        call.dialect = dialect::answered(&call.route, Arc::clone(&call.dialect), response.headers());
        let response = Box::new(response.map(Into::into));
        return next.oneshot(Start { call, begin: Begin::Adopted { response, repeatable } }).await;
    }
    Ok(passed(response))
}

fn never(never: std::convert::Infallible) -> BoxError {
    match never {}
}

async fn send(dialler: &Dialler, call: &UpstreamCall, body: UpstreamBody) -> Result<Response<Incoming>, Fault> {
    let mut outgoing = outgoing(call);
    if body.size_hint().exact().is_some() {
        outgoing.headers.remove(CONTENT_LENGTH); // made anew from the body itself
    }
    let sending = dialler.send(outgoing, body);
    match tokio::time::timeout(call.route.timeouts.total, sending).await {
        Err(_) => Err(Code::TotalTimeout.into()),
        Ok(Err(none)) => Err(none.fault),
        Ok(Ok(response)) => Ok(response),
    }
}

fn is_stream(call: &UpstreamCall, response: &Response<Incoming>) -> bool {
    call.head.method != Method::HEAD && crate::pump::is_event_stream(response)
}

/// An upstream's response as it is, but for what is about one hop.
pub(super) fn passed(response: Response<Incoming>) -> Answer {
    let (mut head, body) = response.into_parts();
    if let Some(out) = head.extensions.remove::<Arc<Try>>() {
        out.well();
    }
    head.version = http::Version::HTTP_11;
    head.extensions.clear();
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(&mut head.headers);
    }
    Response::from_parts(head, AnswerBody::passed(body))
}

/// A request body whose sender may not pause for too long.
struct Paced {
    body: Incoming,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// What was wrong with it: all that the upstream's side can tell is that the request broke off.
    trouble: Arc<OnceLock<Fault>>,
}

impl Paced {
    fn new(body: Incoming, pause: Duration, trouble: &Arc<OnceLock<Fault>>) -> Self {
        Self { body, pause, timer: None, trouble: Arc::clone(trouble) }
    }

    fn fail(&self, fault: Fault) -> BoxError {
        self.trouble.get_or_init(|| fault).clone().into()
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.timer = None;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| this.fail(broken(&error)))))
            }
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.pause)));
                timer.as_mut().poll(cx).map(|()| Some(Err(this.fail(too_slow()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
