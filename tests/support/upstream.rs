//! An upstream on a raw socket: it reads requests, plays [`Script`]s and remembers what it saw. Keep-alive works, so
//! that a proxy which leaves a connection in a bad state is found out.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::script::{Script, Step};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The first one has 1.
    pub number: usize,
    /// Its method.
    pub method: String,
    /// Its target as it stood in the request line.
    pub path: String,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What of its body has arrived.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// All of its body has arrived.
    pub whole: bool,
}

impl Seen {
    /// The value of a header; several are joined by `, `.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.iter().filter(|(key, _)| key == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What an upstream has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// All requests, in the order in which their heads arrived.
    pub requests: Vec<Seen>,
    /// Connections accepted.
    pub connections: usize,
    /// Answers during which the proxy hung up.
    pub hung_up: usize,
}

/// A scripted upstream on a loopback port; it goes away when dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<watch::Sender<Log>>,
    listening: tokio::task::JoinHandle<()>,
}

type Choose = dyn Fn(&Seen) -> Script + Send + Sync;

impl Upstream {
    /// An upstream that chooses its script by the request's head.
    pub async fn by(choose: impl Fn(&Seen) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let log = Arc::new(watch::channel(Log::default()).0);
        let (shared, choose): (_, Arc<Choose>) = (Arc::clone(&log), Arc::new(choose));
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                shared.send_modify(|log| log.connections += 1);
                tokio::spawn(Connection::new(socket, Arc::clone(&shared)).serve(Arc::clone(&choose)));
            }
        });
        Self { address, log, listening }
    }

    /// An address where nobody listens.
    pub async fn nobody() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        listener.local_addr().expect("its address")
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.log.borrow().requests.len()
    }

    /// The request of this number; the first one has 1.
    pub fn request(&self, number: usize) -> Seen {
        self.log.borrow().requests.get(number - 1).cloned().unwrap_or_else(|| panic!("there was no request {number}"))
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.log.borrow().connections
    }

    /// How many answers the proxy did not wait for.
    pub fn hung_up(&self) -> usize {
        self.log.borrow().hung_up
    }

    /// Waits until the proxy has hung up during an answer.
    pub async fn closed(&self) {
        self.until("the proxy to hang up", |log| log.hung_up > 0).await;
    }

    /// Waits for the request of this number, its body included.
    pub async fn requested(&self, number: usize) -> Seen {
        self.until("a request to come", |log| log.requests.get(number - 1).is_some_and(|seen| seen.whole)).await;
        self.request(number)
    }

    /// Waits until what it saw is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Log) -> bool) {
        let mut log = self.log.subscribe();
        super::must(what, log.wait_for(wanted)).await.expect("the log lives as long as this");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Why a script stopped being played.
enum Stop {
    /// The connection can take another request.
    Next,
    /// The connection is over.
    Over,
}

struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: Vec<u8>,
    log: Arc<watch::Sender<Log>>,
    chunked: bool,
    number: usize,
}

impl Connection {
    fn new(socket: TcpStream, log: Arc<watch::Sender<Log>>) -> Self {
        socket.set_nodelay(true).expect("nodelay on a fresh socket");
        let (reader, writer) = socket.into_split();
        Self { reader, writer, buffer: Vec::new(), log, chunked: true, number: 0 }
    }

    async fn serve(mut self, choose: Arc<Choose>) {
        while let Some(seen) = self.head().await {
            let script = choose(&seen);
            if matches!(self.play(script).await, Stop::Over) {
                return;
            }
        }
    }

    /// Reads a request's head; `None` if no more come.
    async fn head(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let mut first = lines.next()?.split(' ');
        let mut seen = Seen {
            method: first.next()?.to_owned(),
            path: first.next()?.to_owned(),
            headers: lines.filter_map(header_line).collect(),
            ..Seen::default()
        };
        self.log.send_modify(|log| {
            seen.number = log.requests.len() + 1;
            log.requests.push(seen.clone());
        });
        self.number = seen.number;
        Some(seen)
    }

    async fn more(&mut self) -> bool {
        matches!(self.reader.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        self.log.send_modify(|log| note(&mut log.requests[self.number - 1]));
    }

    fn seen(&self) -> Seen {
        self.log.borrow().requests[self.number - 1].clone()
    }

    async fn play(&mut self, script: Script) -> Stop {
        for step in script.into_steps() {
            let done = match step {
                Step::ReadRequest => self.read_body().await,
                Step::Raw(bytes) => self.write(&bytes).await,
                Step::Body(bytes) if !self.chunked => self.write(&bytes).await,
                Step::Body(bytes) => {
                    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                    chunk.extend_from_slice(&bytes);
                    chunk.extend_from_slice(b"\r\n");
                    self.write(&chunk).await
                }
                Step::Chunked(chunked) => {
                    self.chunked = chunked;
                    true
                }
                Step::Stall(time) => self.unless_gone(tokio::time::sleep(time)).await,
                Step::Wait(gate) => self.unless_gone(gate.pass()).await,
                Step::End => {
                    let end: &[u8] = if self.chunked { b"0\r\n\r\n" } else { b"" };
                    return if self.write(end).await { Stop::Next } else { self.gone() };
                }
                Step::Trailers(trailers) => {
                    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    return if self.write(format!("0\r\n{lines}\r\n").as_bytes()).await {
                        Stop::Next
                    } else {
                        self.gone()
                    };
                }
                Step::Close => {
                    let _ = self.writer.shutdown().await;
                    return Stop::Over;
                }
                Step::Reset => {
                    let socket: &TcpStream = self.writer.as_ref();
                    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
                    return Stop::Over;
                }
                Step::Echo => return self.echo().await,
                Step::Hang => false,
            };
            if !done {
                return self.wait_for_the_end().await;
            }
        }
        self.wait_for_the_end().await
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// Waits, but not for a proxy that has gone. What comes meanwhile (the rest of a request) is kept.
    async fn unless_gone(&mut self, wait: impl Future<Output = ()>) -> bool {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                biased;
                () = &mut wait => return true,
                read = self.reader.read_buf(&mut self.buffer) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                },
            }
        }
    }

    async fn wait_for_the_end(&mut self) -> Stop {
        while self.more().await {}
        self.gone()
    }

    fn gone(&self) -> Stop {
        self.log.send_modify(|log| log.hung_up += 1);
        Stop::Over
    }

    async fn echo(&mut self) -> Stop {
        loop {
            let bytes = std::mem::take(&mut self.buffer);
            if !bytes.is_empty() && !self.write(&bytes).await || !self.more().await {
                let _ = self.writer.shutdown().await;
                return Stop::Over;
            }
        }
    }

    /// Reads the request's body as its head announced it.
    async fn read_body(&mut self) -> bool {
        let seen = self.seen();
        let read = if seen.header("transfer-encoding").is_some() {
            self.read_chunks().await
        } else {
            let length = seen.header("content-length").map_or(0, |length| length.parse().expect("a length"));
            self.read_exactly(length).await
        };
        if read {
            self.note(|seen| seen.whole = true);
        }
        read
    }

    async fn read_exactly(&mut self, mut length: usize) -> bool {
        while length > 0 {
            if self.buffer.is_empty() && !self.more().await {
                return false;
            }
            let take = length.min(self.buffer.len());
            let part: Vec<u8> = self.buffer.drain(..take).collect();
            length -= take;
            self.note(|seen| seen.body.extend_from_slice(&part));
        }
        true
    }

    async fn read_chunks(&mut self) -> bool {
        loop {
            let Some(line) = self.line().await else { return false };
            let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16).expect("a chunk's size");
            if length == 0 {
                break;
            }
            if !self.read_exactly(length).await || self.line().await.is_none() {
                return false;
            }
        }
        loop {
            match self.line().await {
                None => return false,
                Some(line) if line.is_empty() => return true,
                Some(line) => self.note(|seen| seen.trailers.extend(header_line(&line))),
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }
}

/// `Name: value` with the name in lower case.
pub fn header_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// Where `needle` begins.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
