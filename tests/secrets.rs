//! No secret reaches a log, a metric, an operator's page or an error; and no error says where the upstream lives.
//!
//! Every place where a caller or an upstream can put a secret gets a canary; then everything that operators and
//! clients can see is searched for it. Logs are kept at the finest level this proxy has, in the form it writes them.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use support::{Failure, Proxy, Request, Script, Upstream, upstream};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What must not be found. The letters are such that no encoding of them is tempting.
const CANARY: &str = "CANARYzq7";

/// Everything that was logged in this process.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("logs are UTF-8")
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Keeps all logs from here on, as JSON lines.
fn logs() -> &'static Logged {
    static LOGGED: OnceLock<Logged> = OnceLock::new();
    LOGGED.get_or_init(|| {
        let logged = Logged::default();
        let filter = EnvFilter::new("debug,streamkeeper=trace");
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(logged.clone());
        builder.json().flatten_event(true).init();
        logged
    })
}

/// A request with a canary wherever a secret can be.
fn loaded(proxy: &Proxy, path: &str) -> Request {
    let secret = |place: &str| format!("{CANARY}-{place}");
    proxy
        .post(&format!("{path}?api_key={CANARY}-query&session_id={CANARY}-session"))
        .header("authorization", &format!("Bearer {}", secret("bearer")))
        .header("x-api-key", &secret("x-api-key"))
        .header("api-key", &secret("api-key"))
        .header("x-goog-api-key", &secret("goog"))
        .header("proxy-authorization", &secret("proxy"))
        .header("cookie", &format!("login={CANARY}-cookie"))
        .header("idempotency-key", &format!("{}-{path}", secret("idempotency")))
        .header("accept", "text/event-stream")
        .json(&format!(r#"{{"stream":true,"messages":[{{"role":"user","content":"{CANARY}-prompt"}}]}}"#))
}

const TOML: &str = "
[[routes]]
session_key = { query = 'session_id' }
credential_cookies = ['login']
fallback = { mode = 'off' }
[limits]
line = '4KiB'
event = '4KiB'
";

/// Every way an upstream can answer, with a canary wherever it says something.
fn answers() -> Vec<(&'static str, Script)> {
    let said = format!("{CANARY}-answer");
    let error =
        format!(r#"{{"error":{{"message":"{CANARY}-message","type":"{CANARY}-type","code":"{CANARY}-code"}}}}"#);
    let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{said}"}},"finish_reason":null}}]}}"#);
    vec![
        ("good", upstream().event(&chunk).id(&format!("{CANARY}-id")).event("[DONE]").end()),
        ("cut", upstream().event(&chunk).cut()),
        ("reset", upstream().event(&chunk).reset()),
        ("truncated", upstream().event(&chunk).chunk(format!("data: {said}")).end()),
        ("reported", upstream().event(&chunk).event(&error).named("error").end()),
        ("reported_first", upstream().event(&error).named("error").end()),
        ("json_error", upstream().json(200, &error)),
        ("refused", upstream().answer_with(401, &[("x-note", &said), ("set-cookie", &said)], &error)),
        ("limited", upstream().answer_with(429, &[("retry-after", &said)], &said)),
        ("unavailable", upstream().answer(500, "text/plain", &said)),
        ("html", upstream().answer(200, "text/html", &said)),
        ("no_json", upstream().json(200, &format!("{{\"{said}"))),
        (
            "bad_gzip",
            upstream()
                .head(200, &[("content-type", "text/event-stream"), ("content-encoding", "gzip")])
                .body(&said)
                .end(),
        ),
        (
            "bad_coding",
            upstream()
                .head(200, &[("content-type", "text/event-stream"), ("content-encoding", &said)])
                .body(&said)
                .end(),
        ),
        ("no_http", upstream().raw(format!("{said}\r\n\r\n")).cut()),
        ("bad_head", upstream().raw(format!("HTTP/1.1 200 OK\r\n{said}\0: x\r\n\r\n")).cut()),
        ("bad_chunk", upstream().event(&chunk).raw(format!("{said}\r\n")).cut()),
        ("huge", upstream().event(&chunk).chunk(format!("data: {}", said.repeat(1000))).hang()),
        ("field", upstream().event(&chunk).chunk(format!("error: {said}\n{said}: {said}\n\n")).end()),
    ]
}

/// Everything an operator can see of a proxy.
async fn seen_by_operators(proxy: &Proxy) -> Vec<(&'static str, String)> {
    let mut seen = Vec::new();
    for path in ["/metrics", "/api/sessions"] {
        seen.push((path, proxy.admin_get(path).await.text().await));
    }
    for session in proxy.app.store.all() {
        let path = format!("/api/sessions/{}", session.id);
        seen.push(("/api/sessions/{id}", proxy.admin_get(&path).await.text().await));
        seen.push(("state", proxy.app.state_of(&session).to_string()));
        seen.push(("debug", format!("{session:?}")));
    }
    seen.push(("logs", logs().text()));
    seen
}

fn assert_clean(name: &str, place: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let from = text[..at].rfind('\n').map_or(0, |line| line + 1);
        let to = text[at..].find('\n').map_or(text.len(), |line| at + line);
        panic!("{name}: a secret in {place}: {}", &text[from..to]);
    }
}

#[tokio::test]
async fn whatever_a_caller_or_an_upstream_says_stays_between_them() {
    logs();
    let mut kinds = 0;
    for path in ["/v1/chat/completions", "/run"] {
        for (name, script) in answers() {
            let llm = script.start().await;
            let proxy = Proxy::before(&llm, TOML).await;
            let reply = loaded(&proxy, path).send().await;
            let session = reply.header("streamkeeper-session");
            let mut reply = reply;
            while reply.piece().await {}
            let sent = llm.request(1);
            assert!(sent.text().contains(CANARY) && sent.path.contains(CANARY), "the upstream gets everything");
            if let Some(session) = session {
                kinds += 1;
                // Strangers, and those who come back with odd claims, make logs too.
                proxy.session("GET", &session).caller(&format!("{CANARY}-other")).send().await;
                loaded(&proxy, path).after(&format!("{CANARY}-claim")).send().await;
                loaded(&proxy, path).after(&format!("{session}.0.{CANARY}")).send().await;
            }
            for (place, text) in seen_by_operators(&proxy).await {
                assert_clean(name, place, &text);
            }
        }
    }
    assert!(kinds > 10, "most of these begin a session");
    assert!(logs().text().lines().count() > 50, "the logs are really kept");
}

#[tokio::test]
async fn what_passes_through_leaves_no_trace_either() {
    logs();
    let echoed = format!("{{\"{CANARY}\":1}}");
    let scripts = [
        upstream().json(200, &echoed),
        upstream().json(500, &echoed),
        upstream().reset(),
        upstream().raw(&echoed).cut(),
    ];
    for script in scripts {
        let llm = script.start().await;
        let proxy = Proxy::before(&llm, TOML).await;
        let request = proxy.post(&format!("/v1/embeddings?key={CANARY}")).caller(CANARY);
        request.json(&format!("{{\"input\":\"{CANARY}\"}}")).send().await;
        for (place, text) in seen_by_operators(&proxy).await {
            assert_clean("pass", place, &text);
        }
    }
}

#[tokio::test]
async fn every_log_line_is_one_json_object_whatever_was_sent() {
    logs();
    let llm = upstream().event("a").event("line\nbreak").named("error").end().start().await;
    let proxy = Proxy::before(&llm, TOML).await;
    let path = "/run%0a%7b%22level%22:%22forged%22";
    drop(proxy.get(path).header("x-request-id", "evil\"}{").events().await.rest().await);
    proxy.admin_get("/healthz").await;
    for line in logs().text().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        assert_ne!(line["level"], "forged");
    }
}

#[tokio::test]
async fn a_stream_has_one_line_at_info_that_says_how_it_went() {
    logs();
    let llm = upstream().event("a").cut().start().await;
    let proxy = Proxy::before(&llm, TOML).await;
    let reply = proxy.get("/run").header("x-request-id", "one-line").events().await;
    let session = reply.session();
    reply.rest().await;
    proxy.admin_get("/healthz").await;
    let text = logs().text();
    let lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line["target"] == "streamkeeper::stream" && line["session"] == session.as_str())
        .collect();
    assert_eq!(about.len(), 1, "{about:?}");
    let line = about[0];
    assert_eq!(
        (&line["level"], &line["outcome"], &line["code"]),
        (&"INFO".into(), &"failed".into(), &"upstream_reset".into())
    );
    assert_eq!((&line["request_id"], &line["events"]), (&"one-line".into(), &2.into()));
}

// Where the upstream lives

#[tokio::test]
async fn an_error_does_not_say_where_the_upstream_lives() {
    let nobody = Upstream::nobody().await;
    for path in ["/v1/chat/completions", "/run"] {
        let proxy = Proxy::at(&[nobody], "").await;
        let reply = loaded(&proxy, path).send().await;
        assert_eq!(reply.status, 502);
        let headers = format!("{:?}", reply.headers);
        let text = reply.text().await;
        let port = nobody.port().to_string();
        for place in ["127.0.0.1", port.as_str(), "os error", "refused"] {
            assert!(!text.contains(place), "{place} in {text}");
            assert!(!headers.contains(place), "{place} in {headers}");
        }
        assert_eq!(Failure::read(&text).code, "upstream_unreachable");
    }
}

#[tokio::test]
async fn an_error_in_a_stream_does_not_say_where_the_upstream_lives() {
    let llm = upstream().event("a").reset().start().await;
    let proxy = Proxy::before(&llm, TOML).await;
    let events = proxy.get("/run").events().await.rest().await;
    let last = &events.last().expect("a failure").data;
    for place in ["127.0.0.1", &llm.address.port().to_string(), "os error"] {
        assert!(!last.contains(place), "{place} in {last}");
    }
}

#[tokio::test]
async fn an_apps_traceback_and_inner_causes_are_for_development_mode_alone() {
    let error = r#"{"type":"system","message":"m","traceback":"File app.py, line 7"}"#;
    for development in [false, true] {
        let toml = format!("[telemetry]\ndevelopment = {development}");
        let llm = upstream().event("a").event(error).named("error").end().start().await;
        let proxy = Proxy::before(&llm, &toml).await;
        let events = proxy.get("/run").events().await.rest().await;
        let told = events[1].json();
        assert_eq!(told["traceback"].as_str(), development.then_some("File app.py, line 7"));
        let proxy = Proxy::at(&[Upstream::nobody().await], &toml).await;
        let told = proxy.get("/run").header("accept", "text/event-stream").send().await.json().await;
        assert_eq!(told["error"]["traceback"].is_string(), development, "{told}");
    }
}
