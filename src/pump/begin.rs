//! How a pump begins: with a request to send, with an answer that is there already, or where another process stopped.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use streamkeeper_session::{Dial, Session};

use super::aim::Aim;
use super::attempt::Attempt;
use super::tally::Tally;
use super::trace::Traced;
use super::{Kept, Pump, heir};
use crate::app::App;
use crate::store::{LiveSession, Mark};
use crate::telemetry::metrics::StreamMeter;
use crate::upstream::{Body, Dialler, Try};

/// Where the first upstream answer comes from.
pub enum Begin {
    /// Nothing was sent yet.
    Dial,
    /// A response that turned out to be an event stream.
    Adopted {
        /// It.
        response: Box<Response<Body>>,
        /// Its request is whole, so that the upstream can be asked to go on if it breaks.
        repeatable: bool,
    },
}

impl Pump {
    /// Starts a task that runs until the session has ended.
    pub fn spawn(app: &Arc<App>, session: &Arc<LiveSession>, dialler: &Arc<Dialler>, request: Kept, mut begin: Begin) {
        let known = request.has_key();
        let mut plan = session.route.plan(known);
        let (seed, now) = (app.entropy.u64(), app.clock.now());
        let machine = match begin {
            Begin::Dial => Session::new(plan, seed, now),
            Begin::Adopted { repeatable, .. } => {
                if !repeatable {
                    Arc::make_mut(&mut plan).after_partial.clear();
                }
                Session::adopted(plan, seed, now)
            }
        };
        let out = match &mut begin {
            Begin::Dial => None,
            Begin::Adopted { response, .. } => response.extensions_mut().remove::<Arc<Try>>(),
        };
        session.timeline.mark(if matches!(begin, Begin::Dial) { Mark::Begun } else { Mark::Adopted });
        let endpoint = out.as_ref().map(|out| out.endpoint());
        let mut pump = Self::new(app, session, Aim::new(app, &session.route, dialler, out), request, machine);
        if let Some(endpoint) = endpoint {
            pump.traced.adopted(&app.entropy, dialler.group().upstream(), endpoint);
        }
        if let Begin::Adopted { response, .. } = begin {
            pump.tally = Tally::adopted();
            pump.attempt = pump.open(*response, Dial::Stream { other_endpoint: false });
        }
        tokio::spawn(pump);
    }

    /// Goes on with a session whose owner is gone, by the client's own request. Without one all that is left is to
    /// say so.
    pub(super) fn take_over(
        app: &Arc<App>,
        session: &Arc<LiveSession>,
        dialler: &Arc<Dialler>,
        request: Option<Kept>,
        delivered: bool,
    ) {
        let mut plan = session.route.plan(true);
        if request.is_none() {
            let plan = Arc::make_mut(&mut plan);
            plan.after_partial.clear();
            plan.retry.after_send = false;
            plan.fallback = None;
        }
        let (written, last_kept) = session.log.peek(|log| (!log.ring.is_empty(), heir::last_kept(&log.ring)));
        let machine = Session::orphaned(plan, app.entropy.u64(), app.clock.now(), written || delivered);
        let aim = Aim::new(app, &session.route, dialler, None);
        let mut pump = Self::new(app, session, aim, request.unwrap_or_default(), machine);
        pump.last_kept = last_kept;
        pump.traced.begins_now();
        session.timeline.mark(Mark::TakenOver);
        tokio::spawn(pump);
    }

    fn new(app: &Arc<App>, session: &Arc<LiveSession>, aim: Aim, request: Kept, machine: Session) -> Self {
        Self {
            traced: Traced::new(app, session, &request),
            app: Arc::clone(app),
            session: Arc::clone(session),
            aim,
            request,
            machine,
            meter: StreamMeter::begin(&session.route.name),
            attempt: Attempt::None,
            reader: None,
            control: session.control.follow(),
            readers: 1,
            last_arrival: None,
            last_kept: None,
            refusal: None,
            tally: Tally::nothing(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            aside: None,
            sealed: false,
        }
    }
}
