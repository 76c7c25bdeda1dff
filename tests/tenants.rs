//! Two callers before one proxy: neither gets a byte of the other's sessions, nor learns that they exist.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::events::data;
use support::{Proxy, Reply, Request, Upstream, upstream};

const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The credential headers of one caller.
type Caller = BTreeMap<&'static str, String>;

fn caller(token: &str) -> Caller {
    BTreeMap::from([("authorization", format!("Bearer {token}"))])
}

fn as_caller(request: Request, caller: &Caller) -> Request {
    caller.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// All of a reply that a caller can tell apart.
async fn whole(reply: Reply) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = reply.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (reply.status, headers, reply.bytes().await)
}

/// Every way to ask for `session`.
fn questions(proxy: &Proxy, session: &str) -> Vec<Request> {
    let last = format!("{session}.0.1");
    let events = |request: Request| request.header("accept", "text/event-stream");
    vec![
        proxy.session("GET", session),
        proxy.session("HEAD", session),
        events(proxy.session("GET", session)),
        events(proxy.session("GET", session)).after(&last),
        events(proxy.session("GET", &format!("{session}?last_event_id={last}"))),
        proxy.session("DELETE", session),
        proxy.session("PUT", session),
        proxy.get("/chat").after(&last),
        events(proxy.get("/chat")).after(&last),
        proxy.post("/chat").json("{}").after(&last),
        proxy.chat().after(&last),
    ]
}

/// Asserts that `stranger` sees of `session` what anybody sees of a session that never was.
async fn is_hidden(proxy: &Proxy, session: &str, stranger: &Caller) {
    let foreign = questions(proxy, session);
    for (foreign, unknown) in foreign.into_iter().zip(questions(proxy, UNKNOWN)) {
        let asked = format!("{foreign:?}");
        let ask = |request: Request| as_caller(request, stranger).header("x-request-id", "r1").send();
        let (foreign, unknown) = (whole(ask(foreign).await).await, whole(ask(unknown).await).await);
        assert_eq!(foreign, unknown, "{asked}");
        assert_eq!(foreign.0, 404, "{asked}");
    }
}

async fn one_event() -> Upstream {
    upstream().event("secret").end().start().await
}

#[tokio::test]
async fn a_foreign_session_looks_exactly_like_an_unknown_one() {
    let llm = one_event().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.get("/chat").caller("alice").events().await;
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-cache, no-store, no-transform"));
    let session = reply.session();
    reply.rest().await;
    is_hidden(&proxy, &session, &caller("bob")).await;
    is_hidden(&proxy, &session, &Caller::new()).await;
    // The owner still has it: nothing above stopped it.
    let own = proxy.session("GET", &session).caller("alice").events().await;
    assert_eq!(data(&own.rest().await), ["secret"]);
    assert_eq!(proxy.session("DELETE", &session).caller("alice").send().await.status, 204);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_session_without_credentials_is_not_for_callers_with_some() {
    let llm = one_event().await;
    let proxy = Proxy::before(&llm, "").await;
    let session = proxy.get("/chat").events().await.session();
    is_hidden(&proxy, &session, &caller("bob")).await;
    assert_eq!(data(&proxy.session("GET", &session).events().await.rest().await), ["secret"]);
}

#[tokio::test]
async fn keys_of_different_callers_never_meet() {
    let llm = upstream().event("secret").id("1").event("more").id("2").end().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\nsession_key = { query = 's' }").await;
    let once = |token: &str| proxy.post("/chat?s=7").json("{}").caller(token).header("idempotency-key", "k").events();
    let (alice, bob) = (once("alice").await, once("bob").await);
    assert_ne!(alice.session(), bob.session());
    assert_eq!(llm.requests(), 2);
    // Nor does a reused key say that somebody else used it for another body.
    let other = proxy.post("/chat?s=7").json("[]").caller("carol").header("idempotency-key", "k").events().await;
    assert_eq!(llm.requests(), 3);
    other.rest().await;
    // Dave knows Alice's session key and a valid id: his question goes to the upstream, with his credentials.
    proxy.get("/chat?s=7").caller("dave").after("1").events().await.rest().await;
    let asked = llm.request(4);
    assert_eq!(asked.header("authorization").as_deref(), Some("Bearer dave"));
    assert_eq!(asked.header("last-event-id").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_cookie_that_a_route_takes_for_a_credential_tells_callers_apart() {
    let llm = one_event().await;
    let proxy = Proxy::before(&llm, "[[routes]]\ncredential_cookies = ['login']").await;
    let with = |request: Request, cookie: &str| request.header("cookie", cookie);
    let reply = with(proxy.get("/chat"), "theme=dark; login=alice").events().await;
    let session = reply.session();
    reply.rest().await;
    is_hidden(&proxy, &session, &BTreeMap::from([("cookie", "login=bob".to_owned())])).await;
    is_hidden(&proxy, &session, &BTreeMap::from([("cookie", "theme=dark".to_owned())])).await;
    let own = with(proxy.session("GET", &session), "login=alice; theme=light").events().await;
    assert_eq!(data(&own.rest().await), ["secret"]);
}

fn any_caller() -> impl Strategy<Value = Caller> {
    let name = prop::sample::select(vec!["authorization", "x-api-key", "api-key", "x-goog-api-key"]);
    // Few and similar values, so that callers who differ in one place only are common.
    let value = "(Bearer )?[ab]{1,2}";
    prop::collection::btree_map(name, value, 0..=3)
}

/// Invariant I8, over callers whose credentials differ in any way.
#[test]
fn no_two_different_callers_share_a_session() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (proxy, _llm) = runtime.block_on(async {
        let llm = one_event().await;
        (Proxy::before(&llm, "").await, llm)
    });
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(any_caller(), any_caller()), |(owner, other)| {
            runtime.block_on(async {
                let reply = as_caller(proxy.get("/chat"), &owner).events().await;
                let session = reply.session();
                reply.rest().await;
                if owner == other {
                    let own = as_caller(proxy.session("GET", &session), &other).events().await;
                    assert_eq!(data(&own.rest().await), ["secret"]);
                } else {
                    is_hidden(&proxy, &session, &other).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
