//! Joining a session by another name: the Idempotency-Key of a repeated request, and the session key of an app whose
//! upstream numbers its own events.

mod support;

use support::events::{data, ids};
use support::{Gate, Proxy, Request, upstream};

/// A POST with a key and a body.
fn keyed(proxy: &Proxy, key: &str, body: &str) -> Request {
    proxy.post("/chat").json(body).header("idempotency-key", key)
}

#[tokio::test]
async fn a_repeated_request_joins_the_running_one_even_before_its_first_event() {
    let gate = Gate::new();
    let llm = upstream().gate(&gate).events(["a", "b"]).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let opened = async {
        llm.requested(1).await;
        gate.open();
    };
    let ask = || keyed(&proxy, "k", "{}").events();
    let (first, second, ()) = tokio::join!(ask(), ask(), opened);
    assert_eq!(first.session(), second.session());
    let whole = first.rest().await;
    assert_eq!(data(&whole), ["a", "b"]);
    assert_eq!(ids(&second.rest().await), ids(&whole));
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_repeated_request_after_the_end_is_a_replay() {
    let llm = upstream().events(["a", "b"]).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let whole = keyed(&proxy, "k", "{}").events().await.rest().await;
    let again = keyed(&proxy, "k", "{}").events().await;
    assert_eq!(again.header("streamkeeper-source").as_deref(), Some("replay"));
    assert_eq!(ids(&again.rest().await), ids(&whole));
    let other = keyed(&proxy, "another", "{}").events().await.rest().await;
    assert_ne!(ids(&other), ids(&whole));
    assert_eq!(llm.requests(), 2);
}

#[tokio::test]
async fn a_key_that_is_used_again_for_something_else_is_refused() {
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    keyed(&proxy, "k", r#"{"q":1}"#).events().await.rest().await;
    let other_body = keyed(&proxy, "k", r#"{"q":2}"#);
    let other_path = proxy.post("/other").json(r#"{"q":1}"#).header("idempotency-key", "k");
    for other in [other_body, other_path] {
        let reply = other.header("accept", "text/event-stream").send().await;
        assert_eq!((reply.status, &reply.json().await["code"]), (422, &"invalid_request".into()));
    }
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_request_that_failed_is_tried_anew_under_the_same_key() {
    let broken = upstream().event("a").cut();
    let refused = upstream().json(400, r#"{"error":"no"}"#);
    let llm = broken.then(refused).then(upstream().event("b").end()).start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\nafter_partial = []").await;
    let failed = keyed(&proxy, "k", "{}").events().await.rest().await;
    assert_eq!(failed.last().unwrap().json()["code"], "upstream_reset");
    let reply = keyed(&proxy, "k", "{}").header("accept", "text/event-stream").send().await;
    assert_eq!(reply.status, 400);
    assert_eq!(data(&keyed(&proxy, "k", "{}").events().await.rest().await), ["b"]);
    assert_eq!(llm.requests(), 3);
}

const BY_QUERY: &str = "[[routes]]\nsession_key = { query = 'session_id' }";

/// An app that numbers its own events.
fn numbered() -> support::Script {
    upstream().event("a").id("10").event("b").id("11").event("c").id("12").end()
}

#[tokio::test]
async fn an_upstream_that_numbers_its_events_keeps_its_ids_and_is_not_asked_twice() {
    let llm = numbered().start().await;
    let proxy = Proxy::before(&llm, BY_QUERY).await;
    let whole = proxy.get("/chat?session_id=7").events().await.rest().await;
    assert_eq!(ids(&whole), ["10", "11", "12"]);
    let rest = proxy.get("/chat?session_id=7").after("10").events().await.rest().await;
    assert_eq!(ids(&rest), ["11", "12"]);
    let seen_whole = proxy.get("/chat?session_id=7").after("12").send().await;
    assert_eq!(seen_whole.status, 204);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn what_the_ring_does_not_have_is_asked_of_the_upstream_in_the_clients_own_words() {
    let llm = numbered().start().await;
    let proxy = Proxy::before(&llm, BY_QUERY).await;
    proxy.get("/chat?session_id=7").events().await.rest().await;
    for (number, (path, id)) in [("/chat?session_id=7", "3"), ("/chat?session_id=8", "10")].into_iter().enumerate() {
        proxy.get(path).after(id).events().await.rest().await;
        let asked = llm.request(number + 2);
        assert_eq!((asked.path.as_str(), asked.header("last-event-id").as_deref()), (path, Some(id)));
    }
    assert_eq!(llm.requests(), 3);
}

#[tokio::test]
async fn a_session_key_without_a_last_event_id_begins_a_new_session() {
    let llm = numbered().start().await;
    let proxy = Proxy::before(&llm, BY_QUERY).await;
    let first = proxy.get("/chat?session_id=7").events().await;
    let second = proxy.get("/chat?session_id=7").events().await;
    assert_ne!(first.session(), second.session());
    assert_eq!(data(&second.rest().await), ["a", "b", "c"]);
    assert_eq!(llm.requests(), 2);
}

#[tokio::test]
async fn a_session_key_may_be_a_header_or_a_cookie() {
    let llm = numbered().start().await;
    for (toml, name, value) in [
        ("[[routes]]\nsession_key = { header = 'x-session' }", "x-session", "7"),
        ("[[routes]]\nsession_key = { cookie = 'sid' }", "cookie", "theme=dark; sid=7"),
    ] {
        let proxy = Proxy::before(&llm, toml).await;
        let before = llm.requests();
        proxy.get("/chat").header(name, value).events().await.rest().await;
        let rest = proxy.get("/chat").header(name, value).after("11").events().await.rest().await;
        assert_eq!(ids(&rest), ["12"]);
        assert_eq!(llm.requests(), before + 1);
    }
}

#[tokio::test]
async fn a_session_of_kept_ids_is_also_read_on_its_own_path() {
    let llm = numbered().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.rest().await;
    let rest = proxy.session("GET", &session).after("11").events().await.rest().await;
    assert_eq!(ids(&rest), ["12"]);
    let unknown = proxy.session("GET", &session).after("3").events().await.rest().await;
    assert_eq!((unknown[0].name.as_str(), &unknown[0].json()["reason"]), ("gap", &"evicted".into()));
    assert_eq!(ids(&unknown[1..]), ["10", "11", "12"]);
}

#[tokio::test]
async fn issued_ids_take_the_place_of_the_upstreams_and_ids_that_are_off_appear_nowhere() {
    let llm = numbered().start().await;
    let issuing = Proxy::before(&llm, "[[routes]]\nids = 'issue'").await;
    let reply = issuing.get("/chat").events().await;
    let session = reply.session();
    assert_eq!(ids(&reply.rest().await), [1, 2, 3].map(|seq| format!("{session}.0.{seq}")));
    let silent = Proxy::before(&llm, "[[routes]]\nids = 'off'").await;
    let events = silent.get("/chat").events().await.rest().await;
    assert_eq!(data(&events), ["a", "b", "c"]);
    assert!(events.iter().all(|event| event.id.is_none()), "{events:?}");
    // Whatever id such a client sends is the upstream's business.
    silent.get("/chat").after(&format!("{session}.0.1")).events().await.rest().await;
    assert_eq!(llm.request(3).header("last-event-id"), Some(format!("{session}.0.1")));
}
