//! Limits: what is too much, too large or too slow is refused clearly, visibly, and without harm to anybody else.

mod support;

use std::time::Duration;

use support::client::Connection;
use support::events::data;
use support::time::{advance, freeze};
use support::{BodyEnd, Proxy, Reply, upstream};

/// How often a limit of this name has refused. Each story of this file uses a name of its own.
async fn refusals(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metric("stream_limit_refusals_total", &[("name", limit)]).await
}

/// Asserts what a refusal looks like, and that it names the limit.
async fn is_refused(reply: Reply, status: u16, code: &str, limit: &str) {
    let (got, wait) = (reply.status, reply.header("retry-after"));
    let error = reply.json().await;
    assert_eq!((got, &error["code"]), (status, &code.into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains(limit), "{error}");
    assert_eq!(wait.is_some(), status == 503, "{wait:?}");
}

#[tokio::test]
async fn a_request_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nrequest_body = '1KiB'").await;
    let announced = proxy.post("/chat").header("accept", "text/event-stream").body("x".repeat(1025)).send().await;
    is_refused(announced, 413, "request_too_large", "limits.request_body").await;
    let mut connection = Connection::open(proxy.address).await;
    connection
        .write("POST /chat HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    connection.write(format!("401\r\n{}\r\n", "x".repeat(1025))).await;
    is_refused(connection.reply().await, 413, "request_too_large", "limits.request_body").await;
    let fits = proxy.post("/chat").body("x".repeat(1024)).events().await;
    assert_eq!(data(&fits.rest().await), ["a"]);
    assert_eq!((llm.requests(), refusals(&proxy, "request_body").await), (1, 2.0));
}

#[tokio::test]
async fn more_streams_than_allowed_are_told_to_come_back_later() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nsessions = 1\n[[routes]]\ndetach = { mode = 'cancel' }").await;
    let mut first = proxy.get("/chat").events().await;
    first.event().await;
    let second = proxy.get("/chat").header("accept", "text/event-stream").send().await;
    is_refused(second, 503, "overloaded", "limits.sessions").await;
    assert_eq!((llm.requests(), refusals(&proxy, "sessions").await), (1, 1.0));
    // Another client of the running one is no new stream.
    proxy.session("GET", &first.session()).events().await.event().await;
    drop(first);
    llm.closed().await;
    proxy.get("/chat").events().await.event().await;
}

#[tokio::test]
async fn one_caller_cannot_take_all_streams() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nsessions_per_principal = 1").await;
    let ask = |token: &str| proxy.get("/chat").caller(token).header("accept", "text/event-stream");
    let _alice = ask("alice").send().await;
    is_refused(ask("alice").send().await, 503, "overloaded", "limits.sessions_per_principal").await;
    assert_eq!(ask("bob").send().await.status, 200);
    let _first = proxy.get("/chat").events().await;
    let _second = proxy.get("/chat").events().await;
    assert_eq!(refusals(&proxy, "sessions_per_principal").await, 1.0);
}

#[tokio::test]
async fn a_session_has_only_so_many_readers() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nreaders_per_session = 2").await;
    let first = proxy.get("/chat").events().await;
    let attach = || proxy.session("GET", &first.session()).header("accept", "text/event-stream").send();
    let second = attach().await;
    assert_eq!(second.status, 200);
    is_refused(attach().await, 503, "overloaded", "limits.readers_per_session").await;
    assert_eq!(refusals(&proxy, "readers_per_session").await, 1.0);
}

#[tokio::test]
async fn when_memory_for_replay_is_short_finished_sessions_go_first_and_then_the_oldest_events() {
    let events = |count: usize| (0..count).map(|n| format!("{n:04}{}", "x".repeat(1020)));
    let gate = support::Gate::new();
    let short = upstream().events(events(20)).end();
    let long = upstream().events(events(20)).gate(&gate).events(events(60)).end();
    let llm = short.then(long).start().await;
    let toml = "[session]\nmax_bytes = '48KiB'\n[limits]\nring_bytes = '48KiB'\nevent = '16KiB'\nline = '16KiB'";
    let proxy = Proxy::before(&llm, toml).await;
    let first = proxy.get("/chat").events().await;
    let finished = first.session();
    assert_eq!(first.rest().await.len(), 20);
    let mut second = proxy.get("/chat").events().await;
    let growing = second.session();
    let seen = second.take(20).await;
    assert_eq!(proxy.session("GET", &finished).send().await.status, 200, "both fit");
    drop(second);
    gate.open();
    while proxy.state(&growing).await["state"] != "finished" {}
    assert_eq!(proxy.session("GET", &finished).send().await.status, 404);
    let state = proxy.state(&growing).await;
    assert!(state["ring_bytes"].as_u64().unwrap() <= 48 * 1024, "{state}");
    let rest = proxy.get("/chat").after(seen[19].id()).events().await.rest().await;
    let gap = rest[0].json();
    assert_eq!((rest[0].name.as_str(), &gap["from"]), ("gap", &21.into()));
    assert_eq!(gap["to"].as_u64().unwrap() + rest.len() as u64 - 1, 80, "the gap and the rest make up the whole");
}

#[tokio::test]
async fn an_event_that_is_too_large_ends_its_stream_and_is_never_delivered_in_part() {
    let llm = upstream().event("a").chunk(format!("data: {}\n", "x".repeat(3000))).hang().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nevent = '2KiB'\nline = '2KiB'").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert_eq!(events.len(), 2);
    let error = events[1].json();
    assert_eq!((&error["code"], &error["recoverable"]), (&"event_too_large".into(), &false.into()));
    llm.closed().await;
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn an_event_of_many_small_lines_is_bounded_too() {
    let llm = upstream().event("a").chunk("data: 0123456789\n".repeat(200)).hang().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nevent = '2KiB'\nline = '2KiB'").await;
    let events = proxy.get("/chat").events().await.rest().await;
    assert_eq!((events.len(), &events[1].json()["code"]), (2, &"event_too_large".into()));
}

#[tokio::test]
async fn a_whole_answer_in_place_of_a_stream_is_bounded() {
    let llm = upstream().json(200, &format!("{{\"a\":\"{}\"}}", "x".repeat(5000))).start().await;
    let proxy = Proxy::before(&llm, "[limits]\nanswer_body = '4KiB'\n[[routes]]\nfallback = { mode = 'off' }").await;
    let reply = proxy.get("/chat").header("accept", "text/event-stream").send().await;
    is_refused(reply, 502, "event_too_large", "limits.answer_body").await;
    // What merely passes is not held, and not bounded.
    assert_eq!(proxy.get("/json").send().await.bytes().await.len(), 5008);
}

#[tokio::test]
async fn too_many_headers_and_headers_too_large_are_refused_with_431() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "[limits]\nheaders = 10\nheader_bytes = '8KiB'").await;
    let many = (0..20).fold(proxy.get("/x"), |request, n| request.header(&format!("x-{n}"), "1"));
    assert_eq!(many.send().await.status, 431);
    assert_eq!(proxy.get("/x").header("x-long", &"x".repeat(9000)).send().await.status, 431);
    assert_eq!(proxy.get("/x").send().await.status, 200);
    assert_eq!((llm.requests(), refusals(&proxy, "headers").await), (1, 2.0));
}

#[tokio::test]
async fn a_request_head_that_comes_too_slowly_closes_its_connection() {
    let _frozen = freeze();
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    // An idle connection is closed after the same time, but nobody was refused anything.
    let idle = proxy.get("/x").send().await.finish().await;
    let mut slow = proxy.get("/x").send().await.finish().await;
    slow.write("GET /x HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    advance(&proxy, Duration::from_secs(9)).await;
    slow.write("1").await;
    advance(&proxy, Duration::from_millis(1002)).await;
    slow.until_closed().await;
    idle.until_closed().await;
    assert_eq!((llm.requests(), refusals(&proxy, "header_timeout").await), (2, 1.0));
}

#[tokio::test]
async fn a_request_body_that_comes_too_slowly_is_refused_with_408_read_or_passed() {
    let _frozen = freeze();
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "").await;
    for accept in ["text/event-stream", "application/json"] {
        let head = format!("POST /chat HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\ncontent-length: 10\r\n\r\n");
        let mut connection = Connection::open(proxy.address).await;
        connection.write(head).await;
        for part in ["12", "34"] {
            connection.write(part).await;
            advance(&proxy, Duration::from_secs(29)).await;
        }
        advance(&proxy, Duration::from_millis(1001)).await;
        is_refused(connection.reply().await, 408, "invalid_request", "limits.body_timeout").await;
    }
    assert_eq!(refusals(&proxy, "body_timeout").await, 2.0);
}

#[tokio::test]
async fn hosts_that_are_not_named_are_not_answered() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "[listen]\nhosts = ['app.example', 'localhost']").await;
    for host in ["app.example", "APP.example:8080", "localhost:1"] {
        assert_eq!(proxy.get("/x").header("host", host).send().await.status, 200, "{host}");
    }
    for host in ["evil.example", "app.example.evil.example", "127.0.0.1", ""] {
        let reply = proxy.get("/x").header("host", host).send().await;
        is_refused(reply, 400, "invalid_request", "listen.hosts").await;
    }
    // Neither may a named one be claimed beside the real target.
    let absolute = proxy.get("http://evil.example/x").header("host", "app.example").send().await;
    assert_eq!(absolute.status, 400);
    assert_eq!((llm.requests(), refusals(&proxy, "hosts").await), (3, 5.0));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let llm = upstream().answer(200, "text/plain", "ok").start().await;
    let proxy = Proxy::before(&llm, "[limits]\nconnections = 1").await;
    let held = proxy.get("/x").send().await.finish().await;
    let waiting = proxy.get("/x").begin().await;
    support::time::settle(&proxy).await;
    assert_eq!(llm.requests(), 1);
    drop(held);
    assert_eq!(waiting.reply().await.status, 200);
}

/// A client with next to no room for what it does not read.
async fn ask_slowly(proxy: &Proxy) -> Reply {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut connection = Connection::over(socket.connect(proxy.address).await.unwrap());
    proxy.get("/chat").header("accept", "text/event-stream").write_to(&mut connection).await;
    connection.reply().await
}

/// What comes of `EVENTS` events of a kilobyte, as fast as they are taken.
const EVENTS: usize = 3000;

fn kilobytes() -> impl Iterator<Item = String> {
    (0..EVENTS).map(|n| format!("{n:04}{}", "x".repeat(1000)))
}

#[tokio::test]
async fn a_client_is_not_overtaken_by_a_small_ring_however_slowly_it_reads() {
    let _frozen = freeze();
    never_overtaken("[session]\nmax_events = 10\n[limits]").await;
    never_overtaken("[session]\nmax_bytes = '48KiB'\n[limits]\nring_bytes = '48KiB'\nevent = '16KiB'\nline = '16KiB'")
        .await;
}

async fn never_overtaken(ring: &str) {
    let llm = upstream().events(kilobytes()).end().start().await;
    let proxy = Proxy::before(&llm, &format!("{ring}\nsend_buffer = '8KiB'\nwrite_timeout = '100s'")).await;
    let slow = ask_slowly(&proxy).await;
    let session = slow.session();
    // It takes nothing for longer than an upstream may be silent, which is not the upstream's fault.
    advance(&proxy, Duration::from_secs(90)).await;
    let state = proxy.state(&session).await;
    assert_eq!(state["state"], "live", "{state}");
    assert!(state["last_seq"].as_u64().unwrap() < 500, "{state}");
    assert!(proxy.metric("stream_upstream_holds_total", &[]).await >= 1.0);
    let all: Vec<_> = slow.rest().await.iter().map(|event| (event.id().to_owned(), event.data.clone())).collect();
    let wanted: Vec<_> = kilobytes().zip(1..).map(|(data, seq)| (format!("{session}.0.{seq}"), data)).collect();
    assert!(all == wanted, "{} events", all.len());
}

#[tokio::test]
async fn who_leaves_holds_up_nobody() {
    let _frozen = freeze();
    let llm = upstream().events(kilobytes()).end().start().await;
    let toml = "[limits]\nsend_buffer = '8KiB'\nwrite_timeout = '30s'\n[session]\nmax_events = 10";
    let proxy = Proxy::before(&llm, toml).await;
    let slow = ask_slowly(&proxy).await;
    let session = slow.session();
    advance(&proxy, Duration::from_secs(1)).await;
    assert_eq!(proxy.state(&session).await["state"], "live");
    drop(slow);
    while proxy.state(&session).await["state"] != "finished" {}
    assert_eq!(proxy.state(&session).await["last_seq"], EVENTS);
}

#[tokio::test]
async fn a_reader_that_is_slower_than_another_is_told_exactly_what_it_missed_and_goes_on() {
    let llm = upstream().events(kilobytes()).end().start().await;
    let proxy = Proxy::before(&llm, "[limits]\nsend_buffer = '8KiB'\n[session]\nmax_events = 10").await;
    let slow = ask_slowly(&proxy).await;
    let session = slow.session();
    // From here on: the events after the tenth, and another client that takes them as they come.
    let fast = proxy.get("/chat").after(&format!("{session}.0.1")).events().await;
    assert!(fast.rest().await.iter().any(|event| event.id.as_deref() == Some(&format!("{session}.0.{EVENTS}"))));
    let mut wanted = 1;
    let mut missed = 0;
    for event in slow.rest().await {
        if event.name == "gap" {
            let gap = event.json();
            assert_eq!((&gap["from"], &gap["reason"], event.id), (&wanted.into(), &"evicted".into(), None));
            wanted = gap["to"].as_u64().unwrap() + 1;
            missed += 1;
        } else {
            assert_eq!(event.id(), format!("{session}.0.{wanted}"));
            wanted += 1;
        }
    }
    assert_eq!(wanted, EVENTS as u64 + 1, "the gaps and the events make up the whole");
    assert!(missed > 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_comes_back_by_id_without_loss() {
    const EVENTS: usize = 2000;
    let _frozen = freeze();
    let llm = upstream().events((0..EVENTS).map(|n| format!("{n:04}{}", "x".repeat(1000)))).end().start().await;
    let proxy =
        Proxy::before(&llm, "[session]\nmax_bytes = '16MiB'\n[limits]\nsend_buffer = '8KiB'\nwrite_timeout = '30s'")
            .await;
    let mut slow = ask_slowly(&proxy).await;
    let session = slow.session();
    // The whole answer waits in the session while the client takes nothing.
    while proxy.state(&session).await["state"] != "finished" {}
    advance(&proxy, Duration::from_millis(29_000)).await;
    assert_eq!(proxy.state(&session).await["attached"], 1);
    advance(&proxy, Duration::from_millis(1_002)).await;
    assert_eq!(proxy.state(&session).await["attached"], 0);
    assert_eq!(refusals(&proxy, "write_timeout").await, 1.0);
    let mut taken = Vec::new();
    while let Some(event) = slow.next().await {
        taken.push(event);
    }
    assert_ne!(slow.ended(), Some(BodyEnd::Clean), "a cut must look like one");
    assert!(taken.len() < EVENTS / 2, "{} events were on their way", taken.len());
    let last = taken.last().expect("something came").id().to_owned();
    taken.extend(proxy.get("/chat").after(&last).events().await.rest().await);
    let numbers: Vec<_> = taken.iter().map(|event| event.data[..4].parse::<usize>().unwrap()).collect();
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    assert_eq!(llm.requests(), 1);
}
