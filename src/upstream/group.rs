//! The endpoints of one upstream as this process knows them: which one gets the next request, which are left alone,
//! how many retries are left.
//!
//! Shared by all routes to the upstream. A choice is made among the endpoints that are available, those of the lowest
//! priority number first, and there for the one with the fewest requests in flight for its weight; at a tie in turn,
//! by weight. Where none is available, one is used all the same unless the caller has somewhere else to go: a breaker
//! steers requests, it never refuses what might have worked. So a single endpoint notices nothing of its breaker.
//!
//! Not here: connections ([`super::Dialler`]), and whether to try again (the session's machine).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use streamkeeper_session::{Breaker, BreakerState, Code, Fault, Kind, Outcome, RetryBudget, Ticket};

use crate::clock::Clock;
use crate::config::Upstream;

/// The longest rest that an endpoint is believed to ask for.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);
/// What a turn of weight 1 costs; so fine that every weight has a cost of its own.
const TURN: u64 = 1 << 20;

/// One upstream's endpoints.
#[derive(Debug)]
pub struct Group {
    upstream: Arc<Upstream>,
    clock: Clock,
    state: Mutex<State>,
    /// Streams and tries that failed since the last that went well.
    failures: AtomicU32,
}

#[derive(Debug)]
struct State {
    members: Vec<Member>,
    budget: RetryBudget,
    /// How far the turns have come: who was away for long does not catch up on what it missed.
    reached: u64,
}

#[derive(Debug)]
struct Member {
    weight: u64,
    priority: u32,
    breaker: Breaker,
    /// What the last active check found; true where there is none.
    alive: bool,
    in_flight: u32,
    /// When its next turn is, in parts of [`TURN`].
    turn: u64,
}

impl Member {
    fn is_available(&self, now: Duration) -> bool {
        self.alive && self.breaker.admits(now)
    }

    /// An endpoint that the active check gave up is as bad as one whose breaker is open.
    fn state(&self, now: Duration) -> BreakerState {
        if self.alive { self.breaker.state(now) } else { BreakerState::Open }
    }

    fn load(&self) -> u64 {
        u64::from(self.in_flight) * TURN / self.weight
    }
}

/// What a request wants of its endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Where this request was tried before, in this order; to be avoided while there are others.
    pub tried: &'a [usize],
    /// Where it should go if that one is available.
    pub stay: Option<usize>,
    /// There is another upstream to go to: rather none than one to be left alone.
    pub or_none: bool,
}

/// A request that is out at an endpoint. It counts as load until it is dropped.
#[derive(Debug)]
pub struct Try {
    group: Arc<Group>,
    endpoint: usize,
    ticket: Mutex<Option<Ticket>>,
}

impl Group {
    /// All endpoints in good health.
    pub(super) fn new(upstream: &Arc<Upstream>, clock: Clock) -> Self {
        let members = upstream.endpoints.iter().map(|endpoint| Member {
            weight: u64::from(endpoint.weight.max(1)),
            priority: endpoint.priority,
            breaker: Breaker::new(upstream.breaker),
            alive: true,
            in_flight: 0,
            turn: 0,
        });
        let budget = RetryBudget::new(upstream.retry_budget.ratio, upstream.retry_budget.floor);
        let state = State { members: members.collect(), budget, reached: 0 };
        Self { upstream: Arc::clone(upstream), clock, state: Mutex::new(state), failures: AtomicU32::new(0) }
    }

    /// Its configuration.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// An endpoint for one request, or none (see [`Wish::or_none`]).
    pub fn choose(self: &Arc<Self>, wish: &Wish<'_>) -> Option<Try> {
        let now = self.clock.now();
        let mut state = self.lock();
        let endpoint = state.choose(now, wish)?;
        let reached = state.reached;
        let member = state.members.get_mut(endpoint)?;
        let turn = member.turn.max(reached);
        member.turn = turn.saturating_add(TURN / member.weight);
        member.in_flight += 1;
        let ticket = member.breaker.begin(now);
        state.reached = turn;
        Some(Try { group: Arc::clone(self), endpoint, ticket: Mutex::new(Some(ticket)) })
    }

    /// Whether any endpoint is available.
    pub fn is_available(&self) -> bool {
        let now = self.clock.now();
        self.lock().members.iter().any(|member| member.is_available(now))
    }

    /// A request is sent for the first time: it earns its share of retries.
    pub fn count_request(&self) {
        self.lock().budget.request(self.clock.now());
    }

    /// Whether one more retry may be sent now; if so it is spent.
    pub fn spend_retry(&self) -> bool {
        self.lock().budget.spend(self.clock.now())
    }

    /// Whether the last requests failed: clients are asked to come back later than usual.
    pub fn is_ill(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 1
    }

    /// Notes how a stream or a try ended.
    pub fn note(&self, well: bool) {
        if well {
            self.failures.store(0, Ordering::Relaxed);
        } else {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The worst state of its endpoints.
    pub fn worst(&self) -> BreakerState {
        let now = self.clock.now();
        let worst = self.lock().members.iter().map(|member| member.state(now)).max();
        worst.unwrap_or(BreakerState::Closed)
    }

    /// For operators. Endpoints are named by their place in the configuration: addresses are nobody's business here.
    pub fn to_json(&self) -> Value {
        let now = self.clock.now();
        let mut state = self.lock();
        let retries_left = state.budget.left(now);
        let endpoints = state.members.iter().enumerate().map(|(index, member)| {
            json!({
                "index": index,
                "state": member.state(now).as_str(),
                "alive": member.alive,
                "available": member.is_available(now),
                "in_flight": member.in_flight,
                "weight": member.weight,
                "priority": member.priority,
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        json!({ "name": self.upstream.name, "endpoints": endpoints, "retries_left": retries_left })
    }

    /// What an active check found.
    pub(super) fn set_alive(&self, endpoint: usize, alive: bool) {
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(endpoint) else { return };
        if std::mem::replace(&mut member.alive, alive) != alive {
            tracing::warn!(upstream = %self.upstream.name, endpoint, alive, "active check");
        }
    }

    fn settle(&self, endpoint: usize, ticket: Ticket, outcome: Outcome) {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(endpoint) else { return };
        let before = member.breaker.open_since();
        member.breaker.settle(now, ticket, outcome);
        let after = member.breaker.open_since();
        if before.is_some() != after.is_some() {
            let breaker = member.breaker.state(now).as_str();
            tracing::warn!(upstream = %self.upstream.name, endpoint, breaker, "circuit breaker");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn choose(&self, now: Duration, wish: &Wish<'_>) -> Option<usize> {
        let is_available = |index: usize| self.members.get(index).is_some_and(|member| member.is_available(now));
        let was_last = |index: usize| wish.tried.last() == Some(&index);
        wish.stay
            .filter(|index| is_available(*index))
            .or_else(|| self.best(|index| is_available(index) && !wish.tried.contains(&index)))
            .or_else(|| self.best(|index| is_available(index) && !was_last(index)))
            .or_else(|| self.best(is_available))
            .or_else(|| {
                // The one that was left alone first has had the most time to recover.
                let rested = |(index, member): &(usize, &Member)| (was_last(*index), member.breaker.open_since());
                let longest = self.members.iter().enumerate().min_by_key(rested);
                longest.map(|(index, _)| index).filter(|_| !wish.or_none)
            })
    }

    fn best(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = self.members.iter().enumerate().filter(|(index, _)| may(*index));
        let best =
            candidates.min_by_key(|(_, member)| (member.priority, member.load(), member.turn.max(self.reached)))?;
        Some(best.0)
    }
}

impl Try {
    /// Which endpoint, by its place in the configuration.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// The endpoint works. What happens later to the same request says nothing more about it.
    pub fn well(&self) {
        self.settle(Outcome::Well);
    }

    /// The request failed; whether that is the endpoint's doing depends on the fault.
    pub fn failed(&self, fault: &Fault) {
        self.settle(outcome(fault, self.group.upstream.breaker.cool_down));
    }

    fn settle(&self, outcome: Outcome) {
        let ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticket) = ticket {
            self.group.settle(self.endpoint, ticket, outcome);
        }
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.settle(Outcome::Unknown);
        if let Some(member) = self.group.lock().members.get_mut(self.endpoint) {
            member.in_flight = member.in_flight.saturating_sub(1);
        }
    }
}

/// What a fault says about the endpoint. `long`: a Retry-After from here on is a rest that others should keep to, too;
/// a shorter one is the business of the request that got it.
fn outcome(fault: &Fault, long: Duration) -> Outcome {
    let rest = fault.retry_after.filter(|wait| *wait >= long).map(|wait| Outcome::Rest(wait.min(LONGEST_REST)));
    match fault.code {
        Code::UpstreamUnreachable
        | Code::ConnectTimeout
        | Code::HeadTimeout
        | Code::FirstEventTimeout
        | Code::IdleTimeout
        | Code::UpstreamReset
        | Code::UpstreamTruncated => Outcome::Failed,
        Code::UpstreamUnavailable => rest.unwrap_or(Outcome::Failed),
        Code::RateLimited => rest.unwrap_or(Outcome::Unknown),
        // It answered, if only to say that the request is wrong.
        Code::UpstreamRejected => Outcome::Well,
        // An error in place of the first event is what a status would have been.
        Code::UpstreamError => match fault.kind {
            Kind::System | Kind::Timeout => rest.unwrap_or(Outcome::Failed),
            Kind::RateLimit => rest.unwrap_or(Outcome::Unknown),
            Kind::Validation | Kind::Business => Outcome::Well,
        },
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
