//! An owner that stands still beyond its lease and then goes on, as a paused virtual machine does: another replica has
//! taken over meanwhile, and what the stale one still reads reaches nobody.

mod replicas_support;
mod support;

use std::collections::HashMap;

use replicas_support::{Answering, Asked, Fleet, Kind, Riding, Talk, Told, at, eventually, other};

/// Talks at once.
const TALKS: usize = 12;
/// Events that the stale owner can read at most: its upstream stops there.
const HELD: usize = 60;

/// One talk, a client that stays at the owner whatever happens, and one that goes elsewhere.
struct Followed {
    talk: Talk,
    stays: Riding,
    goes: Riding,
}

/// Begins talks at `a`, each with two clients there.
async fn begin(fleet: &Fleet, kind: Kind) -> Vec<Followed> {
    let mut followed = Vec::new();
    for _ in 0..TALKS {
        let talk = Talk::new(kind, 100, 20);
        let _never = fleet.service.hold(&talk, HELD);
        let key = format!("key of {}", talk.key);
        let rider = || fleet.rider(&talk).header("idempotency-key", &key);
        let (stays, goes) = (rider().ride(at(0)), rider().ride(other(0)));
        followed.push(Followed { talk, stays, goes });
    }
    for Followed { stays, goes, .. } in &followed {
        stays.has(5).await;
        goes.has(5).await;
    }
    followed
}

/// Stops `a` until `b` has taken all talks over, and lets it go on.
async fn stand_still(fleet: &Fleet, followed: &[Followed]) {
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    a.stop();
    for Followed { goes, .. } in followed {
        goes.leave();
    }
    for Followed { talk, .. } in followed {
        let taken_over = |asked: &[Asked]| asked.iter().any(|asked| asked.replica == b.name && asked.written > 0);
        fleet.service.until("b to take over", talk, taken_over).await;
    }
    a.go_on();
}

/// Two clients of one session agree on everything that has a name.
fn agree(one: &Told, other: &Told) {
    let named = |told: &Told| -> HashMap<String, String> {
        told.events().filter_map(|event| Some((event.id.clone()?, event.data.clone()))).collect()
    };
    let (one_has, other_has) = (named(one), named(other));
    for (id, data) in &one_has {
        if let Some(same) = other_has.get(id) {
            assert_eq!(data, same, "{id} has two meanings\n{}{}", one.story(), other.story());
        }
    }
}

async fn one_consistent_stream(kind: Kind, store: &str) {
    let fleet = Fleet::of(2, store).await;
    let followed = begin(&fleet, kind).await;
    stand_still(&fleet, &followed).await;
    for Followed { talk, stays, goes } in followed {
        let (stays, goes) = (stays.told().await, goes.told().await);
        goes.must_be_whole();
        stays.must_be_whole();
        agree(&stays, &goes);
        // Its upstream never ends by itself: the stale pump has let go of it.
        let let_go = |asked: &[Asked]| asked[0].state == Answering::HungUp;
        fleet.service.until("the stale pump to be stopped", &talk, let_go).await;
        let asked = fleet.service.asked(&talk);
        assert_eq!(asked.iter().filter(|asked| asked.replica == "a").count(), 1, "{asked:?}");
    }
    let fenced = async || fleet.replicas[0].metric("stream_store_errors_total", &[("kind", "fenced")]).await > 0.0;
    eventually("the stale owner to say that it was refused", fenced).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_of_resumable_streams_is_refused_and_all_clients_see_one_stream() {
    one_consistent_stream(Kind::Numbered, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_of_continued_streams_is_refused_and_all_clients_see_one_stream() {
    one_consistent_stream(Kind::Chat, "[store]\nacknowledged = true").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_that_shows_events_before_they_are_safe_never_shows_two_streams_as_one() {
    let fleet = Fleet::of(2, "").await;
    let followed = begin(&fleet, Kind::Chat).await;
    stand_still(&fleet, &followed).await;
    for Followed { stays, goes, .. } in followed {
        let (stays, goes) = (stays.told().await, goes.told().await);
        // Who saw what was never written is told so; the words of this model happen to be the same.
        stays.must_be_honest();
        goes.must_be_honest();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_owner_of_what_nobody_can_continue_ends_as_the_one_that_took_over_said() {
    let fleet = Fleet::of(2, "").await;
    let followed: Vec<_> = begin(&fleet, Kind::Plain).await;
    fleet.replicas[0].stop();
    for Followed { goes, .. } in &followed {
        goes.leave();
    }
    let mut stayed = Vec::new();
    for Followed { talk, stays, goes } in followed {
        goes.told().await.must_be_a_prefix_before("owner_lost");
        stayed.push((talk, stays));
    }
    fleet.replicas[0].go_on();
    for (talk, stays) in stayed {
        stays.told().await.must_be_a_prefix_before("owner_lost");
        let let_go = |asked: &[Asked]| asked[0].state == Answering::HungUp;
        fleet.service.until("the stale pump to be stopped", &talk, let_go).await;
        assert_eq!(fleet.service.asked(&talk).len(), 1);
    }
}
