//! What may be tried after a failure: values in, a verdict out.
//!
//! Nothing here knows what was tried before or what time it is; the [`machine`](crate::machine) remembers, this
//! module decides. [`Code::OwnerLost`] is judged like a connection that broke: the reader went, the upstream did
//! nothing wrong, and the request had arrived. Sources: the project's failure catalogue; RFC 9110 section 9.2.2 (which requests may be sent
//! again) and 10.2.3 (Retry-After); full jitter as in [`crate::Backoff`].

use std::time::Duration;

use crate::backoff::Backoff;
use crate::fault::{Code, Fault, Kind};

/// Time limits; each is defined by its two end points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Dial → connection ready (TCP and TLS).
    pub connect: Duration,
    /// Dial → response head, connecting included.
    pub head: Duration,
    /// Response head → first event.
    pub first_event: Duration,
    /// Event → next event. Bytes that complete no event do not count.
    pub idle: Duration,
    /// Request accepted → end of the stream, all tries included.
    pub total: Duration,
}

/// Tries before the first content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// All tries, the first included; 1 means no retry.
    pub attempts: u32,
    /// Upper bound of the first wait; doubled for each later one.
    pub base: Duration,
    /// Upper bound of any wait; a longer `Retry-After` is handed to the client instead.
    pub max: Duration,
    /// Whether a request that may have reached the upstream is sent again (resets, timeouts, 5xx).
    pub after_send: bool,
}

/// One rung of the ladder after content was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Ask the upstream itself to resume, where it numbers its own events.
    NativeResume,
    /// Ask the model to go on with the text it has written.
    Continuation,
    /// A non-stream answer, if it begins with what was delivered.
    Fallback,
}

/// What happens to the upstream when no client is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Cancel at once.
    Cancel,
    /// Cancel when nobody came back in time.
    Grace(Duration),
    /// Read on to the end.
    Continue,
}

/// What to do after a failed try that delivered nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same again after this wait.
    Again(Duration),
    /// At once, at another endpoint.
    Next,
    /// Trying again is over.
    GiveUp,
}

/// Whether another upstream may get what this one, whose tries are used up, did not. `sent`: the request may have
/// reached it; where a route does not repeat such requests they go nowhere else either.
pub fn may_fail_over(retry: &Retry, fault: &Fault, sent: bool) -> bool {
    let elsewhere = worth_another_try(fault) || fault.code == Code::BadContentType;
    elsewhere && (!sent || retry.after_send || refused_unprocessed(fault))
}

/// Judges the `tries`-th try (1 is the first) that failed with `fault`.
///
/// `sent`: the request may have reached the upstream. `endpoints`: how many there are to choose from. `random` is
/// spent on jitter.
pub fn verdict(retry: &Retry, fault: &Fault, sent: bool, tries: u32, endpoints: u32, random: u64) -> Verdict {
    if tries >= retry.attempts
        || !worth_another_try(fault)
        || (sent && !retry.after_send && !refused_unprocessed(fault))
    {
        return Verdict::GiveUp;
    }
    let jittered = Backoff { base: retry.base, max: retry.max }.delay(tries.saturating_sub(1), random);
    match fault.retry_after {
        // It speaks for itself, not for the others.
        Some(_) if tries < endpoints && refused_unprocessed(fault) => Verdict::Next,
        Some(asked) if asked > retry.max => Verdict::GiveUp,
        Some(asked) => Verdict::Again(asked.max(jittered)),
        None if tries < endpoints && never_arrived(fault) => Verdict::Next,
        None => Verdict::Again(jittered),
    }
}

/// Whether a non-stream request may get what the stream did not.
pub fn fallback_may_help(fault: &Fault) -> bool {
    match fault.code {
        Code::UpstreamReset
        | Code::UpstreamTruncated
        | Code::UpstreamUnavailable
        | Code::BadContentType
        | Code::EventTooLarge
        | Code::HeadTimeout
        | Code::FirstEventTimeout
        | Code::IdleTimeout
        | Code::OwnerLost => true,
        Code::UpstreamError => fault.recoverable && fault.kind != Kind::RateLimit,
        _ => false,
    }
}

/// Whether a broken stream may be mended after content was delivered.
pub fn may_climb(fault: &Fault) -> bool {
    fault.recoverable && (fallback_may_help(fault) || never_arrived(fault))
}

fn worth_another_try(fault: &Fault) -> bool {
    match fault.code {
        Code::UpstreamUnreachable
        | Code::ConnectTimeout
        | Code::UpstreamReset
        | Code::UpstreamTruncated
        | Code::UpstreamUnavailable
        | Code::RateLimited
        | Code::HeadTimeout
        | Code::FirstEventTimeout
        | Code::IdleTimeout
        | Code::OwnerLost => true,
        Code::UpstreamError => fault.recoverable,
        _ => false,
    }
}

/// Whether the request surely did not reach the upstream.
pub fn never_arrived(fault: &Fault) -> bool {
    matches!(fault.code, Code::UpstreamUnreachable | Code::ConnectTimeout)
}

/// The upstream itself says that it did nothing.
fn refused_unprocessed(fault: &Fault) -> bool {
    fault.code == Code::RateLimited || (fault.code == Code::UpstreamUnavailable && fault.status == 503)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry =
        Retry { attempts: 3, base: Duration::from_millis(250), max: Duration::from_secs(10), after_send: true };

    fn judge(code: Code, tries: u32) -> Verdict {
        verdict(&RETRY, &code.into(), true, tries, 1, u64::MAX)
    }

    #[test]
    fn a_reset_is_tried_again_until_the_budget_is_spent() {
        assert!(matches!(judge(Code::UpstreamReset, 1), Verdict::Again(_)));
        assert!(matches!(judge(Code::UpstreamReset, 2), Verdict::Again(_)));
        assert_eq!(judge(Code::UpstreamReset, 3), Verdict::GiveUp);
    }

    #[test]
    fn a_refusal_is_never_tried_again() {
        assert_eq!(judge(Code::UpstreamRejected, 1), Verdict::GiveUp);
        assert_eq!(judge(Code::BadContentType, 1), Verdict::GiveUp);
    }

    #[test]
    fn retry_after_is_honoured_inside_the_budget_and_handed_on_beyond_it() {
        let limited = |seconds| Fault::new(Code::RateLimited).retry_after(Some(Duration::from_secs(seconds)));
        let judged = verdict(&RETRY, &limited(7), true, 1, 1, 0);
        assert_eq!(judged, Verdict::Again(Duration::from_secs(7)));
        assert_eq!(verdict(&RETRY, &limited(11), true, 1, 1, 0), Verdict::GiveUp);
        assert_eq!(verdict(&RETRY, &limited(11), true, 1, 2, 0), Verdict::Next, "another endpoint did not ask for it");
        assert_eq!(verdict(&RETRY, &limited(11), true, 2, 2, 0), Verdict::GiveUp);
    }

    #[test]
    fn another_endpoint_is_tried_at_once_when_one_cannot_be_reached() {
        let fault = Code::UpstreamUnreachable.into();
        assert_eq!(verdict(&RETRY, &fault, false, 1, 2, 0), Verdict::Next);
        assert!(matches!(verdict(&RETRY, &fault, false, 2, 2, 0), Verdict::Again(_)));
    }

    #[test]
    fn another_upstream_gets_what_this_one_could_not_do_but_no_callers_mistake() {
        let over = |retry: &Retry, code: Code, sent| may_fail_over(retry, &code.into(), sent);
        for code in [Code::UpstreamUnreachable, Code::UpstreamUnavailable, Code::RateLimited, Code::BadContentType] {
            assert!(over(&RETRY, code, true), "{code}");
        }
        for code in [Code::UpstreamRejected, Code::TotalTimeout, Code::SessionGap, Code::Draining] {
            assert!(!over(&RETRY, code, true), "{code}");
        }
        let careful = Retry { after_send: false, ..RETRY };
        assert!(!over(&careful, Code::UpstreamReset, true) && over(&careful, Code::UpstreamReset, false));
        assert!(over(&careful, Code::RateLimited, true));
    }

    #[test]
    fn a_reader_that_died_is_judged_like_a_connection_that_broke() {
        let lost = Fault::new(Code::OwnerLost);
        assert!(may_climb(&lost) && fallback_may_help(&lost) && !never_arrived(&lost));
        assert!(matches!(judge(Code::OwnerLost, 1), Verdict::Again(_)));
        assert!(may_fail_over(&RETRY, &lost, true));
        let careful = Retry { after_send: false, ..RETRY };
        assert!(!may_fail_over(&careful, &lost, true), "the request had arrived");
        assert_eq!(verdict(&careful, &lost, true, 1, 1, 0), Verdict::GiveUp);
    }

    #[test]
    fn a_request_that_may_have_arrived_is_sent_once_where_the_route_says_so() {
        let careful = Retry { after_send: false, ..RETRY };
        assert_eq!(verdict(&careful, &Code::UpstreamReset.into(), true, 1, 1, 0), Verdict::GiveUp);
        assert!(matches!(verdict(&careful, &Code::UpstreamReset.into(), false, 1, 1, 0), Verdict::Again(_)));
        assert!(matches!(verdict(&careful, &Code::RateLimited.into(), true, 1, 1, 0), Verdict::Again(_)));
    }
}
