//! The upstream: many talks at once, each with content that is known beforehand, so that a judge can tell what is
//! missing, doubled or made up. It remembers who asked for what, and who hung up.
//!
//! What a talk is stands in its path: `/plain/<key>/<events>/<pace>`. So the service itself holds nothing but its log,
//! and whichever process asks gets the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::PATIENCE;
use super::talk::{Had, Talk};
use crate::support::upstream::{find, header_line};

/// One request as it was answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which replica asked: its header `x-replica`.
    pub replica: String,
    /// Where it said it stood, if it did: its Last-Event-ID or the text it wants continued.
    pub stood: Option<String>,
    /// Blocks written so far.
    pub written: usize,
    /// How far the answer is.
    pub state: Answering,
}

/// How far an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// Being written.
    Going,
    /// Written to its end.
    Whole,
    /// The asker went away before its end.
    HungUp,
    /// Refused: no such talk, or no beginning of it.
    Refused,
}

/// What a service has seen: each talk's requests, by its key.
pub type Log = HashMap<String, Vec<Asked>>;

/// Keeps an answer from going on until it is opened.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.0.close();
    }

    async fn passed(&self) {
        // There is never a permit: only closing it ends the wait.
        let _ = self.0.acquire().await;
    }
}

/// The upstream of a story; it goes away when dropped.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    log: watch::Sender<Log>,
    holds: Mutex<HashMap<String, (usize, Hold)>>,
}

impl Service {
    /// One that listens.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared { log: watch::channel(Log::new()).0, holds: Mutex::default() });
        let answering = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Connection::new(socket, Arc::clone(&answering)).serve());
            }
        });
        Self { address, shared, listening }
    }

    /// The first answer to `talk` stops after `events` events, until the hold is opened. Later ones do not.
    pub fn hold(&self, talk: &Talk, events: usize) -> Hold {
        let hold = Hold(Arc::new(Semaphore::new(0)));
        let mut holds = self.shared.holds.lock().expect("nobody panics here");
        holds.insert(talk.key.clone(), (events, hold.clone()));
        hold
    }

    /// The requests for `talk`.
    pub fn asked(&self, talk: &Talk) -> Vec<Asked> {
        self.shared.log.borrow().get(&talk.key).cloned().unwrap_or_default()
    }

    /// How many answers are being written to this replica.
    pub fn going(&self, replica: &str) -> usize {
        let log = self.shared.log.borrow();
        let going = |asked: &&Asked| asked.state == Answering::Going && asked.replica == replica && asked.written > 0;
        log.values().flatten().filter(going).count()
    }

    /// Waits until the requests for `talk` are as wanted.
    pub async fn until(&self, what: &str, talk: &Talk, wanted: impl Fn(&[Asked]) -> bool) {
        let mut log = self.shared.log.subscribe();
        let done = log.wait_for(|log| wanted(log.get(&talk.key).map_or(&[][..], Vec::as_slice)));
        let in_time = tokio::time::timeout(PATIENCE, done).await.is_ok();
        assert!(in_time, "waited in vain for {what}: {:?}", self.asked(talk));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        socket.set_nodelay(true).expect("nodelay on a fresh socket");
        Self { socket, buffer: Vec::new(), shared }
    }

    async fn serve(mut self) {
        while let Some(request) = self.request().await {
            let talk = Talk::of_path(&request.path).unwrap_or_else(|| panic!("no talk at {}", request.path));
            let had = talk.had(request.header("last-event-id"), &request.body);
            let number = self.note_request(&talk, &request, had.as_ref());
            let going_on = match had {
                None => self.whole(400, r#"{"error":{"message":"that is no beginning of this talk"}}"#).await,
                Some(Had::NoStream) => self.whole(200, &talk.whole_answer()).await,
                Some(Had::All) => self.whole(204, "").await,
                Some(had) => self.stream(&talk, &had, number).await,
            };
            if !going_on {
                return;
            }
        }
    }

    fn note_request(&self, talk: &Talk, request: &Request, had: Option<&Had>) -> usize {
        let last = request.header("last-event-id").map(str::to_owned);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let message = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
        let text = if message["role"] == "assistant" { message["content"].as_str().map(str::to_owned) } else { None };
        let asked = Asked {
            replica: request.header("x-replica").unwrap_or_default().to_owned(),
            stood: last.or(text),
            written: 0,
            state: match had {
                None => Answering::Refused,
                Some(Had::NoStream | Had::All) => Answering::Whole,
                Some(Had::Events(_) | Had::Text(_)) => Answering::Going,
            },
        };
        let mut number = 0;
        self.shared.log.send_modify(|log| {
            let requests = log.entry(talk.key.clone()).or_default();
            number = requests.len();
            requests.push(asked);
        });
        number
    }

    fn note(&self, talk: &Talk, number: usize, note: impl FnOnce(&mut Asked)) {
        self.shared.log.send_modify(|log| {
            note(&mut log.get_mut(&talk.key).expect("noted before")[number]);
        });
    }

    async fn stream(&mut self, talk: &Talk, had: &Had, number: usize) -> bool {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let hold = self.shared.holds.lock().expect("nobody panics here").get(&talk.key).cloned();
        let hold = hold.filter(|_| number == 0);
        let mut whole = self.socket.write_all(head.as_bytes()).await.is_ok();
        for (written, block) in talk.blocks(had).into_iter().enumerate() {
            whole = whole && self.unless_gone(tokio::time::sleep(talk.pace)).await;
            if let Some((_, hold)) = hold.as_ref().filter(|(at, _)| *at == written) {
                whole = whole && self.unless_gone(hold.passed()).await;
            }
            let framed = format!("{:x}\r\n{block}\r\n", block.len());
            whole = whole && self.socket.write_all(framed.as_bytes()).await.is_ok();
            if !whole {
                break;
            }
            self.note(talk, number, |asked| asked.written += 1);
        }
        whole = whole && self.socket.write_all(b"0\r\n\r\n").await.is_ok();
        let state = if whole { Answering::Whole } else { Answering::HungUp };
        self.note(talk, number, |asked| asked.state = state);
        whole
    }

    async fn whole(&mut self, status: u16, body: &str) -> bool {
        let head =
            format!("HTTP/1.1 {status} .\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        self.socket.write_all(format!("{head}{body}").as_bytes()).await.is_ok()
    }

    /// Waits, but not for an asker that has gone.
    async fn unless_gone(&mut self, wait: impl Future<Output = ()>) -> bool {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                biased;
                () = &mut wait => return true,
                read = self.socket.read_buf(&mut self.buffer) => match read {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                },
            }
        }
    }

    async fn request(&mut self) -> Option<Request> {
        let end = loop {
            match find(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.more().await?,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let mut lines = head.trim_end().split("\r\n");
        let path = lines.next()?.split(' ').nth(1)?.to_owned();
        let mut request = Request { path, headers: lines.filter_map(header_line).collect(), body: Vec::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            self.more().await?;
        }
        request.body = self.buffer.drain(..length).collect();
        Some(request)
    }

    async fn more(&mut self) -> Option<()> {
        matches!(self.socket.read_buf(&mut self.buffer).await, Ok(read) if read > 0).then_some(())
    }
}
