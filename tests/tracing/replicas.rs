//! Sessions that move: each replica tells its own part.

use super::replicas_support::{Fleet, Talk};
use super::support::{Collector, Told};
use super::{CALLER, TRACE, family};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_another_replica_goes_on_with_has_a_span_there_from_then_on() {
    let collector = Collector::start().await;
    let mut fleet = Fleet::of(2, &collector.toml()).await;
    let talk = Talk::numbered(40, 5);
    let hold = fleet.service.hold(&talk, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let seen = first.take(10).await;
    let again = fleet.replicas[1].ask(&talk).after(seen[9].id()).header("traceparent", CALLER);
    let second = again.events().await;
    fleet.replicas[0].kill();
    hold.open();
    second.rest().await;
    let (server, tries) = family(&collector.until(2).await);
    assert_eq!((server.trace.as_str(), server.get("streamkeeper.session.id")), (TRACE, first.session().as_str()));
    assert!(server.event("streamkeeper.takeover").is_empty());
    assert_eq!(server.events[0].0, "streamkeeper.takeover", "what was before is not this replica's");
    assert_eq!(tries[0].get("streamkeeper.try.kind"), "native_resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_session_while_it_stood_still_says_so() {
    let collector = Collector::start().await;
    let fleet = Fleet::of(2, &collector.toml()).await;
    let talk = Talk::numbered(40, 5);
    let _never = fleet.service.hold(&talk, 20);
    let mut first = fleet.replicas[0].ask(&talk).header("traceparent", CALLER).events().await;
    let seen = first.take(10).await;
    fleet.replicas[0].stop();
    let again = fleet.replicas[1].ask(&talk).after(seen[9].id()).header("traceparent", CALLER);
    again.events().await.rest().await;
    fleet.replicas[0].go_on();
    let spans = collector.until(4).await;
    let outcome = |outcome: &str| {
        let part = |span: &&Told| span.get("streamkeeper.outcome") == outcome;
        spans.iter().find(part).unwrap_or_else(|| panic!("no {outcome} in {spans:#?}"))
    };
    let (lost, took) = (outcome("handed_over"), outcome("completed"));
    assert!(lost.event("streamkeeper.hand_over").is_empty() && took.event("streamkeeper.takeover").is_empty());
    assert_eq!((&lost.trace, lost.failed), (&took.trace, false));
    assert_eq!(lost.get("streamkeeper.session.id"), took.get("streamkeeper.session.id"));
}
