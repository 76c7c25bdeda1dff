//! What one replica began, the other one joins, keeps alive, hides and stops.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::replicas_support::{Answering, Asked, Fleet, Redis, Talk, at, eventually, other};
use super::support::events::{data, ids};
use super::support::{Reply, Request};

/// All of a reply that a caller can tell apart.
async fn whole(reply: Reply) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = reply.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (reply.status, headers, reply.bytes().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_session_on_two_replicas_see_the_same() {
    let fleet = Fleet::of(2, "").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(40, 5);
    let hold = fleet.service.hold(&talk, 20);
    let mut first = a.ask(&talk).events().await;
    let begun = first.take(10).await;
    let session = first.session();
    let second = b.session("GET", &session).events().await;
    let third = b.ask(&talk).after(begun[4].id()).events().await;
    assert_eq!(second.session(), session);
    assert_eq!(third.header("streamkeeper-source").as_deref(), Some("replay"));
    hold.open();
    let (rest, second, third) = tokio::join!(first.rest(), second.rest(), third.rest());
    let all: Vec<_> = begun.into_iter().chain(rest).collect();
    assert_eq!((ids(&second), data(&second)), (ids(&all), data(&all)));
    assert_eq!(ids(&third), ids(&all[5..]));
    assert_eq!(all.len(), 41);
    assert_eq!(fleet.service.asked(&talk).len(), 1);
    for replica in [a, b] {
        let last = all[40].id();
        let seen_whole = replica.session("GET", &session).header("accept", "text/event-stream").after(last);
        assert_eq!(seen_whole.send().await.status, 204, "at {}", replica.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_joins_at_the_other_replica_and_refuses_another_body() {
    let fleet = Fleet::of(2, "").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(30, 5);
    let hold = fleet.service.hold(&talk, 0);
    let keyed = |request: Request| request.header("idempotency-key", "one").caller("alice");
    // Before the first event, while the first one still waits for its head.
    let opened = async {
        fleet.service.until("the one request", &talk, |asked| !asked.is_empty()).await;
        hold.open();
    };
    let (first, second, ()) = tokio::join!(keyed(a.ask(&talk)).events(), keyed(b.ask(&talk)).events(), opened);
    assert_eq!(first.session(), second.session());
    let (one, other) = tokio::join!(first.rest(), second.rest());
    assert_eq!((ids(&one), data(&one)), (ids(&other), data(&other)));
    assert_eq!(one.len(), 31);
    let again = keyed(b.ask(&talk)).events().await.rest().await;
    assert_eq!(ids(&again), ids(&one), "after its end it is a replay");
    let another = b.request("POST", &talk.path()).json("{}").header("accept", "text/event-stream");
    let refused = keyed(another).send().await;
    assert_eq!((refused.status, &refused.json().await["code"]), (422, &"invalid_request".into()));
    let asked = fleet.service.asked(&talk);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let bob = b.ask(&talk).header("idempotency-key", "one").caller("bob").events().await;
    assert_ne!(bob.rest().await[0].id(), one[0].id(), "another caller's key is another key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_at_the_other_replica_stops_the_owners_upstream() {
    let fleet = Fleet::of(2, "").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(40, 5);
    let _never = fleet.service.hold(&talk, 20);
    let mut reader = a.ask(&talk).events().await;
    reader.take(20).await;
    let session = reader.session();
    assert_eq!(b.session("DELETE", &session).send().await.status, 204);
    let stopped = |asked: &[Asked]| asked[0].state == Answering::HungUp;
    fleet.service.until("the owner to hang up", &talk, stopped).await;
    let rest = reader.rest().await;
    assert_eq!((rest.len(), &rest[0].json()["code"]), (1, &"session_not_found".into()), "{rest:?}");
    for replica in [a, b] {
        eventually("the session to be gone", async || replica.session("GET", &session).send().await.status == 404)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_at_the_other_replica_keeps_the_upstream_alive_and_the_last_one_to_leave_does_not() {
    let grace = Duration::from_millis(400);
    let fleet = Fleet::of(2, "[each_route]\ndetach = { mode = 'grace', grace = '400ms' }").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(200, 10);
    let mut first = a.ask(&talk).events().await;
    let session = first.session();
    first.take(5).await;
    let mut second = b.session("GET", &session).events().await;
    second.take(5).await;
    drop(first);
    let left = Instant::now();
    // As long as it takes: the stream goes on well beyond the grace.
    let mut taken = 5;
    while left.elapsed() < 3 * grace {
        second.event().await;
        taken += 1;
    }
    assert_eq!(fleet.service.asked(&talk)[0].state, Answering::Going, "after {taken} events");
    drop(second);
    let hung_up = |asked: &[Asked]| asked[0].state == Answering::HungUp;
    fleet.service.until("the owner to hang up", &talk, hung_up).await;
    let asked = fleet.service.asked(&talk);
    assert!(asked.len() == 1 && asked[0].written < 200, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_session_of_the_other_replica_looks_exactly_like_an_unknown_one() {
    let fleet = Fleet::of(2, "[retry_hint]\njitter = 0").await;
    let [a, b] = fleet.replicas.as_slice() else { panic!("two replicas") };
    let talk = Talk::plain(20, 1);
    let reply = a.ask(&talk).caller("alice").events().await;
    let session = reply.session();
    assert_eq!(reply.rest().await.len(), 21);
    let unknown = "AAAAAAAAAAAAAAAAAAAAAA";
    let questions = |session: &str| {
        let last = format!("{session}.0.1");
        let events = |request: Request| request.header("accept", "text/event-stream");
        [
            b.session("GET", session),
            b.session("DELETE", session),
            events(b.session("GET", session)),
            events(b.session("GET", session)).after(&last),
            events(b.request("GET", &talk.path())).after(&last),
            b.ask(&talk).after(&last),
            events(b.ask(&talk)).after(&last),
        ]
    };
    for (foreign, unknown) in questions(&session).into_iter().zip(questions(unknown)) {
        let asked = format!("{foreign:?}");
        let ask = |request: Request| request.caller("mallory").header("x-request-id", "r1").send();
        let (foreign, unknown) = (whole(ask(foreign).await).await, whole(ask(unknown).await).await);
        assert_eq!(foreign, unknown, "{asked}");
        assert!(foreign.0 == 404 || String::from_utf8_lossy(&foreign.2).contains("session_not_found"), "{asked}");
    }
    let own = b.session("GET", &session).caller("alice").events().await;
    assert_eq!(own.rest().await.len(), 21, "its owner finds it there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_holds_events_and_neither_prompts_nor_credentials() {
    let mut password = tempfile::NamedTempFile::new().expect("a temporary file");
    password.write_all(b"the-password").expect("written");
    let store = format!("[store]\npassword = {{ file = '{}' }}", password.path().display());
    let fleet = Fleet::on(Redis::guarded("the-password").await, 2, &store).await;
    let (plain, chat) = (Talk::plain(20, 1), Talk::chat(20, 1));
    for talk in [&plain, &chat] {
        let rider = fleet.rider(talk).header("authorization", "Bearer canary-token").header("x-api-key", "canary-key");
        let rider = rider.header("idempotency-key", &format!("canary-idempotency-{}", talk.key));
        let told = rider.cut_at([5]).ride(other(0)).told().await;
        told.must_be_whole();
    }
    let dump = fleet.redis.dump().await;
    let holds = |text: &str| dump.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&plain.said(7)), "events are there, or this would prove nothing");
    for secret in ["canary", "prompt of", "the-password"] {
        assert!(!holds(secret), "{secret} is in Redis");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_seen_whole_leaves_redis_after_its_retention() {
    let fleet = Fleet::of(1, "[session]\nretention = '1s'").await;
    let talk = Talk::plain(20, 1);
    fleet.rider(&talk).ride(at(0)).told().await.must_be_whole();
    eventually("its keys to expire", async || fleet.redis.keys("sk:*log").await.is_empty()).await;
    eventually("all but the lease to expire", async || {
        let keys = fleet.redis.keys("sk:*").await;
        keys.iter().all(|key| key.contains(":replica:"))
    })
    .await;
}
