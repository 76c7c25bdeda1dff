//! One answer of the upstream, known beforehand: what is asked, what comes, and how far somebody is who has some of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// How a talk can be mended when it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Numbers its events and goes on after `Last-Event-ID`.
    Numbered,
    /// A chat that goes on after a trailing assistant message.
    Chat,
    /// A chat that cannot go on, but answers as a whole when it is asked without streaming.
    Whole,
    /// Begins anew whatever it is asked.
    Plain,
}

/// One answer: what is asked, and so what must come.
#[derive(Debug, Clone)]
pub struct Talk {
    /// How it can be mended.
    pub kind: Kind,
    /// Its name, which no other talk has.
    pub key: String,
    /// Events with content.
    pub events: usize,
    /// From one event to the next.
    pub pace: Duration,
}

impl Talk {
    /// A talk of its own name.
    pub fn new(kind: Kind, events: usize, pace_ms: u64) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let key = format!("k{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { kind, key, events, pace: Duration::from_millis(pace_ms) }
    }

    /// One that numbers its events and can go on after any.
    pub fn numbered(events: usize, pace_ms: u64) -> Self {
        Self::new(Kind::Numbered, events, pace_ms)
    }

    /// A chat that goes on with its own words.
    pub fn chat(events: usize, pace_ms: u64) -> Self {
        Self::new(Kind::Chat, events, pace_ms)
    }

    /// One that cannot be mended.
    pub fn plain(events: usize, pace_ms: u64) -> Self {
        Self::new(Kind::Plain, events, pace_ms)
    }

    /// Where it is asked for.
    pub fn path(&self) -> String {
        let Self { kind, key, events, .. } = self;
        let pace = self.pace.as_millis();
        match kind {
            Kind::Numbered => format!("/numbered/{key}/{events}/{pace}?session_id={key}"),
            Kind::Plain => format!("/plain/{key}/{events}/{pace}"),
            Kind::Chat => format!("/chat/{key}/{events}/{pace}/v1/chat/completions"),
            Kind::Whole => format!("/whole/{key}/{events}/{pace}/v1/chat/completions"),
        }
    }

    /// What it is asked with.
    pub fn body(&self) -> String {
        let prompt = format!("prompt of {}", self.key);
        if self.is_chat() {
            json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": prompt }] }).to_string()
        } else {
            json!({ "prompt": prompt }).to_string()
        }
    }

    /// Whether it is spoken as chat completions.
    pub fn is_chat(&self) -> bool {
        matches!(self.kind, Kind::Chat | Kind::Whole)
    }

    /// The data of its `n`th event (from 1), or the words that event says.
    pub fn said(&self, n: usize) -> String {
        if self.is_chat() { format!("{}.{n} ", self.key) } else { format!("{} says its event {n}", self.key) }
    }

    /// All of it in one.
    pub fn text(&self) -> String {
        (1..=self.events).map(|n| self.said(n)).collect()
    }

    pub(super) fn of_path(path: &str) -> Option<Self> {
        let mut parts = path.split('?').next()?.trim_start_matches('/').split('/');
        let kind = match parts.next()? {
            "numbered" => Kind::Numbered,
            "plain" => Kind::Plain,
            "chat" => Kind::Chat,
            "whole" => Kind::Whole,
            _ => return None,
        };
        let key = parts.next()?.to_owned();
        let events = parts.next()?.parse().ok()?;
        let pace = Duration::from_millis(parts.next()?.parse().ok()?);
        Some(Self { kind, key, events, pace })
    }

    /// How many events the asker has, by what it sent; `None` if it is no beginning of this talk.
    pub(super) fn had(&self, last_event_id: Option<&str>, body: &[u8]) -> Option<Had> {
        match self.kind {
            Kind::Numbered => {
                let last = last_event_id.map_or(Some(0), |id| id.parse().ok())?;
                match last.cmp(&(self.events + 1)) {
                    std::cmp::Ordering::Less => Some(Had::Events(last)),
                    std::cmp::Ordering::Equal => Some(Had::All),
                    std::cmp::Ordering::Greater => None,
                }
            }
            Kind::Plain => Some(Had::Events(0)),
            Kind::Chat | Kind::Whole => {
                let body: Value = serde_json::from_slice(body).ok()?;
                if body["stream"] != json!(true) {
                    return (self.kind == Kind::Whole).then_some(Had::NoStream);
                }
                let last = body["messages"].as_array()?.last()?;
                if last["role"] != "assistant" {
                    return Some(Had::Events(0));
                }
                let text = last["content"].as_str()?;
                (self.kind == Kind::Chat && self.text().starts_with(text)).then_some(Had::Text(text.len()))
            }
        }
    }

    /// The blocks that follow, from the first event that the asker does not have, the terminator included.
    pub(super) fn blocks(&self, had: &Had) -> Vec<String> {
        let blocks = |from: usize, block: &dyn Fn(usize) -> String| (from..=self.events).map(block).collect();
        let mut out: Vec<String> = match (self.kind, had) {
            (Kind::Numbered, Had::Events(had)) => blocks(had + 1, &|n| format!("id: {n}\ndata: {}\n\n", self.said(n))),
            (Kind::Plain, _) => blocks(1, &|n| format!("data: {}\n\n", self.said(n))),
            (_, Had::Text(length)) => {
                self.text()[*length..].split_inclusive(' ').map(|word| chunk(self, word)).collect()
            }
            _ => blocks(1, &|n| chunk(self, &self.said(n))),
        };
        match self.kind {
            Kind::Numbered => out.push(format!("event: done\nid: {}\ndata: {{}}\n\n", self.events + 1)),
            Kind::Plain => out.push("event: done\ndata: {}\n\n".to_owned()),
            Kind::Chat | Kind::Whole => {
                out.push(format!("{}data: [DONE]\n\n", delta(self, json!({}), json!("stop"))));
            }
        }
        out
    }

    /// The answer to who does not want a stream.
    pub(super) fn whole_answer(&self) -> String {
        let message = json!({ "role": "assistant", "content": self.text() });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        json!({ "id": self.key, "object": "chat.completion", "created": 1, "model": "m", "choices": [choice] })
            .to_string()
    }
}

/// What somebody has of a talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Had {
    /// So many events.
    Events(usize),
    /// Words of so many bytes.
    Text(usize),
    /// All, and said so.
    All,
    /// It does not want a stream.
    NoStream,
}

fn chunk(talk: &Talk, word: &str) -> String {
    let first = word == talk.said(1);
    let delta_of = if first { json!({ "role": "assistant", "content": word }) } else { json!({ "content": word }) };
    delta(talk, delta_of, Value::Null)
}

fn delta(talk: &Talk, delta: Value, finish: Value) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let chunk = json!({
        "id": talk.key, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice],
    });
    format!("data: {chunk}\n\n")
}
