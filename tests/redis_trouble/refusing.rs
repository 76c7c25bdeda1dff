//! Redis is there, and refuses: it is full, it is a read-only replica, or the password is wrong.

use std::io::Write as _;

use super::replicas_support::process::free_port;
use super::replicas_support::{Fleet, Redis};
use super::{Load, STORE, counted, for_a_while, goes_on_in_memory, is_durable_again};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_full() {
    let fleet = Fleet::of(2, STORE).await;
    let load = Load::begin(&fleet, 180).await;
    fleet.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    counted(&fleet, "refused").await;
    load.hop();
    goes_on_in_memory(&fleet).await;
    for_a_while().await;
    fleet.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.hop();
    load.judged(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_read_only() {
    let fleet = Fleet::of(2, STORE).await;
    let load = Load::begin(&fleet, 180).await;
    fleet.redis.command(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]).await;
    counted(&fleet, "refused").await;
    load.hop();
    goes_on_in_memory(&fleet).await;
    for_a_while().await;
    fleet.redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.hop();
    load.judged(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_wrong_at_the_start() {
    let mut password = tempfile::NamedTempFile::new().expect("a temporary file");
    password.write_all(b"not-the-password").expect("written");
    let store = format!("{STORE}password = {{ file = '{}' }}\n", password.path().display());
    let fleet = Fleet::on(Redis::guarded("the-password").await, 2, &store).await;
    counted(&fleet, "refused").await;
    goes_on_in_memory(&fleet).await;
    for replica in &fleet.replicas {
        assert!(!replica.log().contains("not-the-password"), "a password in the log of {}", replica.name);
    }
    let load = Load::begin(&fleet, 120).await;
    fleet.redis.change_password("not-the-password").await;
    fleet.until_store_is(true).await;
    is_durable_again(&fleet).await;
    load.judged(&fleet).await;
}
