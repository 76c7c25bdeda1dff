//! The ways to Redis, each with real servers: over TLS, as a user with few rights, to a database or under a prefix of
//! one's own, by sentinels, to a cluster, over a line that is slow. Whatever the way, a stream that hops is whole.

mod replicas_support;
mod support;

/// Stores in this process, for what cannot be seen from outside.
#[path = "conformance/bench.rs"]
mod bench;
#[path = "conformance/stores.rs"]
mod stores;

/// A cluster of masters.
#[path = "redis_ways/cluster.rs"]
mod cluster;
/// Users, passwords and rights.
#[path = "redis_ways/login.rs"]
mod login;
/// Several fleets, or versions, in one Redis.
#[path = "redis_ways/neighbours.rs"]
mod neighbours;
/// Sentinels who know where the master is.
#[path = "redis_ways/sentinel.rs"]
mod sentinel;
/// Slow lines, and callers that do not wait.
#[path = "redis_ways/slow.rs"]
mod slow;
/// Certificates.
#[path = "redis_ways/tls.rs"]
mod tls;

use replicas_support::{Fleet, Kind, Talk, eventually, other};

/// A fleet works as it should: streams hop whole and are paid once, a key is known everywhere, and a session is
/// stopped from anywhere.
async fn is_well(fleet: &Fleet) {
    fleet.until_store_is(true).await;
    let kinds = [Kind::Plain, Kind::Chat, Kind::Numbered];
    let riding: Vec<_> =
        (0..12).map(|n| fleet.rider(&Talk::new(kinds[n % 3], 40, 5)).cut_at([5, 15, 25]).ride(other(n % 2))).collect();
    for riding in riding {
        let told = riding.told().await;
        told.must_be_whole();
        assert_eq!(fleet.service.asked(&told.talk).len(), 1, "{}", told.story());
        for visit in &told.visits {
            assert_eq!(visit.header("streamkeeper-durability"), Some("redis"), "{}", told.story());
        }
    }
    a_key_is_known_everywhere(fleet).await;
    a_session_is_stopped_from_anywhere(fleet).await;
}

async fn a_key_is_known_everywhere(fleet: &Fleet) {
    let talk = Talk::plain(20, 5);
    let mut sessions = Vec::new();
    for replica in fleet.replicas.iter().take(2) {
        let reply = replica.ask(&talk).header("idempotency-key", &talk.key).caller("alice").events().await;
        sessions.push(reply.session());
        assert_eq!(reply.rest().await.len(), 21);
    }
    assert_eq!(sessions[0], sessions[1]);
    assert_eq!(fleet.service.asked(&talk).len(), 1);
}

async fn a_session_is_stopped_from_anywhere(fleet: &Fleet) {
    let [a, b, ..] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(40, 5);
    let _never = fleet.service.hold(&talk, 10);
    let mut reader = a.ask(&talk).events().await;
    reader.take(10).await;
    assert_eq!(b.session("DELETE", &reader.session()).send().await.status, 204);
    let rest = reader.rest().await;
    assert_eq!((rest.len(), &rest[0].json()["code"]), (1, &"session_not_found".into()), "{rest:?}");
}

/// Redis cannot be used: sessions live in memory, say so, and are whole.
async fn lives_in_memory(fleet: &Fleet, kind: &str) {
    for (index, replica) in fleet.replicas.iter().enumerate() {
        let errors = async || replica.metric("stream_store_errors_total", &[("kind", kind)]).await > 0.0;
        eventually(&format!("{} to count {kind}", replica.name), errors).await;
        assert_eq!(replica.metric("stream_store_up", &[]).await, 0.0);
        let told = fleet.rider(&Talk::plain(20, 1)).ride(replicas_support::at(index)).told().await;
        told.must_be_whole();
        assert_eq!(told.visits[0].header("streamkeeper-durability"), Some("memory"), "{}", told.story());
    }
}

/// A running stream of the first replica is taken over by the second one.
async fn survives_the_death_of_a_replica(fleet: &mut Fleet) {
    let talk = Talk::numbered(120, 10);
    let riding = fleet.rider(&talk).ride(other(0));
    riding.has(30).await;
    eventually("its events to be in Redis", async || {
        fleet.replicas[0].metric("stream_store_behind_sessions", &[]).await == 0.0
            && fleet.replicas[0].metric("stream_store_appended_events_total", &[]).await >= 30.0
    })
    .await;
    fleet.replicas[0].kill();
    let told = riding.told().await;
    told.must_be_whole();
    assert_eq!(fleet.service.asked(&talk).len(), 2, "{}", told.story());
    fleet.replicas[0].revive().await;
}
