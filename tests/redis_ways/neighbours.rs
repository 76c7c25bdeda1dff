//! Several in one Redis: fleets under prefixes of their own, and versions that store things differently.

use std::collections::HashMap;

use super::is_well;
use super::replicas_support::{Fleet, Redis, Replica, Talk};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fleets_under_two_prefixes_know_nothing_of_each_other() {
    let fleet = Fleet::on(Redis::start().await, 2, "[store]\nprefix = 'one'").await;
    let other = Replica::start("z", &fleet.service, &fleet.redis.url(), "[store]\nprefix = 'two:of-us'").await;
    is_well(&fleet).await;
    let talk = Talk::plain(20, 1);
    let mut sessions = HashMap::new();
    for replica in [&fleet.replicas[0], &other, &fleet.replicas[1]] {
        let reply = replica.ask(&talk).header("idempotency-key", "the same").events().await;
        sessions.insert(replica.name.clone(), reply.session());
        reply.rest().await;
    }
    assert_eq!(sessions["a"], sessions["b"]);
    assert_ne!(sessions["a"], sessions["z"], "the key is one of each fleet's own");
    assert_eq!(fleet.service.asked(&talk).len(), 2);
    assert_eq!(other.session("GET", &sessions["a"]).send().await.status, 404);
    assert_eq!(fleet.replicas[0].session("GET", &sessions["z"]).send().await.status, 404);
    let keys = fleet.redis.keys("*").await;
    let of = |prefix: &str| keys.iter().filter(|key| key.starts_with(prefix)).count();
    assert!(of("one:1:") > 0 && of("two:of-us:1:") > 0, "{keys:?}");
    assert_eq!(of("one:1:") + of("two:of-us:1:"), keys.len(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_version_left_behind_is_never_read_and_never_touched() {
    let fleet = Fleet::of(2, "").await;
    let talk = Talk::plain(30, 5);
    let hold = fleet.service.hold(&talk, 20);
    let mut reader = fleet.replicas[0].ask(&talk).header("idempotency-key", "key").events().await;
    reader.take(10).await;
    let session = reader.session();
    // All there is, as the next version would have it: the same session, the same name, the same replicas.
    let mut theirs = Vec::new();
    for key in fleet.redis.keys("sk:*").await {
        let other = key.replacen("sk:1:", "sk:2:", 1);
        assert_ne!(other, key, "a key without a version");
        fleet.redis.command(&["SET", &other, "of the next version"]).await;
        theirs.push(other);
    }
    assert!(theirs.len() >= 5, "{theirs:?}");
    let channels = fleet.redis.command(&["PUBSUB", "CHANNELS"]).await;
    assert!(channels.texts().len() == 2, "{channels:?}");
    for channel in channels.texts() {
        assert!(channel.starts_with("sk:1:"), "a channel without a version: {channel}");
        let other = channel.replacen("sk:1:", "sk:2:", 1);
        fleet.redis.command(&["PUBLISH", &other, &format!("s {session}")]).await;
    }
    hold.open();
    let second = fleet.replicas[1].ask(&talk).header("idempotency-key", "key").events().await;
    assert_eq!(second.session(), session);
    assert_eq!((reader.rest().await.len(), second.rest().await.len()), (21, 31));
    is_well(&fleet).await;
    for key in theirs {
        assert_eq!(fleet.redis.command(&["GET", &key]).await.text(), "of the next version", "{key}");
    }
    assert_eq!(fleet.metric("stream_store_errors_total", &[]).await, 0.0);
}
