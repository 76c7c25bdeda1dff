//! The operators' port: what it tells, whom, and what it lets them do.

mod support;

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use support::time::{advance, freeze};
use support::{Failure, Gate, Proxy, Reply, Request, Upstream, must, upstream};

/// Stands for everything that must not be seen.
const SECRET: &str = "s3cret-canary";

async fn get(proxy: &Proxy, path: &str) -> Value {
    let reply = proxy.admin_get(path).await;
    assert_eq!(reply.status, 200, "{path}");
    reply.json().await
}

fn request(proxy: &Proxy, method: &str, path: &str) -> Request {
    Request::new(proxy.admin, method, path).header("connection", "close")
}

fn delete(proxy: &Proxy, session: &str) -> Request {
    request(proxy, "DELETE", &format!("/api/sessions/{session}"))
}

async fn timeline(proxy: &Proxy, session: &str) -> Vec<Value> {
    let told = get(proxy, &format!("/api/sessions/{session}")).await;
    told["timeline"].as_array().expect("a list").clone()
}

/// The same without the times.
async fn story(proxy: &Proxy, session: &str) -> Vec<Value> {
    let mut entries = timeline(proxy, session).await;
    for entry in &mut entries {
        entry.as_object_mut().expect("an object").remove("at_ms").expect("a time");
    }
    entries
}

// What it tells

#[tokio::test]
async fn a_running_session_is_listed_with_its_state_its_clients_and_its_stages() {
    let llm = upstream().event("a").event("b").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").header("x-request-id", "req-7").events().await;
    reply.take(2).await;
    let all = get(&proxy, "/api/sessions").await;
    assert_eq!((&all["draining"], &all["store"]), (&json!(false), &json!({ "kind": "memory" })));
    assert_eq!(
        all["totals"],
        json!({ "pending": 0, "live": 1, "finished": 0, "failed": 0, "attached": 1, "orphans": 0 })
    );
    let session = &all["sessions"][0];
    for (key, value) in [
        ("session", json!(reply.session())),
        ("state", json!("live")),
        ("owner", json!("here")),
        ("route", json!("/")),
        ("request_id", json!("req-7")),
        ("last_seq", json!(2)),
        ("attached", json!(1)),
        ("attached_elsewhere", json!(0)),
        ("tries", json!(1)),
        ("upstream", json!({ "name": "llm", "endpoint": 0 })),
        ("last_failure", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(session[key], value, "{key}");
    }
    for stage in ["head_ms", "first_event_ms", "committed_ms"] {
        assert!(session["stages"][stage].is_u64(), "{stage} {session}");
    }
    assert_eq!(session["stages"]["ended_ms"], Value::Null);
    assert!(session.get("timeline").is_none(), "that is for one session");
}

#[tokio::test]
async fn a_time_line_tells_every_stage_in_order_and_when() {
    let _frozen = freeze();
    let gate = Gate::new();
    let llm = upstream().reset().then(upstream().event("a").gate(&gate).event("b").end()).start().await;
    let proxy = Proxy::before(&llm, "").await;
    let asked = proxy.get("/chat").header("accept", "text/event-stream").begin().await;
    llm.requested(1).await;
    advance(&proxy, Duration::from_millis(10)).await; // the wait before the second try
    llm.requested(2).await;
    let mut reply = asked.reply().await;
    let (session, a) = (reply.session(), reply.event().await);
    drop(reply);
    advance(&proxy, Duration::from_secs(3)).await;
    let reply = proxy.get("/chat").after(a.id()).events().await;
    gate.open();
    reply.rest().await;
    let told = story(&proxy, &session).await;
    let again = json!({ "what": "try", "upstream": "llm", "endpoint": 0, "kind": "stream" });
    let expected = [
        json!({ "what": "client_came", "attached": 1 }),
        json!({ "what": "begun" }),
        again.clone(),
        json!({ "what": "try_failed", "code": "upstream_reset" }),
        again,
        json!({ "what": "head", "status": 200 }),
        json!({ "what": "first_event" }),
        json!({ "what": "committed" }),
        json!({ "what": "client_left", "attached": 0 }),
        json!({ "what": "client_came", "attached": 1 }),
        json!({ "what": "resumed", "result": "replayed" }),
        json!({ "what": "ended", "code": null }),
        json!({ "what": "client_left", "attached": 0 }),
    ];
    let mut sorted = told.clone();
    // Which of the two is first, the client or its session, is nobody's business.
    sorted[..2].sort_by_key(|entry| entry["what"] == "begun");
    assert_eq!(sorted, expected);
    let at: Vec<_> = timeline(&proxy, &session).await.iter().map(|entry| entry["at_ms"].as_u64().unwrap()).collect();
    assert!(at.is_sorted() && at[8] < 1000 && at[9] >= 3000, "{at:?}");
}

#[tokio::test]
async fn a_failed_session_says_why_and_what_a_client_missed() {
    let llm = upstream().events(["a", "b", "c", "d"]).cut().start().await;
    let proxy = Proxy::before(&llm, "[session]\nmax_events = 2").await;
    let reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.rest().await;
    let first = format!("{session}.0.1");
    proxy.get("/chat").after(&first).events().await.rest().await;
    let told = get(&proxy, &format!("/api/sessions/{session}")).await;
    assert_eq!((&told["state"], &told["error"]["code"]), (&json!("failed"), &json!("upstream_reset")));
    assert_eq!(told["last_failure"], "upstream_reset");
    assert!(told["stages"]["ended_ms"].is_u64());
    let story = story(&proxy, &session).await;
    for expected in [
        json!({ "what": "try_failed", "code": "upstream_reset" }),
        json!({ "what": "ended", "code": "upstream_reset" }),
        json!({ "what": "resumed", "result": "gap" }),
        json!({ "what": "gap", "reason": "evicted" }),
    ] {
        assert!(story.contains(&expected), "{expected} is missing in {story:?}");
    }
}

#[tokio::test]
async fn what_stands_in_for_a_stream_is_on_the_time_line() {
    let whole = r#"{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
    let llm = upstream().reset().then(upstream().json(200, whole)).start().await;
    let proxy = Proxy::before(&llm, "[[routes]]\nretry = { attempts = 1 }").await;
    let reply = proxy.chat().events().await;
    let session = reply.session();
    reply.rest().await;
    let told = story(&proxy, &session).await;
    assert!(told.contains(&json!({ "what": "try", "upstream": "llm", "endpoint": 0, "kind": "fallback" })), "{told:?}");
    assert_eq!(get(&proxy, &format!("/api/sessions/{session}")).await["source"], "fallback");
}

#[tokio::test]
async fn a_time_line_is_bounded_and_says_how_much_is_missing() {
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.rest().await;
    for _ in 0..20 {
        proxy.session("GET", &session).events().await.rest().await;
    }
    let told = get(&proxy, &format!("/api/sessions/{session}")).await;
    let entries = told["timeline"].as_array().unwrap();
    assert_eq!(entries.len(), 32);
    assert!(told["timeline_dropped"].as_u64() > Some(20), "{told}");
    let first = told["timeline_first"].as_u64().unwrap() as usize;
    assert!(entries[..first].iter().any(|entry| entry["what"] == "first_event"), "the beginning is kept");
}

#[tokio::test]
async fn the_list_is_the_newest_first_as_long_as_asked_for_and_counts_them_all() {
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    for n in 0..5 {
        proxy.get("/chat").header("x-request-id", &format!("number-{n}")).events().await.rest().await;
    }
    let ids = |all: &Value| -> Vec<String> {
        let sessions = all["sessions"].as_array().unwrap();
        sessions.iter().map(|session| session["request_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = get(&proxy, "/api/sessions?limit=2").await;
    assert_eq!(ids(&all), ["number-4", "number-3"]);
    assert_eq!((&all["matching"], &all["totals"]["finished"]), (&json!(5), &json!(5)));
    assert_eq!(ids(&get(&proxy, "/api/sessions?find=number-1").await), ["number-1"]);
    assert_eq!(ids(&get(&proxy, "/api/sessions?state=running").await), [""; 0]);
    let finished = get(&proxy, "/api/sessions?state=finished").await;
    assert_eq!(finished["matching"], 5);
}

#[tokio::test]
async fn the_program_says_which_one_it_is() {
    let proxy = Proxy::at(&[Upstream::nobody().await], "").await;
    let told = get(&proxy, "/api/version").await;
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert!(told["uptime_ms"].is_u64());
    assert_eq!(proxy.metric("stream_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).await, 1.0);
}

#[tokio::test]
async fn the_configuration_is_told_key_by_key_without_its_secrets() {
    let mut secret = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(secret, "{SECRET}").expect("it is written");
    let file = secret.path().display();
    let toml = format!(
        "[admin]\ntoken = {{ file = '{file}' }}\n[heartbeat]\ninterval = '7s'\n\
         [[upstreams]]\ncredential = {{ file = '{file}' }}\nheaders = {{ x-gateway-key = {{ file = '{file}' }} }}"
    );
    let proxy = Proxy::at(&[Upstream::nobody().await], &toml).await;
    let told = |path| request(&proxy, "GET", path).caller(SECRET).send();
    let config = told("/api/config").await.json().await;
    let keys = config["config"].as_array().expect("a list");
    let value = |key: &str| keys.iter().find(|entry| entry["key"] == key).map(|entry| entry["value"].clone());
    assert_eq!(value("heartbeat.interval"), Some(json!("\"7s\"")));
    assert!(value("routes[0].timeouts.idle").is_some(), "what has its default is there too: {config}");
    assert!(value("admin.token").is_some_and(|token| token.as_str().unwrap().contains("***")), "{config}");
    for path in ["/api/config", "/api/upstreams", "/api/sessions", "/api/version", "/metrics", "/"] {
        let text = told(path).await.text().await;
        assert!(!text.contains(SECRET), "{path} {text}");
    }
}

// What it lets them do

#[tokio::test]
async fn an_operator_stops_a_session_and_its_client_is_told() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.chat().events().await;
    let session = reply.session();
    reply.event().await;
    assert_eq!(delete(&proxy, &session).header("x-streamkeeper", "1").send().await.status, 204);
    llm.closed().await;
    let rest = reply.rest().await;
    let failure = Failure::read(&rest.last().expect("a last event").data);
    assert_eq!((failure.code.as_str(), failure.recoverable), ("session_not_found", false));
    let story = story(&proxy, &session).await;
    assert!(story.contains(&json!({ "what": "stopped" })), "{story:?}");
    // What has ended stays as it is.
    assert_eq!(delete(&proxy, &session).header("x-streamkeeper", "1").send().await.status, 204);
    assert_eq!(get(&proxy, "/api/sessions").await["totals"]["failed"], 1);
}

#[tokio::test]
async fn a_session_that_is_not_there_can_be_neither_seen_nor_stopped() {
    let proxy = Proxy::at(&[Upstream::nobody().await], "").await;
    for id in ["AAAAAAAAAAAAAAAAAAAAAA", "nonsense", "", "../sessions"] {
        let path = format!("/api/sessions/{id}");
        assert_eq!(proxy.admin_get(&path).await.status, 404, "{id:?}");
        assert_eq!(delete(&proxy, id).header("x-streamkeeper", "1").send().await.status, 404, "{id:?}");
    }
}

#[tokio::test]
async fn a_web_page_of_another_origin_cannot_stop_a_session() {
    let llm = upstream().event("a").hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/chat").events().await;
    let session = reply.session();
    reply.event().await;
    let intent = |request: Request| request.header("x-streamkeeper", "1");
    let refused = [
        // What a form or a plain fetch can send.
        delete(&proxy, &session),
        // What no browser sends from there; if one did all the same:
        intent(delete(&proxy, &session)).header("origin", "http://evil.example"),
        intent(delete(&proxy, &session)).header("origin", "null"),
        intent(delete(&proxy, &session)).header("sec-fetch-site", "cross-site"),
    ];
    for request in refused {
        assert_eq!(request.send().await.status, 403);
    }
    // The preflight that would allow it.
    let preflight = request(&proxy, "OPTIONS", &format!("/api/sessions/{session}"))
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "DELETE")
        .header("access-control-request-headers", "x-streamkeeper");
    let answer = preflight.send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    assert_eq!(proxy.state(&session).await["state"], "live");
    let own = format!("http://{}", proxy.admin);
    let own = intent(delete(&proxy, &session)).header("origin", &own).header("sec-fetch-site", "same-origin");
    assert_eq!(own.send().await.status, 204);
}

#[tokio::test]
async fn all_else_is_read_only() {
    let proxy = Proxy::at(&[Upstream::nobody().await], "").await;
    for (method, path) in [
        ("POST", "/"),
        ("DELETE", "/api/sessions"),
        ("PUT", "/api/config"),
        ("POST", "/healthz"),
        ("DELETE", "/metrics"),
    ] {
        let reply = request(&proxy, method, path).header("x-streamkeeper", "1").send().await;
        assert_eq!((reply.status, reply.header("allow").as_deref()), (405, Some("GET, HEAD")), "{method} {path}");
    }
    assert_eq!(request(&proxy, "HEAD", "/api/sessions").send().await.status, 200);
}

// Whom

#[tokio::test]
async fn with_a_token_everything_but_health_and_the_bare_page_needs_it() {
    let llm = upstream().event("a").hang().start().await;
    let mut token = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(token, "{SECRET}").expect("it is written");
    let proxy = Proxy::before(&llm, &format!("[admin]\ntoken = {{ file = '{}' }}", token.path().display())).await;
    let mut stream = proxy.get("/chat").events().await;
    let session = stream.session();
    stream.event().await;
    for path in ["/healthz", "/readyz", "/", "/admin.css", "/admin.js", "/admin.svg"] {
        let reply = proxy.admin_get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        let text = reply.text().await;
        assert!(!text.contains(&session) && !text.contains(SECRET), "{path} holds no data");
    }
    let one = format!("/api/sessions/{session}");
    for path in ["/metrics", "/api/sessions", &one, "/api/upstreams", "/api/config", "/api/version", "/nothing"] {
        for token in [None, Some("wrong"), Some("")] {
            let bare = request(&proxy, "GET", path);
            let reply = token.map_or(bare.clone(), |token| bare.caller(token)).send().await;
            assert_eq!((reply.status, reply.header("www-authenticate").as_deref()), (401, Some("Bearer")), "{path}");
        }
        let status = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(request(&proxy, "GET", path).caller(SECRET).send().await.status, status, "{path}");
    }
    assert_eq!(delete(&proxy, &session).header("x-streamkeeper", "1").send().await.status, 401);
    assert_eq!(delete(&proxy, &session).caller(SECRET).send().await.status, 403, "the token alone is no intent");
    assert_eq!(proxy.state(&session).await["state"], "live");
}

#[tokio::test]
async fn without_a_token_only_a_host_that_no_web_page_can_have_is_answered() {
    let proxy = Proxy::at(&[Upstream::nobody().await], "").await;
    let asked = async |path: &str, host: &str| request(&proxy, "GET", path).header("host", host).send().await.status;
    for host in ["127.0.0.1:8081", "localhost:8081", "[::1]:8081"] {
        assert_eq!(asked("/api/sessions", host).await, 200, "{host}");
    }
    for path in ["/api/sessions", "/metrics", "/api/config"] {
        assert_eq!(asked(path, "rebound.evil.example:8081").await, 421, "{path}");
    }
    // Probes come under any name, and learn nothing.
    assert_eq!(asked("/readyz", "rebound.evil.example:8081").await, 200);
}

#[tokio::test]
async fn with_a_token_the_host_may_be_any_name() {
    let mut token = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(token, "{SECRET}").expect("it is written");
    let toml = format!("[admin]\ntoken = {{ file = '{}' }}", token.path().display());
    let proxy = Proxy::at(&[Upstream::nobody().await], &toml).await;
    let asked = request(&proxy, "GET", "/metrics").header("host", "streamkeeper.monitoring.svc:8081").caller(SECRET);
    assert_eq!(asked.send().await.status, 200);
}

fn protected(reply: &Reply, path: &str) {
    let policy = reply.header("content-security-policy").unwrap_or_else(|| panic!("{path} has a policy"));
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cache-control", "no-store")]
    {
        assert_eq!(reply.header(name).as_deref(), Some(value), "{path}");
    }
    assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_strict() {
    let proxy = Proxy::at(&[Upstream::nobody().await], "").await;
    for path in ["/", "/admin.js", "/admin.css", "/api/sessions", "/metrics", "/healthz", "/nothing"] {
        protected(&must("an answer", proxy.admin_get(path)).await, path);
    }
}
