//! A reply as one client sees it: every byte, and how the body ended. Dropping it is leaving.

use super::client::Connection;
use super::events::{self, Event};
use super::must;
use super::upstream::{find, header_line};

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// As its framing says.
    Clean,
    /// The connection was closed in the middle of it.
    Cut,
    /// The connection was reset in the middle of it.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    Left(usize),
    UntilClose,
}

impl Framing {
    fn of(status: u16, headers: &[(String, String)]) -> Self {
        let get = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (status, get("transfer-encoding"), get("content-length")) {
            (101, ..) => Self::UntilClose,
            (100..=199 | 204 | 304, ..) => Self::Left(0),
            (_, Some("chunked"), None) => Self::Chunked,
            (_, None, Some(length)) => Self::Left(length.parse().expect("a length")),
            (_, None, None) => Self::UntilClose,
            strange => panic!("strange framing: {strange:?}"),
        }
    }
}

/// A reply whose head has arrived.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its trailers, once the body has ended.
    pub trailers: Vec<(String, String)>,
    connection: Connection,
    framing: Framing,
    end: Option<BodyEnd>,
    /// Body bytes not yet taken as events.
    stream: Vec<u8>,
    /// All body bytes so far.
    raw: Vec<u8>,
}

impl Reply {
    /// A reply with this head, whose body is still on `connection`.
    pub fn new(status: u16, headers: Vec<(String, String)>, connection: Connection, bodiless: bool) -> Self {
        let framing = if bodiless { Framing::Left(0) } else { Framing::of(status, &headers) };
        let (trailers, stream, raw) = Default::default();
        Self { status, headers, trailers, connection, framing, end: None, stream, raw }
    }

    /// The value of a header that is there once.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// The session of a stream.
    pub fn session(&self) -> String {
        self.header("streamkeeper-session").expect("a stream names its session")
    }

    /// The next event; `None` when the body has ended, however it did (see [`ended`](Self::ended)). What is left of
    /// the body then must be whole lines.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = events::take(&mut self.stream) {
                return Some(event);
            }
            if !self.piece().await {
                return None;
            }
        }
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> Event {
        let next = must("an event", self.next()).await;
        next.unwrap_or_else(|| panic!("the stream ended ({:?}) where an event was due", self.end))
    }

    /// The next `count` events, which must come.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// All events that are still to come, and a clean end.
    pub async fn rest(mut self) -> Vec<Event> {
        let events = self.until_end().await;
        assert_eq!(self.end, Some(BodyEnd::Clean), "after {events:?}");
        events
    }

    /// All events that are still to come, until the body ends however it does.
    pub async fn until_end(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = must("an event or the end", self.next()).await {
            events.push(event);
        }
        assert_eq!(String::from_utf8_lossy(&self.stream), "", "half an event at the end");
        events
    }

    /// How the body ended, if it did.
    pub fn ended(&self) -> Option<BodyEnd> {
        self.end
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Vec<u8> {
        while must("the rest of a body", self.piece()).await {}
        assert_eq!(self.end, Some(BodyEnd::Clean), "after {:?}", String::from_utf8_lossy(&self.raw));
        self.raw
    }

    /// The whole body as text.
    pub async fn text(self) -> String {
        String::from_utf8(self.bytes().await).expect("UTF-8")
    }

    /// The whole body as JSON.
    pub async fn json(self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// All body bytes that have come so far, event or not.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Waits until the body so far holds `wanted`.
    pub async fn until_raw(&mut self, wanted: &[u8]) {
        while find(&self.raw, wanted).is_none() {
            assert!(must("certain bytes", self.piece()).await, "the body ended without them");
        }
    }

    /// The connection, for whatever comes after a 101 or a whole body.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Reads the rest of the body and takes the connection back for the next request.
    pub async fn finish(mut self) -> Connection {
        while must("the rest of a body", self.piece()).await {}
        assert_eq!(self.end, Some(BodyEnd::Clean));
        self.connection
    }

    /// Takes a piece of the body in; `false` at its end.
    pub async fn piece(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.read_piece().await {
            Ok(Some(piece)) => {
                self.stream.extend_from_slice(&piece);
                self.raw.extend_from_slice(&piece);
                true
            }
            Ok(None) => {
                self.end = Some(BodyEnd::Clean);
                false
            }
            Err(end) => {
                self.end = Some(if self.framing == Framing::UntilClose { BodyEnd::Clean } else { end });
                false
            }
        }
    }

    /// Leaves the buffer as it was when it is cancelled in the middle.
    async fn read_piece(&mut self) -> Result<Option<Vec<u8>>, BodyEnd> {
        let connection = &mut self.connection;
        match self.framing {
            Framing::Left(0) => Ok(None),
            Framing::Left(length) => {
                if connection.buffer.is_empty() {
                    connection.more().await?;
                }
                let take = length.min(connection.buffer.len());
                self.framing = Framing::Left(length - take);
                Ok(Some(connection.buffer.drain(..take).collect()))
            }
            Framing::UntilClose => {
                if connection.buffer.is_empty() {
                    connection.more().await?;
                }
                Ok(Some(std::mem::take(&mut connection.buffer)))
            }
            Framing::Chunked => loop {
                if let Some((length, start)) = chunk_head(&connection.buffer) {
                    if length == 0 {
                        connection.buffer.drain(..start);
                        break self.read_trailers().await;
                    }
                    let end = start + length + 2;
                    if connection.buffer.len() >= end {
                        let chunk: Vec<u8> = connection.buffer.drain(..end).collect();
                        assert_eq!(&chunk[end - 2..], b"\r\n", "a chunk ends where it says");
                        return Ok(Some(chunk[start..end - 2].to_vec()));
                    }
                }
                let Err(end) = connection.more().await else { continue };
                // Who reads a stream has seen what came of a chunk that broke off.
                let part = std::mem::take(&mut connection.buffer);
                match chunk_head(&part) {
                    Some((_, start)) if start < part.len() => return Ok(Some(part[start..].to_vec())),
                    _ => return Err(end),
                }
            },
        }
    }

    async fn read_trailers(&mut self) -> Result<Option<Vec<u8>>, BodyEnd> {
        loop {
            let line = self.connection.line().await?;
            if line.is_empty() {
                return Ok(None);
            }
            self.trailers.extend(header_line(&line));
        }
    }
}

/// Length of the chunk that begins here, and where its data starts; `None` if its first line is not whole.
fn chunk_head(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = find(buffer, b"\r\n")?;
    let size = std::str::from_utf8(&buffer[..end]).expect("a chunk's size is ASCII");
    let length = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk's size: {size:?}"));
    Some((length, end + 2))
}
