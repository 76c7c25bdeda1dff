//! One story on every wire: what it asks, what its upstream says, and how its clients are told of a failure.

use serde_json::{Value, json};

use super::events::{Event, data};
use super::script::{Script, upstream};
use super::{BodyEnd, Proxy, Reply, Request, Upstream};

/// A wire that a story is told on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Chat completions.
    OpenAi,
    /// `message` events, `done` at the end.
    Generic,
}

impl Wire {
    /// Every wire.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Generic];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Generic => "generic",
        }
    }

    /// The data of an event that says `text`.
    pub fn says(self, text: &str) -> String {
        match self {
            Self::OpenAi => chunk(json!({ "content": text }), Value::Null),
            Self::Generic => json!({ "text": text }).to_string(),
        }
    }

    /// The data of events that say these texts.
    pub fn said(self, texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| self.says(text)).collect()
    }

    /// A stream that says these texts and then goes on as the story wants.
    pub fn saying(self, texts: &[&str]) -> Script {
        upstream().events(self.said(texts))
    }

    /// `script` with the wire's own good end after it, body included.
    pub fn done(self, script: Script) -> Script {
        match self {
            Self::OpenAi => script.event(chunk(json!({}), "stop".into())).event("[DONE]").end(),
            Self::Generic => script.event("{}").named("done").end(),
        }
    }

    /// How many events [`done`](Self::done) adds.
    pub fn done_events(self) -> usize {
        match self {
            Self::OpenAi => 2,
            Self::Generic => 1,
        }
    }

    /// A non-stream answer that says `text`.
    pub fn answer(self, text: &str) -> String {
        let answer = match self {
            Self::OpenAi => json!({
                "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": text },
                    "finish_reason": "stop",
                }],
            }),
            Self::Generic => json!({ "text": text }),
        };
        answer.to_string()
    }

    /// What all events together say, the failure at the end excepted.
    pub fn text(self, events: &[Event]) -> String {
        let text = |event: &Event| {
            let data: Value = serde_json::from_str(&event.data).ok()?;
            let text = match self {
                Self::OpenAi => &data["choices"][0]["delta"]["content"],
                Self::Generic => &data["text"],
            };
            text.as_str().map(str::to_owned)
        };
        events.iter().filter_map(text).collect()
    }

    /// Whether an event reports a failure, in this wire's form.
    pub fn is_failure(self, event: &Event) -> bool {
        match self {
            Self::OpenAi => event.data.contains("\"error\":{"),
            Self::Generic => event.name == "error",
        }
    }
}

fn chunk(delta: Value, finish: Value) -> String {
    json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
    })
    .to_string()
}

/// One story on one wire: a proxy with a route of its own, whose name no other story's metrics have.
#[derive(Debug)]
pub struct Story {
    /// The wire it is told on.
    pub wire: Wire,
    /// The proxy.
    pub proxy: Proxy,
    /// The path prefix, which is the route's name in metrics.
    pub route: String,
}

impl Story {
    /// Before `llm`. `toml`: keys of the route, then whole sections. Nothing falls back unless it says so.
    pub async fn new(name: &str, wire: Wire, llm: &Upstream, toml: &str) -> Self {
        Self::at(name, wire, &[llm.address], toml).await
    }

    /// Before these endpoints.
    pub async fn at(name: &str, wire: Wire, endpoints: &[std::net::SocketAddr], toml: &str) -> Self {
        let route = format!("/{name}-{}", wire.name());
        let own = if toml.contains("fallback") { "" } else { "fallback = { mode = 'off' }\n" };
        let toml =
            format!("[[routes]]\nmatch = {{ path = '{route}' }}\ngeneric = {{ done_events = ['done'] }}\n{own}{toml}");
        Self { wire, proxy: Proxy::at(endpoints, &toml).await, route }
    }

    /// The request of this wire, for a stream.
    pub fn ask(&self) -> Request {
        let path = format!("{}/v1/chat/completions", self.route);
        let path = if self.wire == Wire::OpenAi { path } else { format!("{}/run", self.route) };
        self.proxy
            .post(&path)
            .header("accept", "text/event-stream")
            .json(r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":false}}"#)
    }

    /// Asks and gets a stream.
    pub async fn stream(&self) -> Reply {
        let reply = self.ask().send().await;
        let status = reply.status;
        if status != 200 {
            panic!("asked for a stream and got {status} {}", reply.text().await);
        }
        assert_eq!(reply.header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
        reply
    }

    /// Asks and must get a status instead of a stream, with the standard error as its body.
    pub async fn refusal(&self, status: u16) -> Failure {
        let reply = self.ask().send().await;
        let got = reply.status;
        let headers = reply.headers.clone();
        let failure = Failure { headers, ..Failure::read(&reply.text().await) };
        assert_eq!(got, status, "{failure:?}");
        assert_eq!(failure.header("content-type"), Some("application/json"));
        assert_eq!(failure.header("cache-control"), Some("no-store"));
        let stops_retries = failure.header("x-should-retry") == Some("false");
        assert_eq!(stops_retries, !failure.recoverable, "{failure:?}");
        if matches!(status, 429 | 503) {
            assert!(failure.header("retry-after").is_some(), "{failure:?}");
        }
        assert_eq!(failure.header("x-request-id"), Some(failure.request_id.as_str()));
        failure
    }

    /// Reads a stream to its failure: what was said before it, and the failure, which must be the one last event.
    pub async fn failure(&self, reply: Reply) -> (Vec<Event>, Failure) {
        let mut events = reply.rest().await;
        let last = events.pop().expect("a stream that fails says so");
        assert!(self.wire.is_failure(&last), "{last:?} is no failure, after {events:?}");
        assert!(events.iter().all(|event| !self.wire.is_failure(event)), "a failure in {events:?}");
        assert!(!data(&events).contains(&"[DONE]"), "a good end before the failure");
        (events, Failure::read(&last.data))
    }

    /// Reads a stream that must end well, and says what was said.
    pub async fn whole(&self, mut reply: Reply) -> String {
        let events = reply.until_end().await;
        assert_eq!(reply.ended(), Some(BodyEnd::Clean));
        assert!(events.iter().all(|event| !self.wire.is_failure(event)), "{events:?}");
        let last = events.last().expect("a good end");
        let good = if self.wire == Wire::OpenAi { last.data == "[DONE]" } else { last.name == "done" };
        assert!(good, "{events:?}");
        self.wire.text(&events)
    }

    /// Streams of this story that ended in `code`, as the metrics have it.
    pub async fn errors(&self, failure: &Failure) -> f64 {
        let labels = [("route", self.route.as_str()), ("code", &failure.code), ("error_type", &failure.kind)];
        self.proxy.metric("stream_errors_total", &labels).await
    }

    /// Holds up the whole of a failure: its code, the type that belongs to it, whether to try again, and that it was
    /// counted once.
    pub async fn told(&self, failure: &Failure, code: &str, kind: &str, recoverable: bool) {
        assert_eq!((failure.code.as_str(), failure.kind.as_str()), (code, kind), "{failure:?}");
        assert_eq!(failure.recoverable, recoverable, "{failure:?}");
        assert_eq!(failure.severity, "error", "{failure:?}");
        assert_eq!(failure.retry_after_ms.is_some(), recoverable, "{failure:?}");
        assert_eq!(self.errors(failure).await, 1.0, "one error of {code} is counted");
    }
}

/// The standard error as a client got it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// `type`.
    pub kind: String,
    /// `severity`.
    pub severity: String,
    /// `message`.
    pub message: String,
    /// `code`.
    pub code: String,
    /// `recoverable`.
    pub recoverable: bool,
    /// `request_id`.
    pub request_id: String,
    /// `retry_after_ms`.
    pub retry_after_ms: Option<u64>,
    /// The whole of it.
    pub whole: Value,
    /// The headers that came with it, if it came as a body of its own.
    pub headers: Vec<(String, String)>,
}

impl Failure {
    /// Reads the form that both wires share: the standard error under `error`, and the same fields beside it.
    pub fn read(text: &str) -> Self {
        let whole: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"));
        let mut outer = whole.as_object().expect("an object").clone();
        let inner = outer.remove("error").expect("the standard error");
        assert_eq!(Value::Object(outer), inner, "the same, flat");
        let text = |key: &str| inner[key].as_str().unwrap_or_else(|| panic!("no {key} in {inner}")).to_owned();
        assert!(!text("message").is_empty());
        assert!(inner.get("traceback").is_none(), "a cause is for development mode: {inner}");
        Self {
            kind: text("type"),
            severity: text("severity"),
            message: text("message"),
            code: text("code"),
            recoverable: inner["recoverable"].as_bool().expect("recoverable"),
            request_id: text("request_id"),
            retry_after_ms: inner["retry_after_ms"].as_u64(),
            whole: inner,
            headers: Vec::new(),
        }
    }

    /// The value of a header that came with it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
