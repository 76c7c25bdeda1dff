//! One death at a time: who may take over, how, and what it looks like to those who are there.

use super::replicas_support::{Answering, Asked, Fleet, Talk, at, eventually, other};
use super::support::events::{data, ids};

/// `kill -9` of `a` once each of these talks has this many events at the service.
async fn kill_after(fleet: &mut Fleet, talks: &[&Talk], written: usize) {
    for talk in talks {
        let far = |asked: &[Asked]| asked.first().is_some_and(|asked| asked.written >= written);
        fleet.service.until("the talk to be under way", talk, far).await;
    }
    fleet.replicas[0].kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_elsewhere_already_does_not_even_notice() {
    let mut fleet = Fleet::of(2, "").await;
    let talk = Talk::numbered(60, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let begun = first.take(5).await;
    let mut second = fleet.replicas[1].ask(&talk).after(begun[4].id()).events().await;
    let joined = second.take(10).await;
    assert_eq!(fleet.service.asked(&talk).len(), 1);
    fleet.replicas[0].kill();
    let rest = second.rest().await;
    let all: Vec<_> = begun.iter().chain(&joined).chain(&rest).collect();
    assert_eq!(
        all.iter().map(|event| event.id().parse().unwrap()).collect::<Vec<usize>>(),
        (1..=61).collect::<Vec<_>>()
    );
    assert!(all[..60].iter().zip(1..).all(|(event, n)| event.data == talk.said(n)));
    let asked = fleet.service.asked(&talk);
    assert_eq!((asked.len(), asked[1].replica.as_str()), (2, "b"), "{asked:?}");
    assert!(asked[1].stood.is_some(), "it went on where it stood: {asked:?}");
    let resumed = fleet.replicas[1].metric("stream_takeovers_total", &[("result", "taken")]).await;
    assert_eq!(resumed, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_come_back_at_once_are_served_by_one_takeover() {
    let mut fleet = Fleet::of(3, "[store]\nacknowledged = true").await;
    let talk = Talk::chat(60, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let begun = first.take(10).await;
    fleet.replicas[0].kill();
    let back = |replica: usize| fleet.replicas[replica].ask(&talk).after(begun[9].id()).events();
    let (one, two) = tokio::join!(back(1), back(2));
    let (one, two) = tokio::join!(one.rest(), two.rest());
    assert_eq!((ids(&one), data(&one)), (ids(&two), data(&two)));
    let asked = fleet.service.asked(&talk);
    assert_eq!(asked.len(), 2, "{asked:?}");
    let mut whole = fleet.rider(&talk).header("last-event-id", begun[0].id()).ride(at(1)).told().await;
    // What it was told before, and all that a later one gets, is one answer.
    whole.items.insert(0, super::replicas_support::rider::Item::Event(begun[0].clone()));
    whole.must_be_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_can_only_be_had_whole_is_finished_by_the_whole_one() {
    let mut fleet = Fleet::of(2, "[store]\nacknowledged = true").await;
    let talk = Talk::new(super::replicas_support::Kind::Whole, 60, 20);
    let riding = fleet.rider(&talk).ride(other(0));
    kill_after(&mut fleet, &[&talk], 20).await;
    riding.told().await.must_be_whole();
    let asked = fleet.service.asked(&talk);
    assert_eq!((asked.len(), asked[1].state), (2, Answering::Whole), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_reads_cannot_take_over_and_is_told_that_the_owner_is_lost() {
    let mut fleet = Fleet::of(2, "").await;
    let talk = Talk::numbered(400, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let session = first.session();
    first.take(5).await;
    let mut reader = fleet.replicas[1].session("GET", &session).events().await;
    let begun = reader.take(5).await;
    fleet.replicas[0].kill();
    let rest = reader.rest().await;
    let (failure, rest) = rest.split_last().expect("an end that is told");
    assert_eq!((failure.name.as_str(), &failure.json()["code"]), ("error", &"owner_lost".into()));
    let said: Vec<_> = begun.iter().chain(rest).map(|event| event.data.clone()).collect();
    assert_eq!(said, (1..=said.len()).map(|n| talk.said(n)).collect::<Vec<_>>());
    let asked = fleet.service.asked(&talk);
    assert_eq!(asked.len(), 1, "nobody had a request to send: {asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_request_does_not_take_over_a_session() {
    let mut fleet = Fleet::of(2, "[store]\nacknowledged = true").await;
    let talk = Talk::chat(400, 20);
    let mut first = fleet.replicas[0].ask(&talk).events().await;
    let begun = first.take(10).await;
    fleet.replicas[0].kill();
    let other_words = talk.body().replace("prompt of", "something else of");
    let asks = fleet.replicas[1].request("POST", &talk.path()).json(&other_words);
    let rest = asks.after(begun[9].id()).events().await.rest().await;
    let failure = rest.last().expect("an end that is told").json();
    assert_eq!(failure["error"]["code"], "owner_lost", "{rest:?}");
    let asked = fleet.service.asked(&talk);
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_caller_does_not_take_over_a_session() {
    let mut fleet = Fleet::of(2, "").await;
    let talk = Talk::plain(400, 20);
    let mut first = fleet.replicas[0].ask(&talk).caller("alice").events().await;
    let begun = first.take(10).await;
    fleet.replicas[0].kill();
    let mallory = fleet.replicas[1].ask(&talk).caller("mallory").after(begun[9].id()).events().await.rest().await;
    assert_eq!((mallory.len(), &mallory[0].json()["code"]), (1, &"session_not_found".into()), "{mallory:?}");
    let alice = fleet.replicas[1].ask(&talk).caller("alice").after(begun[9].id()).events().await.rest().await;
    assert_eq!(alice.last().expect("an end").json()["code"], "owner_lost");
    assert_eq!(fleet.service.asked(&talk).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_owners_lease_leaves_redis() {
    let mut fleet = Fleet::of(1, "").await;
    let leases = async || fleet.redis.keys("sk:1:replica:*").await.len();
    assert_eq!(leases().await, 1);
    fleet.replicas[0].kill();
    eventually("the lease to run out", async || fleet.redis.keys("sk:1:replica:*").await.is_empty()).await;
}
