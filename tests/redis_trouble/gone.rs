//! Redis goes away, or stands still.

use std::time::Duration;

use super::replicas_support::{Fleet, Redis, Talk, at, eventually, other};
use super::{Load, STORE, for_a_while, goes_on_in_memory, is_durable_again, warnings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let mut fleet = Fleet::of(2, STORE).await;
    let load = Load::begin(&fleet, 180).await;
    fleet.redis.kill();
    fleet.until_store_is(false).await;
    load.hop();
    goes_on_in_memory(&fleet).await;
    for_a_while().await;
    fleet.redis.revive().await;
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.hop();
    let back = load.judged(&fleet).await;
    let refused = back.iter().flat_map(|told| &told.visits).filter(|visit| visit.over == "store_unavailable").count();
    assert!(refused > 0, "who came back meanwhile was asked to come again");
    for replica in 0..2 {
        let warnings = warnings(&fleet, replica);
        assert!((1..10).contains(&warnings), "{warnings} warnings\n{}", fleet.replicas[replica].log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stands_still_for_five_seconds() {
    let fleet = Fleet::of(2, STORE).await;
    let load = Load::begin(&fleet, 300).await;
    fleet.redis.stop();
    fleet.until_store_is(false).await;
    load.hop();
    goes_on_in_memory(&fleet).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.redis.go_on();
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.hop();
    load.judged(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_not_there_at_the_start() {
    let mut fleet = Fleet::on(Redis::down(), 2, STORE).await;
    fleet.until_store_is(false).await;
    goes_on_in_memory(&fleet).await;
    // Begun in memory, and everybody's as soon as there is a Redis.
    let talk = Talk::plain(150, 20);
    let hops = fleet.rider(&talk).ride(other(0));
    hops.has(5).await;
    fleet.redis.revive().await;
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    eventually("what began in memory to be written", async || fleet.redis.keys("sk:*:log").await.len() >= 3).await;
    hops.leave();
    let told = hops.told().await;
    told.must_be_whole();
    assert_eq!(told.visits[0].header("streamkeeper-durability"), Some("memory"), "{}", told.story());
    assert_eq!(fleet.service.asked(&talk).len(), 1, "{}", told.story());
    for replica in 0..2 {
        let warnings = warnings(&fleet, replica);
        assert!((1..10).contains(&warnings), "{warnings} warnings\n{}", fleet.replicas[replica].log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_policy_nothing_new_begins_without_redis_and_what_runs_goes_on() {
    let store = format!("{STORE}on_failure = 'refuse'\n");
    let mut fleet = Fleet::of(2, &store).await;
    let (stays, waits) = (Talk::plain(150, 20), Talk::plain(20, 5));
    let stays = fleet.rider(&stays).ride(at(0));
    stays.has(5).await;
    fleet.redis.kill();
    fleet.until_store_is(false).await;
    for replica in &fleet.replicas {
        let refused = replica.ask(&Talk::plain(5, 1)).header("accept", "text/event-stream").send().await;
        assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "at {}", replica.name);
        assert_eq!(refused.json().await["code"], "store_unavailable");
    }
    // A client that does as it is told gets its answer once Redis is back.
    let waits = fleet.rider(&waits).ride(other(0));
    stays.has(60).await;
    fleet.redis.revive().await;
    stays.told().await.must_be_whole();
    let waited = waits.told().await;
    waited.must_be_whole();
    assert!(waited.visits.len() > 1, "{}", waited.story());
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shown_only_when_safe_means_waiting_for_redis_or_memory_never_losing() {
    let store = format!("{STORE}acknowledged = true\n");
    let mut fleet = Fleet::of(2, &store).await;
    let load = Load::begin(&fleet, 160).await;
    fleet.redis.kill();
    fleet.until_store_is(false).await;
    load.hop();
    for_a_while().await;
    fleet.redis.revive().await;
    fleet.until_store_is(true).await;
    load.hop();
    load.judged(&fleet).await;
    is_durable_again(&fleet).await;
}
