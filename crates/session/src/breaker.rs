//! A circuit breaker for one endpoint: after enough failures it is left alone for a while, then tried with one request.
//!
//! ```text
//!            enough failures, or it asked for a rest
//!   Closed ─────────────────────────────────────────▶ Open ── cool-down over ──▶ HalfOpen: one probe
//!     ▲                                                ▲                            │        │
//!     │                                                └────────── probe failed ────┘        │
//!     └───────────────────────────── a try went well ────────────────────────────────────────┘
//! ```
//!
//! Pure: `now` comes in, tickets go out. A breaker advises; who asks may send a request all the same where nothing else
//! can be had, so that a breaker never refuses what would have worked. What comes of a try that began under an earlier
//! state is old news and changes nothing. Not here: which failures are the endpoint's (the dialler says so).
//! Source: M. Nygard, "Release It!", the pattern "Circuit Breaker"; outlier ejection as in Envoy for the rest that an
//! endpoint asks for itself.

use core::time::Duration;

use crate::window::{Counts, Window};

/// Tries in the window below which their share of failures says nothing.
const ENOUGH: u32 = 10;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPlan {
    /// So many failures in a row open it. Half of at least ten tries within `window` do, too.
    pub failures: u32,
    /// Over which time tries are counted.
    pub window: Duration,
    /// Open → half-open.
    pub cool_down: Duration,
}

/// How a breaker stands. Ordered: the later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// All is well.
    Closed,
    /// One request may try.
    HalfOpen,
    /// To be left alone.
    Open,
}

impl BreakerState {
    /// `closed`, `half_open`, `open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How a try went, as far as it says something about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Well,
    /// It does not.
    Failed,
    /// It asks to be left alone for so long.
    Rest(Duration),
    /// Nobody can tell: the caller left, say.
    Unknown,
}

/// A try that is out. Each is handed back once, to the breaker that it came from.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that is never settled keeps the others away"]
pub struct Ticket {
    generation: u64,
    probe: bool,
}

/// The state machine. See the module's drawing.
#[derive(Debug, Clone)]
pub struct Breaker {
    plan: BreakerPlan,
    /// Counts the changes of `phase`: a ticket of another generation is old news.
    generation: u64,
    phase: Phase,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed {
        /// Failures since the last try that went well.
        in_a_row: u32,
        /// All: tries. Marked: failures.
        tries: Window,
    },
    /// Half-open from `until` on.
    Open { since: Duration, until: Duration, probing: bool },
}

impl Breaker {
    /// A closed one.
    pub fn new(plan: BreakerPlan) -> Self {
        Self { plan, generation: 0, phase: closed(plan) }
    }

    /// How it stands.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until, .. } if now < until => BreakerState::Open,
            Phase::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a try is welcome: it is closed, or half-open without a probe under way.
    pub fn admits(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Closed { .. } => true,
            Phase::Open { until, probing, .. } => now >= until && !probing,
        }
    }

    /// Since when it has not been closed.
    pub fn open_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { since, .. } => Some(since),
        }
    }

    /// A try goes out now, welcome or not. In a half-open breaker the first one is the probe.
    pub fn begin(&mut self, now: Duration) -> Ticket {
        let welcome = self.admits(now);
        let probe = match &mut self.phase {
            Phase::Open { probing, .. } if welcome => {
                *probing = true;
                true
            }
            _ => false,
        };
        Ticket { generation: self.generation, probe }
    }

    /// A try is over, or told enough about the endpoint.
    pub fn settle(&mut self, now: Duration, ticket: Ticket, outcome: Outcome) {
        if ticket.generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed { in_a_row, tries } => {
                let failed = match outcome {
                    Outcome::Unknown => return,
                    Outcome::Rest(rest) => return self.open(now, rest),
                    Outcome::Well => false,
                    Outcome::Failed => true,
                };
                *in_a_row = if failed { *in_a_row + 1 } else { 0 };
                tries.add(now, Counts { all: 1, marked: u32::from(failed) });
                let Counts { all, marked } = tries.sum(now);
                let often = all >= ENOUGH && marked >= all - marked;
                if failed && (*in_a_row >= self.plan.failures || often) {
                    self.open(now, self.plan.cool_down);
                }
            }
            Phase::Open { probing, .. } => match outcome {
                Outcome::Well => {
                    self.generation += 1;
                    self.phase = closed(self.plan);
                }
                Outcome::Rest(rest) => self.open(now, rest),
                Outcome::Failed if ticket.probe => self.open(now, self.plan.cool_down),
                // One that nobody asked for failed as was to be expected.
                Outcome::Failed => {}
                Outcome::Unknown => *probing &= !ticket.probe,
            },
        }
    }

    fn open(&mut self, now: Duration, rest: Duration) {
        self.generation += 1;
        self.phase = Phase::Open { since: now, until: now.saturating_add(rest), probing: false };
    }
}

fn closed(plan: BreakerPlan) -> Phase {
    Phase::Closed { in_a_row: 0, tries: Window::new(plan.window) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const PLAN: BreakerPlan =
        BreakerPlan { failures: 5, window: Duration::from_secs(30), cool_down: Duration::from_secs(10) };

    /// A breaker that settled these tries at the time zero.
    fn after(outcomes: impl IntoIterator<Item = Outcome>) -> Breaker {
        let mut breaker = Breaker::new(PLAN);
        for outcome in outcomes {
            let ticket = breaker.begin(MS(0));
            breaker.settle(MS(0), ticket, outcome);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_starts_anew() {
        assert_eq!(after([Outcome::Failed; 4]).state(MS(0)), BreakerState::Closed);
        assert_eq!(after([Outcome::Failed; 5]).state(MS(0)), BreakerState::Open);
        let four = [Outcome::Failed; 4];
        let interrupted = after(four.into_iter().chain([Outcome::Well]).chain(four));
        assert_eq!(interrupted.state(MS(0)), BreakerState::Closed);
    }

    #[test]
    fn half_of_ten_tries_open_it() {
        let one_in_two = || [Outcome::Well, Outcome::Failed].into_iter().cycle();
        assert_eq!(after(one_in_two().take(9)).state(MS(0)), BreakerState::Closed);
        assert_eq!(after(one_in_two().take(10)).state(MS(0)), BreakerState::Open);
        let one_in_three = [Outcome::Well, Outcome::Well, Outcome::Failed].into_iter().cycle();
        assert_eq!(after(one_in_three.take(300)).state(MS(0)), BreakerState::Closed);
    }

    #[test]
    fn what_nobody_can_judge_changes_nothing() {
        assert_eq!(after([Outcome::Unknown; 100]).state(MS(0)), BreakerState::Closed);
    }

    #[test]
    fn after_the_cool_down_one_probe_decides() {
        let mut breaker = after([Outcome::Failed; 5]);
        assert!(!breaker.admits(MS(9_999)));
        assert_eq!(breaker.state(MS(10_000)), BreakerState::HalfOpen);
        let probe = breaker.begin(MS(10_000));
        assert!(!breaker.admits(MS(10_001)), "one at a time");
        breaker.settle(MS(10_001), probe, Outcome::Failed);
        assert_eq!(breaker.state(MS(20_000)), BreakerState::Open);
        let probe = breaker.begin(MS(20_001));
        breaker.settle(MS(20_002), probe, Outcome::Unknown);
        assert!(breaker.admits(MS(20_002)), "an abandoned probe makes room for another");
        let probe = breaker.begin(MS(20_003));
        breaker.settle(MS(20_004), probe, Outcome::Well);
        assert_eq!(breaker.state(MS(20_004)), BreakerState::Closed);
    }

    #[test]
    fn a_rest_is_kept_for_as_long_as_it_was_asked_for() {
        let breaker = after([Outcome::Rest(MS(60_000))]);
        assert_eq!(breaker.state(MS(59_999)), BreakerState::Open);
        assert_eq!(breaker.state(MS(60_000)), BreakerState::HalfOpen);
    }

    #[test]
    fn old_news_change_nothing() {
        let mut breaker = Breaker::new(PLAN);
        let before = [breaker.begin(MS(0)), breaker.begin(MS(0))];
        for _ in 0..5 {
            let ticket = breaker.begin(MS(0));
            breaker.settle(MS(0), ticket, Outcome::Failed);
        }
        let [well, failed] = before;
        breaker.settle(MS(1), well, Outcome::Well);
        assert_eq!(breaker.state(MS(1)), BreakerState::Open);
        let last_resort = breaker.begin(MS(2));
        breaker.settle(MS(3), last_resort, Outcome::Well);
        assert_eq!(breaker.state(MS(3)), BreakerState::Closed, "a try that was not welcome and went well is news");
        breaker.settle(MS(4), failed, Outcome::Failed);
        assert_eq!(breaker.state(MS(4)), BreakerState::Closed);
    }

    /// What happens in a random story.
    #[derive(Debug, Clone)]
    enum Op {
        Wait(u64),
        Begin,
        /// Of the tries that are out, the one at this place (wrapping).
        Settle(usize, Outcome),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let outcome = prop_oneof![
            3 => Just(Outcome::Well),
            6 => Just(Outcome::Failed),
            1 => (0_u64..30_000).prop_map(|rest| Outcome::Rest(MS(rest))),
            1 => Just(Outcome::Unknown),
        ];
        let op = prop_oneof![
            2 => (0_u64..6_000).prop_map(Op::Wait),
            4 => Just(Op::Begin),
            4 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Op::Settle(which, outcome)),
        ];
        prop::collection::vec(op, 0..120)
    }

    proptest! {
        #[test]
        fn no_story_makes_it_break_a_promise(ops in ops()) {
            let mut breaker = Breaker::new(PLAN);
            let (mut now, mut out) = (MS(0), Vec::<Ticket>::new());
            let (mut failed, mut longest) = (0_u32, PLAN.cool_down);
            for op in ops {
                let (was, welcome) = (breaker.state(now), breaker.admits(now));
                match op {
                    Op::Wait(wait) => now += MS(wait),
                    Op::Begin => {
                        let ticket = breaker.begin(now);
                        prop_assert_eq!(ticket.probe, welcome && was == BreakerState::HalfOpen);
                        out.push(ticket);
                    }
                    Op::Settle(which, outcome) if !out.is_empty() => {
                        let ticket = out.swap_remove(which % out.len());
                        failed += u32::from(outcome == Outcome::Failed);
                        if let Outcome::Rest(rest) = outcome {
                            longest = longest.max(rest);
                        }
                        breaker.settle(now, ticket, outcome);
                        let is = breaker.state(now);
                        if was == BreakerState::Closed && is != BreakerState::Closed {
                            let reason = failed >= 5 || matches!(outcome, Outcome::Rest(_));
                            prop_assert!(reason && outcome != Outcome::Well && outcome != Outcome::Unknown);
                            failed = 0;
                        }
                        if was != BreakerState::Closed && is == BreakerState::Closed {
                            prop_assert_eq!(outcome, Outcome::Well, "only a success closes it");
                            failed = 0;
                        }
                    }
                    Op::Settle(..) => {}
                }
                let probes = out.iter().filter(|ticket| ticket.probe && ticket.generation == breaker.generation);
                prop_assert!(probes.count() <= 1, "one probe at a time");
                prop_assert_eq!(breaker.open_since().is_none(), breaker.state(now) == BreakerState::Closed);
                prop_assert!(breaker.state(now) != BreakerState::Open || !breaker.admits(now));
            }
            // However it went: once nothing is out and the longest rest has passed, a try is welcome again.
            for ticket in out {
                breaker.settle(now, ticket, Outcome::Unknown);
            }
            prop_assert!(breaker.admits(now + longest));
        }

        #[test]
        fn successes_alone_never_open_it(waits in prop::collection::vec(0_u64..10_000, 0..100)) {
            let (mut breaker, mut now) = (Breaker::new(PLAN), MS(0));
            for wait in waits {
                now += MS(wait);
                let ticket = breaker.begin(now);
                breaker.settle(now, ticket, Outcome::Well);
                prop_assert_eq!(breaker.state(now), BreakerState::Closed);
            }
        }
    }
}
