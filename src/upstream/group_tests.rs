//! Which endpoint is chosen, and what is noticed about it.

use super::*;
use crate::config::{self, env};

/// A group of the endpoints that are written so, in a clock that stands still.
fn group(endpoints: &str) -> Arc<Group> {
    let text = format!("[[upstreams]]\nname = 'llm'\nendpoints = [{endpoints}]\nbreaker = {{ failures = 1 }}");
    let settings = config::parse(&text, &env::Empty).unwrap_or_else(|problems| panic!("{problems}"));
    Arc::new(Group::new(&settings.upstreams[0], Clock::start()))
}

const PAIR: &str = "'http://a', 'http://b'";
const WEIGHTED: &str = "{ url = 'http://a', weight = 3 }, 'http://b'";
const SPARE: &str = "{ url = 'http://a', priority = 1 }, 'http://b', 'http://c'";

fn chosen(group: &Arc<Group>, wish: Wish<'_>) -> Option<Try> {
    group.choose(&wish)
}

fn any(group: &Arc<Group>) -> Try {
    chosen(group, Wish::default()).expect("something is chosen")
}

/// Chooses `endpoint` and says that it does not work.
fn breaks(group: &Arc<Group>, endpoint: usize) {
    let out = chosen(group, Wish { stay: Some(endpoint), ..Wish::default() }).expect("something is chosen");
    assert_eq!(out.endpoint(), endpoint);
    out.failed(&Code::UpstreamUnreachable.into());
}

#[tokio::test(start_paused = true)]
async fn requests_one_after_the_other_take_turns_by_weight() {
    let group = group(WEIGHTED);
    let mut counts = [0; 2];
    (0..400).for_each(|_| counts[any(&group).endpoint()] += 1);
    assert_eq!(counts, [300, 100]);
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_spread_by_weight() {
    let group = group(WEIGHTED);
    let out: Vec<_> = (0..400).map(|_| any(&group)).collect();
    let first = out.iter().filter(|out| out.endpoint() == 0).count();
    assert_eq!((first, out.len() - first), (300, 100));
    drop(out);
    assert!(group.to_json()["endpoints"].as_array().unwrap().iter().all(|endpoint| endpoint["in_flight"] == 0));
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_is_next() {
    let group = group(PAIR);
    let held: Vec<_> =
        (0..3).map(|_| chosen(&group, Wish { stay: Some(0), ..Wish::default() }).expect("it is available")).collect();
    let next: Vec<_> = (0..3).map(|_| any(&group)).collect();
    assert!(next.iter().all(|out| out.endpoint() == 1));
    drop(held);
    assert_eq!(any(&group).endpoint(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_was_away_does_not_catch_up() {
    let group = group(PAIR);
    breaks(&group, 0);
    (0..100).for_each(|_| assert_eq!(any(&group).endpoint(), 1));
    tokio::time::advance(Duration::from_secs(10)).await;
    any(&group).well();
    let mut counts = [0; 2];
    (0..20).for_each(|_| counts[any(&group).endpoint()] += 1);
    assert_eq!(counts, [10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_number_waits_until_no_lower_one_is_available() {
    let group = group(SPARE);
    (0..10).for_each(|_| assert_ne!(any(&group).endpoint(), 0));
    breaks(&group, 1);
    (0..10).for_each(|_| assert_eq!(any(&group).endpoint(), 2));
    breaks(&group, 2);
    (0..10).for_each(|_| assert_eq!(any(&group).endpoint(), 0));
    group.set_alive(0, false);
    assert_eq!(any(&group).endpoint(), 0, "the one whose breaker is closed");
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_is_avoided_while_there_is_another() {
    let group = group(SPARE);
    let after = |tried: &[usize]| chosen(&group, Wish { tried, ..Wish::default() }).expect("one").endpoint();
    assert_eq!(after(&[1]), 2);
    assert_eq!(after(&[1, 2]), 0, "a spare one rather than one that failed");
    assert_ne!(after(&[1, 2, 0]), 0);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_left_alone_there_is_somewhere_else_or_the_one_that_rested_longest() {
    let group = group(PAIR);
    breaks(&group, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    breaks(&group, 0);
    assert!(!group.is_available());
    assert!(chosen(&group, Wish { or_none: true, ..Wish::default() }).is_none());
    assert_eq!(any(&group).endpoint(), 1);
    assert_eq!(chosen(&group, Wish { tried: &[1], ..Wish::default() }).expect("one").endpoint(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_single_endpoint_is_never_refused() {
    let group = group("'http://a'");
    for _ in 0..20 {
        let out = any(&group);
        out.failed(&Code::UpstreamUnreachable.into());
    }
    assert_eq!(group.worst(), BreakerState::Open);
    any(&group).well();
    assert_eq!(group.worst(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_the_endpoints_doing_counts_against_it() {
    let second = Duration::from_secs(1);
    let limited = |wait| Fault::new(Code::RateLimited).retry_after(Some(wait));
    let reported = |kind| Fault::reported(kind, true, Default::default());
    for (fault, outcome) in [
        (Fault::new(Code::UpstreamUnreachable), Outcome::Failed),
        (Fault::new(Code::HeadTimeout), Outcome::Failed),
        (Fault::new(Code::UpstreamUnavailable), Outcome::Failed),
        (Fault::new(Code::UpstreamUnavailable).retry_after(Some(20 * second)), Outcome::Rest(20 * second)),
        (limited(second), Outcome::Unknown),
        (limited(30 * second), Outcome::Rest(30 * second)),
        (limited(9_999 * second), Outcome::Rest(LONGEST_REST)),
        (Fault::new(Code::UpstreamRejected), Outcome::Well),
        (reported(Kind::System), Outcome::Failed),
        (reported(Kind::Validation), Outcome::Well),
        (Fault::new(Code::TotalTimeout), Outcome::Unknown),
        (Fault::new(Code::SessionGap), Outcome::Unknown),
    ] {
        assert_eq!(super::outcome(&fault, 10 * second), outcome, "{fault}");
    }
}
