//! Nobody listens: how long an upstream is read on, and when it is let go.

mod support;

use std::time::Duration;

use support::time::{advance, freeze, settle};
use support::{Proxy, upstream};

const GRACE: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_millis(100);

#[tokio::test]
async fn an_upstream_nobody_reads_is_closed_after_the_grace_time_and_not_before() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.event().await;
    drop(reply);
    advance(&proxy, GRACE - Duration::from_millis(1)).await;
    assert_eq!(llm.hung_up(), 0);
    assert_eq!(proxy.state(&session).await["state"], "live");
    advance(&proxy, SLACK).await;
    llm.closed().await;
    let state = proxy.state(&session).await;
    assert_eq!(state["state"], "failed");
    assert_eq!(state["error"]["code"], "session_gap");
    assert_eq!(state["last_seq"], 2, "the event, and the one that says how it ended");
}

#[tokio::test]
async fn who_comes_back_too_late_is_told_that_the_rest_was_never_made() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    drop(reply);
    advance(&proxy, GRACE + SLACK).await;
    llm.closed().await;
    let rest = proxy.get("/chat").after(a.id()).events().await.rest().await;
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].name.as_str(), &rest[0].json()["code"]), ("error", &"session_gap".into()));
}

#[tokio::test]
async fn a_client_that_comes_back_in_time_keeps_the_upstream() {
    let _frozen = freeze();
    let gate = support::Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    drop(reply);
    advance(&proxy, GRACE - Duration::from_secs(1)).await;
    let reply = proxy.get("/chat").after(a.id()).events().await;
    // The grace time of the first absence runs out while the client is there again.
    advance(&proxy, GRACE).await;
    assert_eq!(llm.hung_up(), 0);
    gate.open();
    assert_eq!(support::events::data(&reply.rest().await), ["b"]);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn every_absence_has_its_own_grace_time() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ntimeouts = { idle = '10m' }").await;
    let mut reply = proxy.get("/chat").events().await;
    let a = reply.event().await;
    for _ in 0..3 {
        drop(reply);
        advance(&proxy, GRACE - SLACK).await;
        reply = proxy.get("/chat").after(a.id()).events().await;
        settle(&proxy).await;
    }
    assert_eq!(llm.hung_up(), 0);
}

#[tokio::test]
async fn with_cancel_the_upstream_is_closed_at_once() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ndetach = { mode = 'cancel' }").await;
    let mut reply = proxy.get("/chat").events().await;
    reply.event().await;
    drop(reply);
    llm.closed().await;
}

#[tokio::test]
async fn with_continue_the_answer_is_read_to_its_end_and_can_be_had_later() {
    let _frozen = freeze();
    let gate = support::Gate::new();
    let llm = upstream().event("a").gate(&gate).event("b").event("c").end().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ndetach = { mode = 'continue' }").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    let a = reply.event().await;
    drop(reply);
    advance(&proxy, Duration::from_secs(50)).await;
    gate.open();
    settle(&proxy).await;
    assert_eq!(proxy.state(&session).await["state"], "finished");
    let rest = proxy.get("/chat").after(a.id()).events().await.rest().await;
    assert_eq!(support::events::data(&rest), ["b", "c"]);
    assert_eq!((llm.requests(), llm.hung_up()), (1, 0));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_takes_the_upstream_with_it() {
    let _frozen = freeze();
    let llm = upstream().hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let asked = proxy.get("/chat").header("accept", "text/event-stream").begin().await;
    llm.requested(1).await;
    drop(asked);
    llm.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_call_that_is_no_stream_takes_the_upstream_with_it() {
    let _frozen = freeze();
    let llm = upstream().hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let asked = proxy.get("/models").begin().await;
    llm.requested(1).await;
    drop(asked);
    llm.closed().await;
}

#[tokio::test]
async fn a_client_with_an_idempotency_key_may_leave_before_the_first_byte() {
    let _frozen = freeze();
    let gate = support::Gate::new();
    let llm = upstream().gate(&gate).event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let ask = || proxy.post("/chat").json("{}").header("idempotency-key", "k");
    let asked = ask().header("accept", "text/event-stream").begin().await;
    llm.requested(1).await;
    drop(asked);
    advance(&proxy, GRACE / 2).await;
    let (reply, ()) = tokio::join!(ask().events(), async { gate.open() });
    assert_eq!(support::events::data(&reply.rest().await), ["a"]);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn delete_closes_the_upstream_at_once_and_tells_whoever_listens() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let (session, a) = (reply.session(), reply.event().await);
    assert_eq!(proxy.session("DELETE", &session).send().await.status, 204);
    llm.closed().await;
    let rest = reply.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0].name, "error");
    assert_eq!(rest[0].json()["recoverable"], false);
    assert_eq!(proxy.session("GET", &session).send().await.status, 404);
    assert_eq!(proxy.get("/chat").after(a.id()).send().await.status, 404);
}

#[tokio::test]
async fn a_session_with_two_clients_outlives_the_first_to_leave() {
    let _frozen = freeze();
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ndetach = { mode = 'cancel' }").await;
    let mut first = proxy.get("/chat").events().await;
    let session = first.session();
    first.event().await;
    let mut second = proxy.session("GET", &session).events().await;
    second.event().await;
    drop(first);
    settle(&proxy).await;
    assert_eq!((llm.hung_up(), &proxy.state(&session).await["attached"]), (0, &1.into()));
    drop(second);
    llm.closed().await;
}

#[tokio::test]
async fn a_session_that_is_stopped_before_its_first_byte_answers_whoever_waits_for_it() {
    let _frozen = freeze();
    let llm = upstream().hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let waiting = proxy.get("/chat").header("accept", "text/event-stream").begin().await;
    llm.requested(1).await;
    let sessions = proxy.admin_get("/api/sessions").await.json().await;
    let session = sessions["sessions"][0]["session"].as_str().unwrap().to_owned();
    assert_eq!(proxy.session("DELETE", &session).send().await.status, 204);
    let reply = waiting.reply().await;
    assert_eq!((reply.status, &reply.json().await["code"]), (404, &"session_not_found".into()));
    llm.closed().await;
}

#[tokio::test]
async fn a_finished_session_is_kept_for_its_retention_and_then_forgotten() {
    let _frozen = freeze();
    let llm = upstream().events(["a", "b"]).end().start().await;
    let proxy = Proxy::before(&llm, "[session]\nretention = '1m'").await;
    let seen = proxy.get("/chat").events().await.rest().await;
    advance(&proxy, Duration::from_secs(59)).await;
    assert_eq!(support::events::data(&proxy.get("/chat").after(seen[0].id()).events().await.rest().await), ["b"]);
    advance(&proxy, Duration::from_secs(3)).await;
    assert_eq!(proxy.get("/chat").after(seen[0].id()).send().await.status, 404);
    assert_eq!(proxy.app.store.all().len(), 0);
}
