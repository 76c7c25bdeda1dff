//! The grammar of `?fault=…` and `x-demo-fault: …`: which failure a caller asks for, and at which pace the answer
//! comes.
//!
//! ```text
//! script = item *( "," item )               at most one fault and one pace
//! item   = "pace=" MS                       milliseconds between two events, 0 to 10000
//!        / [ "once:" ] fault                once: only the first try fails, later ones are well
//! fault  = "reset@" N                       half of event N, then the connection ends without its last chunk
//!        / "truncate@" N                    a clean end of the body before event N, so without [DONE]
//!        / "stall@" N                       silence instead of event N, until resumed or killed
//!        / "error@" N                       an error chunk in the vendor's form instead of event N, then the end
//!        / "500" / "429" / "hang"           instead of a response head
//! N      = 1*6DIGIT                         from 1; event N is the first that does not arrive whole
//! ```
//!
//! The faults with `@N` touch streams only: the same request without streaming is answered, so that a proxy's
//! fallback has something to find. `500`, `429` and `hang` touch both forms. An N beyond the end never happens.

use std::collections::{HashSet, VecDeque};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between two events when the caller does not say.
const DEFAULT_PACE: Duration = Duration::from_millis(40);
/// The slowest pace that may be asked for, in milliseconds.
const MAX_PACE_MS: u32 = 10_000;
/// How many first tries are remembered; the oldest are forgotten first.
const REMEMBERED_TRIES: usize = 1024;

/// A failure that can be asked for. The number is that of the event concerned, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Half of the event, then the connection is gone.
    Reset(u32),
    /// A clean end before the event.
    Truncate(u32),
    /// Silence instead of the event.
    Stall(u32),
    /// An error chunk instead of the event.
    Error(u32),
    /// 500 instead of an answer.
    ServerError,
    /// 429 with `retry-after: 1` instead of an answer.
    RateLimited,
    /// No response head, ever.
    Hang,
}

/// What a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    /// Time between two events.
    pub(super) pace: Duration,
    /// The failure, if any.
    pub(super) fault: Option<Fault>,
    /// Whether only the first try is to fail.
    pub(super) once: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self { pace: DEFAULT_PACE, fault: None, once: false }
    }
}

/// A script that cannot be read. The rejected item is not repeated: the caller knows what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadScript {
    /// No such item.
    #[error("unknown fault: use reset@N, truncate@N, stall@N, error@N, 500, 429, hang, once:<fault> or pace=MS")]
    Unknown,
    /// Not a number, or out of range.
    #[error("N is 1 to 999999 and pace is 0 to 10000 (milliseconds), digits only")]
    Number,
    /// Two faults or two paces.
    #[error("at most one fault and one pace")]
    Twice,
}

impl FromStr for Script {
    type Err = BadScript;

    fn from_str(script: &str) -> Result<Self, BadScript> {
        let (mut pace, mut fault) = (None, None);
        for item in script.split(',').map(str::trim) {
            let taken = if let Some(ms) = item.strip_prefix("pace=") {
                let ms = digits(ms).filter(|ms| *ms <= MAX_PACE_MS).ok_or(BadScript::Number)?;
                pace.replace(Duration::from_millis(u64::from(ms))).is_some()
            } else {
                let (once, name) = item.strip_prefix("once:").map_or((false, item), |name| (true, name));
                fault.replace((parse_fault(name)?, once)).is_some()
            };
            if taken {
                return Err(BadScript::Twice);
            }
        }
        Ok(Self {
            pace: pace.unwrap_or(DEFAULT_PACE),
            fault: fault.map(|(fault, _)| fault),
            once: fault.is_some_and(|(_, once)| once),
        })
    }
}

fn parse_fault(name: &str) -> Result<Fault, BadScript> {
    let Some((kind, number)) = name.split_once('@') else {
        return match name {
            "500" => Ok(Fault::ServerError),
            "429" => Ok(Fault::RateLimited),
            "hang" => Ok(Fault::Hang),
            _ => Err(BadScript::Unknown),
        };
    };
    let with: fn(u32) -> Fault = match kind {
        "reset" => Fault::Reset,
        "truncate" => Fault::Truncate,
        "stall" => Fault::Stall,
        "error" => Fault::Error,
        _ => return Err(BadScript::Unknown),
    };
    digits(number).filter(|n| *n >= 1).map(with).ok_or(BadScript::Number)
}

/// Digits only, at most six of them: `parse::<u32>` alone would take a sign.
fn digits(text: &str) -> Option<u32> {
    let plain = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Remembers which tries were the first of their kind, for `once:`. Bounded.
#[derive(Debug, Default)]
pub(super) struct FirstTries {
    seen: Mutex<(HashSet<u64>, VecDeque<u64>)>,
}

impl FirstTries {
    /// Whether `key` is seen for the first time (or again after having been forgotten).
    pub(super) fn is_first(&self, key: u64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, order) = &mut *seen;
        if !set.insert(key) {
            return false;
        }
        order.push_back(key);
        if order.len() > REMEMBERED_TRIES
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(script: &str) -> (Option<Fault>, bool) {
        let script: Script = script.parse().unwrap_or_else(|e| panic!("{script}: {e}"));
        (script.fault, script.once)
    }

    #[test]
    fn every_fault_of_the_grammar_is_read() {
        assert_eq!(fault("reset@3"), (Some(Fault::Reset(3)), false));
        assert_eq!(fault("truncate@1"), (Some(Fault::Truncate(1)), false));
        assert_eq!(fault("stall@999999"), (Some(Fault::Stall(999_999)), false));
        assert_eq!(fault("error@10"), (Some(Fault::Error(10)), false));
        assert_eq!(fault("500"), (Some(Fault::ServerError), false));
        assert_eq!(fault("429"), (Some(Fault::RateLimited), false));
        assert_eq!(fault("hang"), (Some(Fault::Hang), false));
        assert_eq!(fault("once:reset@3"), (Some(Fault::Reset(3)), true));
    }

    #[test]
    fn pace_and_fault_stand_beside_each_other_in_any_order() {
        for script in ["pace=7,once:500", "once:500, pace=7"] {
            let script: Script = script.parse().expect("a good script");
            assert_eq!(script.pace, Duration::from_millis(7));
            assert_eq!((script.fault, script.once), (Some(Fault::ServerError), true));
        }
        assert_eq!("pace=0".parse(), Ok(Script { pace: Duration::ZERO, ..Script::default() }));
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused() {
        for script in ["", "explode", "reset", "once:", "once:once:500", "once:pace=3", "Reset@3", "503", "fall@3"] {
            assert_eq!(script.parse::<Script>(), Err(BadScript::Unknown), "{script}");
        }
        for script in ["reset@", "reset@0", "reset@+1", "reset@1 2", "stall@1000000", "pace=", "pace=10001", "pace=-1"]
        {
            assert_eq!(script.parse::<Script>(), Err(BadScript::Number), "{script}");
        }
        for script in ["500,429", "pace=1,pace=2"] {
            assert_eq!(script.parse::<Script>(), Err(BadScript::Twice), "{script}");
        }
    }

    #[test]
    fn a_try_is_first_once_and_memory_is_bounded() {
        let tries = FirstTries::default();
        assert!(tries.is_first(1));
        assert!(!tries.is_first(1));
        for key in 2..=(REMEMBERED_TRIES as u64 + 1) {
            assert!(tries.is_first(key));
        }
        let seen = tries.seen.lock().expect("not poisoned");
        assert_eq!((seen.0.len(), seen.1.len()), (REMEMBERED_TRIES, REMEMBERED_TRIES));
        drop(seen);
        assert!(tries.is_first(1), "the oldest was forgotten");
    }
}
