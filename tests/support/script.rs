//! What an upstream does with one request, written as a chain that reads like what it means:
//! `upstream().event("a").id("1").stall(Duration::from_secs(5)).cut()`.
//!
//! The first event brings an event-stream head with it, chunked, unless the chain named another head before. A chain
//! that stops without `end`, `cut`, `reset` or `hang` leaves the connection open and silent, as `hang` does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::upstream::Upstream;

/// One thing an upstream does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Sends these bytes as body, in the framing of the head.
    Body(Vec<u8>),
    /// From here on bodies are chunked, or as they are.
    Chunked(bool),
    /// Does nothing for a while.
    Stall(Duration),
    /// Does nothing until the test lets it.
    Wait(Gate),
    /// Reads the rest of the request's body before going on. Every script does so first, unless it starts `early`.
    ReadRequest,
    /// Ends the body properly; the connection serves the next request.
    End,
    /// Ends a chunked body with these trailers.
    Trailers(Vec<(String, String)>),
    /// Closes the connection (FIN).
    Close,
    /// Resets the connection (RST).
    Reset,
    /// Sends back whatever comes until the peer is done.
    Echo,
    /// Stays silent until the peer hangs up.
    Hang,
}

/// What an upstream does with one request.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
    headed: bool,
    early: bool,
    /// The event under construction: fields but for the blank line.
    open_event: Option<OpenEvent>,
}

#[derive(Debug, Clone, Default)]
struct OpenEvent {
    fields: String,
    data: String,
}

/// An empty script.
pub fn upstream() -> Script {
    Script::default()
}

impl Script {
    /// An event with this data. Line breaks in it make several `data` lines.
    pub fn event(mut self, data: impl AsRef<str>) -> Self {
        self = self.closed().with_stream_head();
        self.open_event = Some(OpenEvent { data: data.as_ref().to_owned(), ..OpenEvent::default() });
        self
    }

    /// Several events.
    pub fn events<T: AsRef<str>>(self, data: impl IntoIterator<Item = T>) -> Self {
        data.into_iter().fold(self, |script, data| script.event(data))
    }

    /// The last event has this id.
    pub fn id(self, id: &str) -> Self {
        self.field("id", id)
    }

    /// The last event has this name.
    pub fn named(self, name: &str) -> Self {
        self.field("event", name)
    }

    /// The last event comes with this retry hint, in milliseconds.
    pub fn retry(self, ms: u64) -> Self {
        self.field("retry", &ms.to_string())
    }

    /// The last event has this field, whatever it is.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        let event = self.open_event.as_mut().expect("a field belongs to an event: call event() first");
        event.fields.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// A comment of its own, ended by a blank line, as servers send it to keep a connection alive.
    pub fn comment(self, text: &str) -> Self {
        self.chunk(format!(": {text}\n\n"))
    }

    /// The beginning of an event that never becomes whole.
    pub fn half_event(self) -> Self {
        self.chunk("event: message\ndata: this is only ha")
    }

    /// Any bytes of an event stream.
    pub fn chunk(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self = self.closed().with_stream_head();
        self.steps.push(Step::Body(bytes.as_ref().to_vec()));
        self
    }

    /// The head of the answer; the body that follows is chunked unless `headers` has a content-length.
    pub fn head(mut self, status: u16, headers: &[(&str, &str)]) -> Self {
        self = self.closed();
        let has = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let chunked = !has("content-length") && !has("upgrade") && !matches!(status, 100..=199 | 204 | 304);
        let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        }
        head.push_str("\r\n");
        self.headed = true;
        self.steps.extend([Step::Raw(head.into_bytes()), Step::Chunked(chunked)]);
        self
    }

    /// Bytes of the body, whatever the head was.
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self = self.closed();
        self.steps.push(Step::Body(bytes.as_ref().to_vec()));
        self
    }

    /// A whole answer that is no stream.
    pub fn answer(self, status: u16, media_type: &str, body: &str) -> Self {
        self.answer_with(status, &[("content-type", media_type)], body)
    }

    /// A whole answer with these headers; its length is added.
    pub fn answer_with(self, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let length = body.len().to_string();
        let mut headers = headers.to_vec();
        headers.push(("content-length", &length));
        self.head(status, &headers).body(body).end()
    }

    /// A whole JSON answer.
    pub fn json(self, status: u16, body: &str) -> Self {
        self.answer(status, "application/json", body)
    }

    /// Bytes on the socket, no framing.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self = self.closed();
        self.headed = true;
        self.steps.push(Step::Raw(bytes.as_ref().to_vec()));
        self
    }

    /// Starts to answer before the request's body is there.
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// With [`early`](Self::early): reads the request's body here.
    pub fn read_request(self) -> Self {
        self.step(Step::ReadRequest)
    }

    /// Silence.
    pub fn stall(self, time: Duration) -> Self {
        self.step(Step::Stall(time))
    }

    /// Silence until the test lets it go on.
    pub fn gate(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// A proper end of the body, whether or not the dialect's terminator came before.
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// A proper end of the body where the dialect would want more: the same bytes as [`end`](Self::end), the other
    /// meaning.
    pub fn truncate(self) -> Self {
        self.end()
    }

    /// An end with trailers.
    pub fn trailers(self, trailers: &[(&str, &str)]) -> Self {
        self.step(Step::Trailers(trailers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()))
    }

    /// The connection closes (FIN) without the last chunk.
    pub fn cut(self) -> Self {
        self.step(Step::Close)
    }

    /// The same as [`cut`](Self::cut), where the missing last chunk is the point.
    pub fn close_without_last_chunk(self) -> Self {
        self.cut()
    }

    /// The connection is reset (RST).
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Bytes come back as they are sent.
    pub fn echo(self) -> Self {
        self.step(Step::Echo)
    }

    /// Silence for ever.
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// This for the first request, `next` for the one after it.
    pub fn then(self, next: Script) -> Scripts {
        Scripts(vec![self, next])
    }

    /// An upstream that does this with every request.
    pub async fn start(self) -> Upstream {
        Upstream::by(move |_| self.clone()).await
    }

    /// What is to be done, in order.
    pub fn into_steps(mut self) -> Vec<Step> {
        self = self.closed();
        if !self.early {
            self.steps.insert(0, Step::ReadRequest);
        }
        self.steps
    }

    fn step(mut self, step: Step) -> Self {
        self = self.closed();
        self.steps.push(step);
        self
    }

    fn closed(mut self) -> Self {
        if let Some(OpenEvent { fields, data }) = self.open_event.take() {
            let data: String = data.split('\n').map(|line| format!("data: {line}\n")).collect();
            self.steps.push(Step::Body(format!("{fields}{data}\n").into_bytes()));
        }
        self
    }

    fn with_stream_head(self) -> Self {
        if self.headed { self } else { self.head(200, &[("content-type", "text/event-stream")]) }
    }
}

/// Scripts for requests in the order in which they come; the last one serves all that follow.
#[derive(Debug, Clone)]
pub struct Scripts(Vec<Script>);

impl Scripts {
    /// One more.
    pub fn then(mut self, next: Script) -> Self {
        self.0.push(next);
        self
    }

    /// An upstream that plays them.
    pub async fn start(self) -> Upstream {
        Upstream::by(move |seen| self.0[seen.number.min(self.0.len()) - 1].clone()).await
    }
}

/// Where an upstream waits until the test lets it go on.
#[derive(Debug, Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    arrivals: Arc<Semaphore>,
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), arrivals: Arc::new(Semaphore::new(0)) }
    }

    /// Lets one through, now or later.
    pub fn release(&self) {
        self.permits.add_permits(1);
    }

    /// Lets all through from now on.
    pub fn open(&self) {
        self.permits.close();
    }

    /// Waits until somebody stands before it (one arrival is used up).
    pub async fn reached(&self) {
        super::must("an upstream to reach the gate", self.arrivals.acquire())
            .await
            .expect("the arrivals are never closed")
            .forget();
    }

    pub(super) async fn pass(&self) {
        self.arrivals.add_permits(1);
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}
