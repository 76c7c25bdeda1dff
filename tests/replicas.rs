//! Two replicas before one Redis, all of them well: a session is served wherever its client comes back, and paid once.

mod replicas_support;
mod support;

/// Whether the judges of these stories would notice.
#[path = "replicas/judges.rs"]
mod judges;
/// What one replica began, the other one joins, keeps alive, hides and stops.
#[path = "replicas/shared.rs"]
mod shared;

use replicas_support::{Fleet, Kind, Talk, anywhere, other};

const STREAMS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_that_hop_at_random_four_times_each_lose_nothing_and_are_paid_once() {
    let fleet = Fleet::of(2, "").await;
    let mut riding = Vec::new();
    for n in 0..STREAMS {
        let talk = Talk::new([Kind::Plain, Kind::Chat, Kind::Numbered][n % 3], 60, 40);
        let rider = fleet.rider(&talk).cut_at_random(4);
        // A session whose upstream numbers its events is named by its path; on its own path the ids would do as well.
        let rider = if n % 2 == 0 { rider.in_any_way() } else { rider };
        riding.push(rider.ride(anywhere(n)));
    }
    let mut hops = 0;
    for riding in riding {
        let told = riding.told().await;
        told.must_be_whole();
        let asked = fleet.service.asked(&told.talk);
        assert_eq!(asked.len(), 1, "{asked:?}\n{}", told.story());
        for visit in &told.visits {
            assert_eq!(visit.header("streamkeeper-durability"), Some("redis"), "{}", told.story());
        }
        hops += told.visits.windows(2).filter(|pair| pair[0].replica != pair[1].replica).count();
    }
    assert!(hops > STREAMS, "{hops} times a client came back to the other replica");
    assert_eq!(fleet.metric("stream_gaps_total", &[]).await, 0.0);
    assert_eq!(fleet.metric("stream_store_errors_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_only_when_it_is_safe_is_shown_whole_as_well() {
    let fleet = Fleet::of(2, "[store]\nacknowledged = true").await;
    let riding: Vec<_> = (0..40)
        .map(|n| {
            let talk = Talk::new([Kind::Plain, Kind::Chat, Kind::Numbered][n % 3], 40, 20);
            fleet.rider(&talk).cut_at_random(3).ride(other(n % 2))
        })
        .collect();
    for riding in riding {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
    }
}
