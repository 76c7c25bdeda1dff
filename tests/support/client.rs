//! One client, HTTP/1.1 by hand: what it sends, and the connection on which it does. What comes back is in
//! [`reply`](super::reply).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::must;
use super::reply::{BodyEnd, Reply};
use super::upstream::{find, header_line};

/// A request to be sent on a connection of its own.
#[derive(Debug, Clone)]
pub struct Request {
    address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request to `address`.
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        Self { address, method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: None }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the client stands.
    pub fn after(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// As this caller.
    pub fn caller(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With a body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// With a JSON body.
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Sends it and waits for the head of the reply.
    pub async fn send(self) -> Reply {
        self.begin().await.reply().await
    }

    /// Sends it and does not wait.
    pub async fn begin(self) -> Connection {
        let mut connection = Connection::open(self.address).await;
        self.write_to(&mut connection).await;
        connection
    }

    /// Sends it on a connection that is there already.
    pub async fn write_to(self, connection: &mut Connection) {
        connection.bodiless = self.method == "HEAD";
        connection.write(&self.into_bytes()).await;
    }

    /// Asks for an event stream, and must get one.
    pub async fn events(self) -> Reply {
        let reply = self.header("accept", "text/event-stream").send().await;
        if reply.status != 200 {
            let status = reply.status;
            panic!("asked for events and got {status} {}", reply.text().await);
        }
        assert_eq!(reply.header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
        reply
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.unwrap_or_default());
        bytes
    }
}

/// A connection to the proxy.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    pub(super) buffer: Vec<u8>,
    /// The next reply has no body, whatever its head says: the request was a HEAD.
    bodiless: bool,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("the proxy listens");
        Self::over(socket)
    }

    /// Speaks over a connected socket.
    pub fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("nodelay on a fresh socket");
        Self { socket, buffer: Vec::new(), bodiless: false }
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("the proxy reads");
    }

    /// Sends bytes as they are; whether that worked.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Waits for the head of a reply.
    pub async fn reply(self) -> Reply {
        self.try_reply().await.expect("the proxy answers instead of hanging up")
    }

    /// Waits for the head of a reply; `None` if the connection is closed instead.
    pub async fn try_reply(mut self) -> Option<Reply> {
        let end = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => {
                    must("the head of a reply", self.more()).await.ok()?;
                }
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        let headers: Vec<_> = lines.filter_map(header_line).collect();
        let bodiless = self.bodiless;
        Some(Reply::new(status, headers, self, bodiless))
    }

    /// Reads more into the buffer.
    pub(super) async fn more(&mut self) -> Result<(), BodyEnd> {
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(BodyEnd::Cut),
            Ok(_) => Ok(()),
            Err(_) => Err(BodyEnd::Reset),
        }
    }

    pub(super) async fn line(&mut self) -> Result<String, BodyEnd> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    /// Exactly so many bytes, of whatever protocol is spoken now.
    pub async fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            must("more bytes", self.more()).await.expect("the connection stays open");
        }
        self.buffer.drain(..length).collect()
    }

    /// Waits until the proxy closes the connection; what came before that.
    pub async fn until_closed(mut self) -> Vec<u8> {
        while must("the proxy to close the connection", self.more()).await.is_ok() {}
        self.buffer
    }

    /// Bytes that arrived beyond the last reply, if any did by now.
    pub fn surplus(&mut self) -> Option<Vec<u8>> {
        let mut more = vec![0; 1024];
        if let Ok(read @ 1..) = self.socket.try_read(&mut more) {
            self.buffer.extend_from_slice(&more[..read]);
        }
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    /// Half-closes: nothing more is sent.
    pub async fn finish_writing(&mut self) {
        let _ = self.socket.shutdown().await;
    }
}
