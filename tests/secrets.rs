//! No secret reaches a log, a metric, an operator's page, a span, Redis or an error; and no error says where the upstream
//! lives.
//!
//! Every place where a caller, an upstream or the configuration can put a secret gets a canary; then everything that
//! operators and clients can see is searched for it. Logs are kept at the finest level this proxy has, in the form it
//! writes them.

mod replicas_support;
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use replicas_support::{Redis, eventually};
use support::{Collector, Failure, Proxy, Request, Script, Upstream, upstream};
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

/// Secrets of this proxy's own: the files that the configuration names, and that configuration.
struct Own {
    dir: tempfile::TempDir,
    collector: Collector,
}

impl Own {
    async fn new() -> Self {
        let dir = tempfile::TempDir::new().expect("a directory of the story's");
        for name in ["admin", "gateway", "otlp", "redis", "store"] {
            std::fs::write(dir.path().join(name), format!("{CANARY}-own-{name}")).expect("written");
        }
        Self { dir, collector: Collector::start().await }
    }

    fn file(&self, name: &str) -> String {
        format!("{{ file = '{}' }}", self.dir.path().join(name).display())
    }

    fn toml(&self) -> String {
        let [admin, gateway, otlp] = ["admin", "gateway", "otlp"].map(|name| self.file(name));
        let collector = self.collector.toml();
        format!(
            "[admin]\ntoken = {admin}\n[[upstreams]]\nheaders = {{ x-gateway-key = {gateway} }}\n\
             {collector}headers = {{ x-otlp-key = {otlp} }}\n"
        )
    }
}

/// What a client is told may be the upstream's own words, but never the caller's or this proxy's.
fn assert_not_told(name: &str, text: &str) {
    for (at, _) in text.match_indices(CANARY) {
        let word: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let of_the_upstream = ["answer", "id", "message", "type", "code"].map(|place| format!("{CANARY}-{place}"));
        assert!(of_the_upstream.iter().any(|said| word.starts_with(said)), "{name}: a client is told {word}");
    }
}

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
    let admin = async |path: &str| {
        let token = format!("{CANARY}-own-admin");
        let reply = Request::new(proxy.admin, "GET", path).header("connection", "close").caller(&token).send().await;
        assert_eq!(reply.status, 200, "{path}");
        reply.text().await
    };
    for path in ["/metrics", "/api/sessions", "/api/upstreams", "/api/config", "/api/version", "/", "/readyz"] {
        seen.push((path, admin(path).await));
    }
    for session in proxy.app.store.all() {
        seen.push(("/api/sessions/{id}", admin(&format!("/api/sessions/{}", session.id)).await));
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
    let own = Own::new().await;
    let toml = format!("{TOML}{}", own.toml());
    let mut kinds = 0;
    for path in ["/v1/chat/completions", "/run"] {
        for (name, script) in answers() {
            let llm = script.start().await;
            let proxy = Proxy::before(&llm, &toml).await;
            let reply = loaded(&proxy, path).send().await;
            let session = reply.header("streamkeeper-session");
            let mut reply = reply;
            while reply.piece().await {}
            assert_not_told(name, &String::from_utf8_lossy(reply.raw()));
            assert_not_told(name, &format!("{:?}", reply.headers));
            let sent = llm.request(1);
            assert!(sent.text().contains(CANARY) && sent.path.contains(CANARY), "the upstream gets everything");
            assert_eq!(sent.header("x-gateway-key"), Some(format!("{CANARY}-own-gateway")));
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
            proxy.app.spans.flush(Duration::from_secs(10)).await;
        }
    }
    for batch in own.collector.batches() {
        assert_eq!(batch.header("x-otlp-key"), Some(format!("{CANARY}-own-otlp")), "there it has to be");
        assert!(batch.text().contains("streamkeeper.try.kind"), "what is in a batch can be read");
        assert_clean("spans", "a batch", &format!("{} {}", batch.path, batch.text()));
    }
    assert!(own.collector.spans().len() > 2 * kinds, "every one has its spans");
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
        let own = Own::new().await;
        let proxy = Proxy::before(&llm, &format!("{TOML}{}", own.toml())).await;
        let request = proxy.post(&format!("/v1/embeddings?key={CANARY}")).caller(CANARY);
        request.json(&format!("{{\"input\":\"{CANARY}\"}}")).send().await;
        for (place, text) in seen_by_operators(&proxy).await {
            assert_clean("pass", place, &text);
        }
    }
}

#[tokio::test]
async fn redis_holds_answers_and_nothing_of_a_request_or_a_password() {
    logs();
    let own = Own::new().await;
    let redis = Redis::guarded(&format!("{CANARY}-own-redis")).await;
    // Redis remembers every command with its arguments, messages to other replicas included.
    for (key, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "100000")] {
        redis.command(&["CONFIG", "SET", key, value]).await;
    }
    let store = format!(
        "[store]\nkind = 'redis'\nurl = '{}'\npassword = {}\nsecret = {}\n",
        redis.url(),
        own.file("redis"),
        own.file("store"),
    );
    let toml = format!("{TOML}{store}{}", own.toml());
    for path in ["/v1/chat/completions", "/run"] {
        for (name, script) in answers() {
            let llm = script.start().await;
            let proxy = Proxy::before(&llm, &toml).await;
            let mut reply = loaded(&proxy, path).send().await;
            while reply.piece().await {}
            if let Some(session) = reply.header("streamkeeper-session") {
                assert_eq!(reply.header("streamkeeper-durability").as_deref(), Some("redis"));
                eventually("the answer to be in Redis", async || {
                    redis.keys(&format!("*{session}*:meta")).await.len() == 1
                })
                .await;
            }
            for (place, text) in seen_by_operators(&proxy).await {
                assert_clean(name, place, &text);
            }
        }
    }
    eventually("the last answer to be in Redis", async || {
        String::from_utf8_lossy(&redis.dump().await).contains(&format!("{CANARY}-answer"))
    })
    .await;
    assert_not_told("Redis", &String::from_utf8_lossy(&redis.dump().await));
    assert_not_told("Redis", &format!("{:?}", redis.keys("*").await));
    let commands = format!("{:?}", redis.command(&["SLOWLOG", "GET", "-1"]).await);
    assert!(commands.matches("meta").count() > 10, "the commands are there");
    assert_not_told("commands to Redis", &commands);
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
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let reply = proxy.get("/run").header("x-request-id", "one-line").header("traceparent", parent).events().await;
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
    assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    for (name, count) in [("bytes", 9), ("tries", 1), ("readers", 1), ("resumes", 0), ("replayed", 0)] {
        assert_eq!(line[name], count, "{name} in {line}");
    }
    for time in ["head_ms", "first_event_ms", "longest_silence_ms", "ms"] {
        assert!(line[time].is_u64(), "{time} in {line}");
    }
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
