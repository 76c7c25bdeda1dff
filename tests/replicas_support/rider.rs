//! A client that comes back until its answer is whole, as a good client would: whenever its connection breaks or ends
//! without the terminator, it waits a moment and asks again, here or elsewhere, and says where it stands. It notes
//! everything it was told; what that is worth is for [`judge`](super::judge) to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Chance, Replica, Talk};
use crate::support::client::Connection;
use crate::support::{Event, Reply};

/// When a client gives up: only one that is stuck ever does.
const DEADLINE: Duration = Duration::from_secs(45);
/// How long it waits for the head of an answer before it tries elsewhere.
const HEAD: Duration = Duration::from_secs(6);
/// What a client comes back after: it was told to.
const COME_BACK: [&str; 3] = ["draining", "store_unavailable", "overloaded"];

/// Where a client stands when it chooses a replica.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Connections it has tried so far.
    pub visits: usize,
    /// The replica of the last one.
    pub last: Option<usize>,
    /// How many replicas there are.
    pub replicas: usize,
}

/// Chooses the replica of the next connection.
pub type Choose = Box<dyn FnMut(Moment) -> usize + Send>;

/// Any replica, by chance.
pub fn anywhere(seed: usize) -> Choose {
    let mut chance = Chance::of(seed);
    Box::new(move |moment| chance.below(moment.replicas))
}

/// One after the other, beginning with `first`.
pub fn other(first: usize) -> Choose {
    Box::new(move |moment| moment.last.map_or(first, |last| (last + 1) % moment.replicas))
}

/// Always this one.
pub fn at(replica: usize) -> Choose {
    Box::new(move |_| replica)
}

/// A client that wants one talk.
#[derive(Debug, Clone)]
pub struct Rider {
    talk: Talk,
    replicas: Vec<SocketAddr>,
    cuts: Vec<usize>,
    headers: Vec<(String, String)>,
    in_any_way: bool,
    chance: Chance,
}

impl Rider {
    /// A client of these replicas.
    pub fn of(talk: &Talk, replicas: &[Replica]) -> Self {
        let replicas = replicas.iter().map(|replica| replica.address).collect();
        let seed = talk.key.trim_start_matches('k').parse().unwrap_or_default();
        let headers = vec![("accept".to_owned(), "text/event-stream".to_owned())];
        Self { talk: talk.clone(), replicas, cuts: Vec::new(), headers, in_any_way: false, chance: Chance::of(seed) }
    }

    /// Another client like this one, that wants `talk`.
    pub fn wants(mut self, talk: &Talk) -> Self {
        self.talk = talk.clone();
        self
    }

    /// It leaves by itself after so many events in all, and comes back.
    pub fn cut_at(mut self, cuts: impl IntoIterator<Item = usize>) -> Self {
        self.cuts = cuts.into_iter().collect();
        self.cuts.sort_unstable();
        self.cuts.reverse();
        self
    }

    /// It leaves at `count` chances.
    pub fn cut_at_random(self, count: usize) -> Self {
        let (mut chance, events) = (self.chance.clone(), self.talk.events);
        self.cut_at((0..count).map(|_| 1 + chance.below(events)).collect::<Vec<_>>())
    }

    /// With a header on every request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// It does not say that it takes event streams, as callers of completions do not.
    pub fn without_accept(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "accept");
        self
    }

    /// It comes back in every way there is, by chance: the same request, a GET of its path, or the session's own path.
    pub fn in_any_way(mut self) -> Self {
        self.in_any_way = true;
        self
    }

    /// Sets off.
    pub fn ride(self, choose: Choose) -> Riding {
        let (progress, events) = watch::channel(0);
        let leave = Arc::new(Notify::new());
        let ride = Ride {
            rider: self,
            last_id: None,
            session: None,
            items: Vec::new(),
            visits: Vec::new(),
            progress,
            leave: Arc::clone(&leave),
            deadline: Instant::now() + DEADLINE,
        };
        Riding { told: tokio::spawn(ride.on(choose)), events, leave }
    }
}

/// A client on its way.
#[derive(Debug)]
pub struct Riding {
    told: JoinHandle<Told>,
    events: watch::Receiver<usize>,
    leave: Arc<Notify>,
}

impl Riding {
    /// Waits until it has so many events, or all it will ever get.
    pub async fn has(&self, events: usize) {
        let mut seen = self.events.clone();
        let _ = timeout(DEADLINE, seen.wait_for(|seen| *seen >= events)).await;
    }

    /// How many events it has.
    pub fn events(&self) -> usize {
        *self.events.borrow()
    }

    /// It hangs up now, and comes back.
    pub fn leave(&self) {
        self.leave.notify_one();
    }

    /// All it was told, once that is over.
    pub async fn told(self) -> Told {
        self.told.await.expect("a client reads what it gets without a panic")
    }
}

/// All that a client was told.
#[derive(Debug)]
pub struct Told {
    /// What it wanted.
    pub talk: Talk,
    /// What came, in order.
    pub items: Vec<Item>,
    /// Its connections.
    pub visits: Vec<Visit>,
    /// How it ended.
    pub end: End,
}

/// One thing that came.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event of the answer, its terminator included.
    Event(Event),
    /// A gap, by its JSON.
    Gap(Value),
    /// The standard error.
    Failure(Value),
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Visit {
    /// To which replica.
    pub replica: usize,
    /// `Last-Event-ID` as it was sent.
    pub after: Option<String>,
    /// The status, if a head came.
    pub status: Option<u16>,
    /// The headers that came with it.
    pub headers: Vec<(String, String)>,
    /// Items that came.
    pub items: usize,
    /// How it was over.
    pub over: String,
}

impl Visit {
    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How a client's ride ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With the terminator.
    Done,
    /// With the standard error of this code, inside the stream.
    Failed(String),
    /// With this status and code instead of a stream.
    Refused(u16, String),
    /// Not in time: the client was stuck.
    Stuck,
}

struct Ride {
    rider: Rider,
    last_id: Option<String>,
    session: Option<String>,
    items: Vec<Item>,
    visits: Vec<Visit>,
    progress: watch::Sender<usize>,
    leave: Arc<Notify>,
    deadline: Instant,
}

/// What follows a connection.
enum Next {
    Over(End),
    Again(String),
}

impl Ride {
    async fn on(mut self, mut choose: Choose) -> Told {
        let end = loop {
            let replicas = self.rider.replicas.len();
            let last = self.visits.last().map(|visit| visit.replica);
            let replica = choose(Moment { visits: self.visits.len(), last, replicas });
            let after = self.last_id.clone();
            self.visits.push(Visit {
                replica,
                after,
                status: None,
                headers: Vec::new(),
                items: 0,
                over: "on its way".into(),
            });
            match timeout_at(self.deadline, self.visit(replica)).await {
                Err(_) => break End::Stuck,
                Ok(Next::Over(end)) => {
                    self.now().over = "the end".into();
                    break end;
                }
                Ok(Next::Again(why)) => {
                    self.now().over = why;
                    let wait = 20 + self.rider.chance.below(130) as u64;
                    sleep(Duration::from_millis(wait)).await;
                }
            }
        };
        Told { talk: self.rider.talk, items: self.items, visits: self.visits, end }
    }

    fn now(&mut self) -> &mut Visit {
        self.visits.last_mut().expect("there is a visit")
    }

    async fn visit(&mut self, replica: usize) -> Next {
        let again = |why: &str| Next::Again(why.to_owned());
        let reply = match timeout(HEAD, self.open(replica)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(why)) => return again(why),
            Err(_) => return again("no head in time"),
        };
        self.now().status = Some(reply.status);
        self.now().headers.clone_from(&reply.headers);
        match reply.status {
            200 => {}
            204 => return Next::Over(End::Refused(204, String::new())),
            status => {
                let code = code_of(reply).await;
                return if status == 503 { Next::Again(code) } else { Next::Over(End::Refused(status, code)) };
            }
        }
        self.session = reply.header("streamkeeper-session").or(self.session.take());
        self.read(reply).await
    }

    async fn open(&mut self, replica: usize) -> Result<Reply, &'static str> {
        let address = self.rider.replicas[replica];
        let socket = TcpStream::connect(address).await.map_err(|_| "nobody listens")?;
        let mut connection = Connection::over(socket);
        let request = self.request();
        if !connection.try_write(request).await {
            return Err("hung up before the request");
        }
        connection.try_reply().await.ok_or("hung up before the head")
    }

    /// The request as bytes.
    fn request(&mut self) -> Vec<u8> {
        let talk = &self.rider.talk;
        let way = if self.rider.in_any_way && self.last_id.is_some() { self.rider.chance.below(3) } else { 2 };
        let (method, path, body) = match (way, &self.session) {
            (0, Some(session)) => ("GET", format!("/_streamkeeper/sessions/{session}"), String::new()),
            (1, _) => ("GET", talk.path(), String::new()),
            _ => ("POST", talk.path(), talk.body()),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        let after = self.last_id.iter().map(|id| ("last-event-id", id.as_str()));
        let headers = self.rider.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.chain(after) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        format!("{head}\r\n{body}").into_bytes()
    }

    async fn read(&mut self, mut reply: Reply) -> Next {
        let mut end = None;
        loop {
            let next = tokio::select! {
                biased;
                next = reply.next() => next,
                () = self.leave.notified() => return Next::Again("it left".to_owned()),
            };
            let Some(event) = next else { break };
            assert!(!matches!(end, Some(End::Done)), "after the terminator came {event:?}");
            let over = self.take(event);
            end = end.or(over);
            let taken = *self.progress.borrow();
            if end.is_none() && self.rider.cuts.last().is_some_and(|cut| *cut <= taken) {
                self.rider.cuts.pop();
                return Next::Again("it cut itself".to_owned());
            }
        }
        match end {
            Some(End::Failed(code)) if COME_BACK.contains(&code.as_str()) => Next::Again(code),
            Some(end) => Next::Over(end),
            None => Next::Again(format!("{:?}", reply.ended())),
        }
    }

    /// Notes an event; says how the answer has ended if it has.
    fn take(&mut self, event: Event) -> Option<End> {
        self.now().items += 1;
        if let Some(id) = &event.id {
            self.last_id = Some(id.clone());
        }
        let failure = match event.name.as_str() {
            "gap" => {
                self.items.push(Item::Gap(event.json()));
                return None;
            }
            "error" => Some(event.json()),
            _ if self.rider.talk.is_chat() && event.data.contains("\"error\"") => Some(event.json()["error"].clone()),
            _ => None,
        };
        if let Some(failure) = failure {
            let code = failure["code"].as_str().unwrap_or_default().to_owned();
            self.items.push(Item::Failure(failure));
            return Some(End::Failed(code));
        }
        let done = if self.rider.talk.is_chat() { event.data == "[DONE]" } else { event.name == "done" };
        self.items.push(Item::Event(event));
        self.progress.send_modify(|events| *events += 1);
        done.then_some(End::Done)
    }
}

/// The code of an error that is an answer of its own.
async fn code_of(mut reply: Reply) -> String {
    while reply.piece().await {}
    let body: Value = serde_json::from_slice(reply.raw()).unwrap_or_default();
    let code = body["code"].as_str().or(body["error"]["code"].as_str());
    code.unwrap_or_default().to_owned()
}
