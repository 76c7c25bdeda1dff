//! A rolling deploy: one replica after the other is asked to go, waits for its streams, and comes back; nobody who
//! reads through them loses anything.

mod replicas_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use replicas_support::{Answering, Chance, Fleet, Kind, Rider, Talk, Told, anywhere, eventually, other};
use support::Event;
use support::reply::BodyEnd;
use tokio::task::JoinSet;

/// Streams at once.
const STREAMS: usize = 300;

/// Wants one talk after the other until it is over.
async fn demand(number: usize, rider: Rider, over: Arc<AtomicBool>) -> Vec<Told> {
    let mut chance = Chance::of(number);
    let mut told = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let kind = [Kind::Plain, Kind::Chat, Kind::Numbered][number % 3];
        let talk = Talk::new(kind, 15 + chance.below(25), 60 + chance.below(30) as u64);
        told.push(rider.clone().wants(&talk).ride(anywhere(number + told.len())).told().await);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_three_hundred_streams_cuts_nobody() {
    let mut fleet = Fleet::of(2, "[drain]\ntimeout = '20s'\nspread = '1s'").await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..STREAMS {
        clients.spawn(demand(number, fleet.rider(&Talk::plain(1, 1)), Arc::clone(&over)));
    }
    let Fleet { replicas, service, .. } = &mut fleet;
    for replica in replicas.iter_mut() {
        eventually("the replica to be under load", async || service.going(&replica.name) > STREAMS / 4).await;
        replica.terminate();
        eventually("it to be unready", async || !replica.is_ready().await).await;
        assert_eq!(replica.exited().await, Some(0), "{}", replica.log());
        replica.revive().await;
    }
    eventually("both to be under load again", async || {
        replicas.iter().all(|replica| service.going(&replica.name) > STREAMS / 4)
    })
    .await;
    over.store(true, Ordering::Relaxed);
    let told: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let moved = told.iter().filter(|told| told.visits.windows(2).any(|pair| pair[0].replica != pair[1].replica));
    let moved = moved.count();
    for told in &told {
        told.must_be_whole();
        let asked = fleet.service.asked(&told.talk);
        assert_eq!(asked.len(), 1, "its owner read it to its end: {asked:?}\n{}", told.story());
    }
    assert!(moved > STREAMS / 2, "{moved} of {} streams moved", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_cannot_come_back_are_served_to_their_end() {
    let mut fleet = Fleet::of(2, "[drain]\ntimeout = '20s'\nspread = '200ms'").await;
    let talk = Talk::chat(60, 30);
    let mut simple = fleet.replicas[0].ask(&talk).send().await;
    simple.take(5).await;
    let able = Talk::chat(60, 30);
    let able = fleet.rider(&able).ride(other(0));
    able.has(5).await;
    fleet.replicas[0].terminate();
    let rest = simple.until_end().await;
    assert_eq!((rest.len(), simple.ended()), (62 - 5, Some(BodyEnd::Clean)), "{rest:?}");
    let able = able.told().await;
    able.must_be_whole();
    assert!(able.visits.len() > 1, "it was sent away: {}", able.story());
    assert_eq!(fleet.replicas[0].exited().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_sent_away_with_a_clean_end_and_a_post_with_a_broken_one() {
    let fleet = Fleet::of(2, "[drain]\ntimeout = '20s'\nspread = '100ms'").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(100, 20);
    let mut post = a.ask(&talk).events().await;
    let session = post.session();
    let mut get = a.session("GET", &session).events().await;
    let (post_begun, begun) = (post.take(5).await, get.take(5).await);
    a.terminate();
    let (rest, posted) = (get.until_end().await, post.until_end().await);
    assert_eq!(get.ended(), Some(BodyEnd::Clean), "EventSource comes back after a clean end");
    assert_ne!(post.ended(), Some(BodyEnd::Clean), "fetch-event-source comes back after a broken connection");
    for sent_away in [&rest, &posted] {
        assert!(sent_away.iter().all(|event| event.name.is_empty()), "nobody is told of an error: {sent_away:?}");
    }
    // The first block has one; the next one after SIGTERM too, if there is one before the close.
    for told in [begun.iter().chain(&rest), post_begun.iter().chain(&posted)] {
        assert!(told.filter(|event| event.retry.is_some()).count() > 0, "a hint when to come back");
    }
    let last = begun.iter().chain(&rest).last().expect("an event").id().to_owned();
    let seen = begun.len() + rest.len();
    let rest = b.session("GET", &session).after(&last).events().await.rest().await;
    assert_eq!(rest.len(), 101 - seen);
    assert_eq!(fleet.service.asked(&talk).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_replica_takes_nothing_new_and_serves_what_it_has() {
    let fleet = Fleet::of(2, "[drain]\ntimeout = '20s'\nspread = '100ms'").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::chat(30, 5);
    let hold = fleet.service.hold(&talk, 10);
    let mut simple = a.ask(&talk).send().await;
    let begun = simple.take(10).await;
    a.terminate();
    eventually("it to be unready", async || !a.is_ready().await).await;
    let refused = a.ask(&Talk::chat(1, 1)).send().await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert_eq!(refused.json().await["error"]["code"], "draining");
    let elsewhere = b.ask(&talk).after(begun[4].id()).events().await;
    hold.open();
    assert_eq!(elsewhere.rest().await.len(), 32 - 5);
    assert_eq!(simple.rest().await.len(), 32 - 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_drain_is_taken_over_at_once_or_told() {
    let mut fleet = Fleet::of(2, "[store]\nlease = '6s'\n[drain]\ntimeout = '1s'\nspread = '300ms'").await;
    let (numbered, plain) = (Talk::numbered(60, 20), Talk::plain(60, 20));
    for talk in [&numbered, &plain] {
        let _never = fleet.service.hold(talk, 20);
    }
    let (resumed, lost) = (fleet.rider(&numbered).ride(other(0)), fleet.rider(&plain).ride(other(0)));
    let stuck = Talk::chat(60, 20);
    let _never = fleet.service.hold(&stuck, 20);
    let mut simple = fleet.replicas[0].ask(&stuck).send().await;
    let begun = simple.take(20).await;
    resumed.has(20).await;
    lost.has(20).await;
    fleet.replicas[0].terminate();
    let told = simple.rest().await;
    assert_eq!((told.len(), &told[0].json()["error"]["code"]), (1, &"draining".into()), "{told:?}");
    assert_eq!(told[0].id, None, "for this client alone, so it has no place in the session");
    assert_eq!(fleet.replicas[0].exited().await, Some(0));
    // Long before the lease would have run out by itself.
    resumed.told().await.must_be_whole();
    lost.told().await.must_be_a_prefix_before("owner_lost");
    let asked = fleet.service.asked(&numbered);
    assert_eq!((asked.len(), asked[0].state, asked[1].replica.as_str()), (2, Answering::HungUp, "b"), "{asked:?}");
    // Nor is what was told draining over: its client may come back with its request.
    let rest = fleet.replicas[1].ask(&stuck).after(begun[19].id()).events().await.rest().await;
    let text: String = begun.iter().chain(&rest).filter_map(words).collect();
    assert_eq!(text, stuck.text());
}

/// What a chunk of a chat says.
fn words(event: &Event) -> Option<String> {
    let chunk: serde_json::Value = serde_json::from_str(&event.data).ok()?;
    chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
}
