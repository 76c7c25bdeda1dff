//! Coming back: where a client stood, what it gets then, and what it never gets twice.

mod support;

use support::events::{data, ids};
use support::{Gate, Proxy, Request, upstream};

/// Three events and a clean end.
fn abc() -> support::Script {
    upstream().events(["a", "b", "c"]).end()
}

/// Takes two events and leaves; the id of the second.
async fn leave_after_two(request: Request) -> String {
    let mut reply = request.events().await;
    let seen = reply.take(2).await;
    seen[1].id().to_owned()
}

#[tokio::test]
async fn a_client_that_was_cut_gets_the_rest_on_the_apps_own_path() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let last = leave_after_two(proxy.get("/chat")).await;
    let again = proxy.get("/chat").after(&last).events().await;
    assert_eq!(again.header("streamkeeper-source").as_deref(), Some("replay"));
    assert_eq!(data(&again.rest().await), ["c"]);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_client_that_was_cut_gets_the_rest_with_the_same_post() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let ask = || proxy.post("/chat").json(r#"{"q":1}"#);
    let last = leave_after_two(ask()).await;
    assert_eq!(data(&ask().after(&last).events().await.rest().await), ["c"]);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_session_is_read_on_its_own_path_from_the_start_or_from_where_the_client_stands() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    let seen = reply.take(3).await;
    assert_eq!(ids(&seen), [1, 2, 3].map(|seq| format!("{session}.0.{seq}")));
    let by_header = proxy.session("GET", &session).after(seen[0].id()).events().await;
    assert_eq!(data(&by_header.rest().await), ["b", "c"]);
    let by_query = proxy.session("GET", &format!("{session}?last_event_id={}", seen[1].id())).events().await;
    assert_eq!(data(&by_query.rest().await), ["c"]);
    let whole = proxy.session("GET", &session).events().await;
    assert_eq!(ids(&whole.rest().await), ids(&seen));
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn the_head_of_a_stream_says_whose_it_is_and_where_it_comes_from() {
    let head =
        [("content-type", "text/event-stream"), ("set-cookie", "sid=1"), ("x-request-id", "theirs"), ("x-app", "1")];
    let llm = upstream().head(200, &head).event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let first = proxy.get("/chat").header("x-request-id", "mine").events().await;
    let session = first.session();
    assert_eq!(session.len(), 22);
    for (name, value) in [
        ("streamkeeper-source", "live"),
        ("streamkeeper-durability", "memory"),
        ("x-request-id", "mine"),
        ("x-upstream-request-id", "theirs"),
        ("x-accel-buffering", "no"),
        ("cache-control", "no-cache, no-transform"),
        ("x-app", "1"),
        ("set-cookie", "sid=1"),
    ] {
        assert_eq!(first.header(name).as_deref(), Some(value), "{name}");
    }
    first.rest().await;
    let again = proxy.session("GET", &session).events().await;
    assert_eq!(again.header("set-cookie"), None, "a cookie is for the one who was given it");
}

#[tokio::test]
async fn several_clients_of_one_session_see_the_same() {
    let gate = Gate::new();
    let llm = upstream().event("a").gate(&gate).events(["b", "c"]).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut first = proxy.get("/chat").events().await;
    let a = first.event().await;
    let attach = || proxy.session("GET", a.id().split('.').next().unwrap()).events();
    let (mut second, third) = tokio::join!(attach(), attach());
    assert_eq!(second.event().await.id, a.id);
    gate.open();
    let whole = third.rest().await;
    assert_eq!(data(&whole), ["a", "b", "c"]);
    assert_eq!(ids(&first.rest().await), ids(&whole[1..]));
    assert_eq!(ids(&second.rest().await), ids(&whole[1..]));
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn a_finished_session_that_was_seen_whole_stops_an_event_source_and_ends_a_repeated_post() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let seen = proxy.get("/chat").events().await.rest().await;
    let last = seen[2].id();
    for get in [proxy.get("/chat").after(last), proxy.session("GET", last.split('.').next().unwrap()).after(last)] {
        let reply = get.header("accept", "text/event-stream").send().await;
        assert_eq!(reply.status, 204);
    }
    let repeated = proxy.post("/chat").json("{}").after(last).events().await;
    assert_eq!(repeated.rest().await, []);
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn an_unknown_session_is_not_found_by_get_and_told_inside_a_stream_by_post() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let gone = "AAAAAAAAAAAAAAAAAAAAAA.0.7";
    let reply = proxy.get("/chat").header("accept", "text/event-stream").after(gone).send().await;
    assert_eq!((reply.status, &reply.json().await["code"]), (404, &"session_not_found".into()));
    // fetch-event-source would ask for ever after a status; a clean end after an event stops it.
    let told = proxy.post("/chat").json("{}").after(gone).events().await.rest().await;
    assert_eq!((told.len(), &told[0].json()["code"]), (1, &"session_not_found".into()));
    assert_eq!(llm.requests(), 0);
}

#[tokio::test]
async fn evicted_events_are_named_in_a_gap_event_without_an_id_and_the_tail_follows() {
    let gate = Gate::new();
    let llm = upstream().event("1").gate(&gate).events(["2", "3", "4", "5"]).end().start().await;
    let proxy = Proxy::before(&llm, "[session]\nmax_events = 2").await;
    let mut reply = proxy.get("/chat").events().await;
    let one = reply.event().await;
    drop(reply);
    let all = proxy.get("/chat").after(one.id()).events().await;
    gate.open();
    drop(all);
    let late = loop {
        let state = proxy.state(one.id().split('.').next().unwrap()).await;
        if state["state"] == "finished" {
            assert_eq!((&state["first_seq"], &state["evicted"]), (&4.into(), &3.into()));
            break proxy.get("/chat").after(one.id()).events().await.rest().await;
        }
    };
    assert_eq!((late[0].name.as_str(), late[0].id.as_deref()), ("gap", None));
    assert_eq!(late[0].json(), serde_json::json!({ "from": 2, "to": 3, "reason": "evicted" }));
    assert_eq!(data(&late[1..]), ["4", "5"]);
}

#[tokio::test]
async fn a_wire_without_room_for_a_gap_event_gets_the_standard_error_instead() {
    let chunk = |n: u32| format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":"{n}"}}}}]}}"#);
    let llm = upstream().events((1..=5).map(chunk)).event("[DONE]").end().start().await;
    let proxy = Proxy::before(&llm, "[session]\nmax_events = 2").await;
    let mut reply = proxy.chat().events().await;
    let session = reply.session();
    while reply.next().await.is_some() {}
    let told = proxy.chat().after(&format!("{session}.0.1")).events().await.rest().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].id.as_deref(), told[0].name.as_str()), (None, ""));
    assert_eq!(told[0].json()["error"]["code"], "session_gap");
}

#[tokio::test]
async fn in_strict_mode_a_gap_is_refused_with_410() {
    let llm = upstream().events(["1", "2", "3", "4"]).end().start().await;
    let proxy = Proxy::before(&llm, "[session]\nmax_events = 2\n[[routes]]\nstrict_resume = true").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    while reply.next().await.is_some() {}
    let reply = proxy.get("/chat").after(&format!("{session}.0.1")).send().await;
    assert_eq!((reply.status, &reply.json().await["code"]), (410, &"session_gap".into()));
}

#[tokio::test]
async fn an_id_from_the_future_or_from_another_epoch_is_answered_from_the_start_after_a_gap() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.take(3).await;
    for id in ["0.999", "7.1"] {
        let events = proxy.get("/chat").after(&format!("{session}.{id}")).events().await.rest().await;
        assert_eq!((events[0].name.as_str(), events[0].id.as_deref()), ("gap", None));
        assert_eq!(events[0].json()["reason"], "epoch");
        assert_eq!(data(&events[1..]), ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn an_id_that_is_broken_doubled_or_too_long_is_refused_and_never_reaches_the_upstream() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\nids = 'issue'").await;
    let session = "AAAAAAAAAAAAAAAAAAAAAA";
    let broken = [
        format!("{session}.0"),
        format!("{session}.0.+1"),
        format!("{session}.0.01"),
        format!("{session}.0.1 x"),
        format!("{session}.0.99999999999999999999"),
        "*".to_owned(),
        "1".repeat(129),
        format!("{session}.0.\u{e9}"),
    ];
    for id in &broken {
        let reply = proxy.get("/chat").header("accept", "text/event-stream").after(id).send().await;
        assert_eq!(reply.status, 400, "{id}");
        let text = reply.text().await;
        assert!(text.contains("Last-Event-ID") && !text.contains(id), "{text}");
    }
    let twice = proxy.get("/chat").after("x").after("x").send().await;
    assert_eq!(twice.status, 400);
    assert_eq!(llm.requests(), 0);
    let reply = proxy.get("/chat").events().await;
    let real = reply.session();
    reply.rest().await;
    let own_path = |id: &str| proxy.session("GET", &real).header("accept", "text/event-stream").after(id).send();
    for id in &broken {
        assert_eq!(own_path(id).await.status, 400, "{id}");
    }
    assert_eq!(own_path(&format!("{session}.0.1")).await.status, 400, "an id of another session");
    let both = proxy.session("GET", &format!("{real}?last_event_id={real}.0.1")).after(&format!("{real}.0.2"));
    assert_eq!(both.header("accept", "text/event-stream").send().await.status, 400);
}

#[tokio::test]
async fn an_empty_last_event_id_counts_as_none() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    assert_eq!(data(&proxy.get("/chat").after("").events().await.rest().await), ["a", "b", "c"]);
    let session = proxy.get("/chat").events().await.session();
    let own_path = proxy.session("GET", &format!("{session}?last_event_id=")).events().await;
    assert_eq!(data(&own_path.rest().await), ["a", "b", "c"]);
}

#[tokio::test]
async fn the_browser_client_is_served_as_it_is_in_the_repository() {
    let llm = abc().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.get("/_streamkeeper/client.js").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type").as_deref(), Some("text/javascript; charset=utf-8"));
    assert_eq!(reply.text().await, include_str!("../clients/js/streamkeeper.js"));
    assert_eq!(proxy.post("/_streamkeeper/client.js").send().await.status, 404);
    assert_eq!(llm.requests(), 0);
}
