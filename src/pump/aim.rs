//! Where the requests of one session go: the upstream in use, the endpoint of each try, and whether there may be one.
//!
//! Not here: whether to try again at all (the machine says so) and what is sent.

use std::sync::Arc;

use streamkeeper_session::{Code, Dial, Fault, Session, never_arrived};

use crate::app::App;
use crate::config::Route;
use crate::telemetry::metrics;
use crate::upstream::{Dialler, Try, Wish};

/// See the module.
pub(super) struct Aim {
    /// The upstream in use.
    dialler: Arc<Dialler>,
    /// Those still to be turned to, the next one last.
    further: Vec<Arc<Dialler>>,
    /// Endpoints of the upstream in use that this session was at, in order.
    tried: Vec<usize>,
    /// The request that is out.
    out: Option<Arc<Try>>,
}

impl Aim {
    /// At `dialler` first, which is the route's. `out`: a request that is out already.
    pub(super) fn new(app: &App, route: &Route, dialler: &Arc<Dialler>, out: Option<Arc<Try>>) -> Self {
        let mut further: Vec<_> = app.upstreams.failover_of(route).cloned().collect();
        further.reverse();
        let tried = out.iter().map(|out| out.endpoint()).collect();
        Self { dialler: Arc::clone(dialler), further, tried, out }
    }

    /// The upstream in use.
    pub(super) fn dialler(&self) -> &Arc<Dialler> {
        &self.dialler
    }

    /// The next upstream is in use from here on.
    pub(super) fn elsewhere(&mut self) {
        if let Some(next) = self.further.pop() {
            self.dialler = next;
            self.tried.clear();
        }
    }

    /// The endpoint for `dial`. It is out from here on.
    ///
    /// # Errors
    /// A fault when there may be no such try: all endpoints are left alone while another upstream is to be had, or the
    /// retry budget is spent.
    pub(super) fn take(&mut self, dial: Dial, machine: &Session) -> Result<usize, Fault> {
        let group = self.dialler.group();
        let mending = machine.has_delivered();
        let wish = Wish {
            tried: &self.tried,
            // What an upstream can resume, the endpoint that began it can most likely; it is asked once.
            stay: self.tried.last().copied().filter(|last| dial == Dial::Resume && self.visits(*last) == 1),
            or_none: !mending && self.further.iter().any(|dialler| dialler.group().is_available()),
        };
        let Some(out) = group.choose(&wish) else {
            return Err(Fault::new(Code::UpstreamUnreachable).cause("all endpoints are left alone for now"));
        };
        let endpoint = out.endpoint();
        match charge(dial, machine, self.tried.contains(&endpoint)) {
            Charge::Request => group.count_request(),
            Charge::Retry if !group.spend_retry() => {
                metrics::refused("retry_budget");
                return Err(Fault::new(Code::UpstreamUnreachable).cause("the retry budget is spent"));
            }
            Charge::Retry | Charge::Nothing => {}
        }
        self.tried.push(endpoint);
        self.out = Some(Arc::new(out));
        Ok(endpoint)
    }

    fn visits(&self, endpoint: usize) -> usize {
        self.tried.iter().filter(|tried| **tried == endpoint).count()
    }

    /// The endpoint gave what was asked for.
    pub(super) fn well(&self) {
        if let Some(out) = &self.out {
            out.well();
        }
    }

    /// The request that is out failed.
    pub(super) fn failed(&self, fault: &Fault) {
        if let Some(out) = &self.out {
            out.failed(fault);
        }
    }

    /// The request that was out is over.
    pub(super) fn over(&mut self) {
        self.out = None;
    }
}

/// What a try costs its upstream's retry budget.
enum Charge {
    /// It earns a share.
    Request,
    /// It spends one.
    Retry,
    Nothing,
}

fn charge(dial: Dial, machine: &Session, again: bool) -> Charge {
    // What mends a broken stream replaces load that just went away, and its own limit is in the machine.
    if machine.has_delivered() {
        return Charge::Nothing;
    }
    let broken_by = machine.broken_by();
    match dial {
        Dial::Stream { .. } if machine.tries() <= 1 => Charge::Request,
        // The first try was no work for anybody, so this one is the first that is.
        Dial::Stream { .. } if !again && broken_by.is_some_and(never_arrived) => Charge::Nothing,
        // At most one in a session, and its last chance: a stream that cannot be had is no reason to withhold it.
        Dial::Fallback => Charge::Nothing,
        _ => Charge::Retry,
    }
}
