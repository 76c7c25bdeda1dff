//! Redis is there, and has forgotten something: all of it, some keys, or the last that was written.

use super::replicas_support::{Fleet, Redis};
use super::{Load, STORE, is_durable_again};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed() {
    let fleet = Fleet::of(2, STORE).await;
    let load = Load::begin(&fleet, 160).await;
    fleet.redis.command(&["FLUSHALL"]).await;
    load.hop();
    load.have(40).await;
    is_durable_again(&fleet).await;
    fleet.redis.command(&["FLUSHALL"]).await;
    load.have(60).await;
    load.hop();
    load.judged(&fleet).await;
    assert!(fleet.metric("stream_store_errors_total", &[("kind", "lost")]).await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_evicts_one_key_after_the_other() {
    for part in ["log", "meta"] {
        let fleet = Fleet::of(2, STORE).await;
        let load = Load::begin(&fleet, 120).await;
        for round in 0..2 {
            for key in fleet.redis.keys(&format!("sk:*:{part}")).await {
                fleet.redis.command(&["DEL", &key]).await;
            }
            // What is evicted is there again as soon as its owner has more to say.
            load.have(40 + 30 * round).await;
            load.hop();
        }
        let back = load.judged(&fleet).await;
        let ends: Vec<_> = back.iter().map(|told| &told.end).collect();
        assert!(back.iter().all(|told| told.whole().is_ok()), "without its {part}s: {ends:?}");
        is_durable_again(&fleet).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_fails_over_to_a_replica_that_lacks_the_tail() {
    let mut fleet = Fleet::of(2, STORE).await;
    let mut replica = Redis::start().await;
    let load = Load::begin(&fleet, 180).await;
    replica.follow(&fleet.redis).await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    let tail = replica.dump().await;
    load.have(60).await;
    load.hop();
    load.have(80).await;
    assert!(!tail.is_empty());
    fleet.redis.kill();
    fleet.until_store_is(false).await;
    load.hop();
    replica.take_over(&fleet.redis).await;
    std::mem::swap(&mut fleet.redis, &mut replica);
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.hop();
    load.judged(&fleet).await;
    assert!(fleet.metric("stream_store_errors_total", &[("kind", "lost")]).await > 0.0);
}
