//! What the proxy puts into somebody else's stream, and where: retry hints, heartbeats, comments. The reader of the
//! stories refuses any block without data, so that rule is checked everywhere.

mod support;

use std::time::Duration;

use support::time::{advance, freeze};
use support::{Gate, Proxy, upstream};

/// The default interval of heartbeats, and the millisecond to which timers are rounded up.
const SILENCE: Duration = Duration::from_millis(15_001);

#[tokio::test]
async fn a_retry_hint_comes_once_for_each_connection_inside_the_first_block() {
    let llm = upstream().events(["a", "b", "c"]).end().start().await;
    let proxy = Proxy::before(&llm, "[retry_hint]\nbase = '2s'\njitter = 0.25").await;
    let first = proxy.get("/chat").events().await.rest().await;
    let again = proxy.get("/chat").after(first[0].id()).events().await.rest().await;
    for events in [&first, &again] {
        let hint = events[0].retry.expect("a hint in the first block");
        assert!((1500..=2500).contains(&hint), "{hint}");
        assert!(events[1..].iter().all(|event| event.retry.is_none()), "{events:?}");
    }
    assert_ne!(first[0].retry, again[0].retry, "hints are jittered");
}

#[tokio::test]
async fn a_failure_brings_a_larger_hint_of_its_own() {
    let llm = upstream().event("a").cut().start().await;
    let proxy = Proxy::before(&llm, "[retry_hint]\njitter = 0\n[[routes]]\nafter_partial = []").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert_eq!(events.iter().map(|event| event.retry).collect::<Vec<_>>(), [Some(1000), Some(5000)]);
}

#[tokio::test]
async fn without_hints_there_are_none() {
    let llm = upstream().event("a").cut().start().await;
    let proxy = Proxy::before(&llm, "[retry_hint]\nenabled = false\n[[routes]]\nafter_partial = []").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert!(events.iter().all(|event| event.retry.is_none()), "{events:?}");
}

#[tokio::test]
async fn the_upstreams_own_retry_hint_is_kept_and_has_the_last_word() {
    let llm = upstream().event("a").retry(77).event("b").event("c").retry(88).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert_eq!(events.iter().map(|event| event.retry).collect::<Vec<_>>(), [Some(77), None, Some(88)]);
}

#[tokio::test]
async fn a_silent_upstream_is_bridged_by_comments_of_one_line_each() {
    let _frozen = freeze();
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "[retry_hint]\nenabled = false").await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    let told = reply.raw().len();
    advance(&proxy, SILENCE).await;
    reply.until_raw(b": ka\n").await;
    advance(&proxy, SILENCE).await;
    reply.until_raw(b": ka\n: ka\n").await;
    assert_eq!(&reply.raw()[told..], b": ka\n: ka\n");
    gate.open();
    let b = reply.event().await;
    assert_eq!((b.data.as_str(), b.comments.len()), ("b", 2));
    assert_eq!(b.id().rsplit_once('.').unwrap().0, a.id().rsplit_once('.').unwrap().0);
}

#[tokio::test]
async fn heartbeats_begin_with_a_head_that_is_sent_before_any_event() {
    let _frozen = freeze();
    let gate = Gate::new();
    let llm = upstream().gate(&gate).event("a").end().start().await;
    let toml = "[heartbeat]\ninterval = '5s'\n[retry_hint]\nenabled = false\n[[routes]]\ncommit_after = '10s'";
    let proxy = Proxy::before(&llm, toml).await;
    let asked = proxy.get("/chat").header("accept", "text/event-stream").begin().await;
    llm.requested(1).await;
    advance(&proxy, Duration::from_millis(10_001)).await;
    let mut reply = asked.reply().await;
    assert_eq!(reply.status, 200);
    advance(&proxy, Duration::from_millis(5_001)).await;
    reply.until_raw(b": ka\n").await;
    gate.open();
    assert_eq!(reply.event().await.data, "a");
}

#[tokio::test]
async fn heartbeats_can_be_switched_off() {
    let _frozen = freeze();
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "[heartbeat]\ninterval = '0s'").await;
    let mut reply = proxy.get("/chat").events().await;
    reply.event().await;
    advance(&proxy, Duration::from_secs(50)).await;
    gate.open();
    assert_eq!(reply.event().await.comments, Vec::<String>::new());
}

#[tokio::test]
async fn an_upstreams_comments_come_inside_the_next_block_and_never_with_a_blank_line_of_their_own() {
    let llm =
        upstream().comment("ping").event("a").comment("ping - 2026").comment("more").event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].comments, ["ping"]);
    assert_eq!(events[1].comments, ["ping - 2026", "more"]);
}
