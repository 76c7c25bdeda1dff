//! Going away: unready at once, nothing new, what runs may finish, and whoever is still there is told.

mod support;

use std::time::Duration;

use support::events::data;
use support::time::{advance, freeze, settle};
use support::{Gate, Proxy, upstream};

#[tokio::test]
async fn a_draining_proxy_is_unready_takes_nothing_new_and_lets_running_streams_finish() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let mut proxy = Proxy::before(&llm, "[retry_hint]\njitter = 0").await;
    assert_eq!(proxy.admin_get("/readyz").await.status, 200);
    let mut running = proxy.get("/chat").events().await;
    let a = running.event().await;
    proxy.drain();
    settle(&proxy).await;
    assert_eq!(proxy.admin_get("/readyz").await.status, 503);
    assert_eq!(proxy.admin_get("/healthz").await.status, 200, "alive it still is");
    let refused = proxy.get("/chat").header("accept", "text/event-stream").send().await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert_eq!(refused.json().await["code"], "draining");
    assert_eq!(proxy.metric("stream_draining", &[]).await, 1.0);
    // Who belongs to a running stream may still come back to it, and is asked for more patience next time.
    let again = proxy.get("/chat").after(a.id()).events().await;
    gate.open();
    assert_eq!(data(&running.rest().await), ["b"]);
    let rest = again.rest().await;
    assert_eq!((data(&rest), rest[0].retry), (vec!["b"], Some(5000)));
    proxy.exited().await;
    assert_eq!((llm.requests(), llm.hung_up()), (1, 0));
}

#[tokio::test]
async fn a_proxy_with_nothing_to_do_exits_at_once() {
    let llm = upstream().event("a").end().start().await;
    let mut proxy = Proxy::before(&llm, "").await;
    proxy.get("/chat").events().await.rest().await;
    proxy.drain();
    proxy.exited().await;
}

#[tokio::test]
async fn calls_that_are_no_streams_are_waited_for_too() {
    let gate = Gate::new();
    let llm = upstream().head(200, &[]).body("first ").gate(&gate).body("second").end().start().await;
    let mut proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/file").send().await;
    reply.until_raw(b"first").await;
    proxy.drain();
    settle(&proxy).await;
    gate.open();
    assert_eq!(reply.text().await, "first second");
    proxy.exited().await;
}

#[tokio::test]
async fn streams_that_outlast_the_timeout_end_with_a_draining_event() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let mut proxy = Proxy::before(&llm, "[drain]\ntimeout = '20s'").await;
    let mut running = proxy.get("/chat").events().await;
    running.event().await;
    proxy.drain();
    advance(&proxy, Duration::from_millis(19_900)).await;
    assert_eq!(llm.hung_up(), 0);
    advance(&proxy, Duration::from_millis(101)).await;
    let rest = running.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    let error = rest[0].json();
    assert_eq!((&error["code"], &error["recoverable"]), (&"draining".into(), &true.into()));
    assert!(rest[0].retry.is_some() && error["retry_after_ms"].is_u64(), "an invitation to come back");
    llm.closed().await;
    let (served, moved) = (proxy.exited(), async {
        // The last looks of the drain, and no more than its slack.
        for _ in 0..30 {
            tokio::time::advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
    });
    tokio::join!(served, moved);
}

#[tokio::test]
async fn a_session_nobody_listens_to_is_still_read_to_its_end_while_draining() {
    let _frozen = freeze();
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let mut proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    drop(reply);
    proxy.drain();
    advance(&proxy, Duration::from_secs(5)).await;
    let again = proxy.get("/chat").after(a.id()).events().await;
    gate.open();
    assert_eq!(data(&again.rest().await), ["b"]);
}
