//! The Rust client of the matrix (docs/sdk-matrix.md has the others): `reqwest-eventsource`, which comes back by itself
//! with its last id, also after a clean end, and sends an empty one while it has none.

mod support;

use futures_util::StreamExt as _;
use reqwest_eventsource::{Event, EventSource, ReadyState};
use support::{Proxy, Script, must, upstream};

const QUICK: &str =
    "[retry_hint]\nbase = '1ms'\nill = '1ms'\n[[routes]]\nretry = { attempts = 2, base = '1ms', max = '1ms' }\n";

struct Told {
    events: Vec<(String, String, String)>,
    opened: usize,
    /// How it came to its end.
    last: String,
}

/// Everything that an EventSource is told until it gives up by itself.
async fn watch(proxy: &Proxy, path: &str) -> Told {
    let mut source = EventSource::get(format!("http://{}{path}", proxy.address));
    let mut told = Told { events: Vec::new(), opened: 0, last: String::new() };
    while let Some(next) = must("a word", source.next()).await {
        match next {
            Ok(Event::Open) => told.opened += 1,
            Ok(Event::Message(event)) => told.events.push((event.event, event.data, event.id)),
            Err(error) => told.last = error.to_string(),
        }
        if source.ready_state() == ReadyState::Closed {
            break;
        }
    }
    told
}

fn data(told: &Told) -> Vec<&str> {
    told.events.iter().map(|(_, data, _)| data.as_str()).collect()
}

async fn told_by(script: Script) -> (Told, usize) {
    let llm = script.start().await;
    let proxy = Proxy::before(&llm, QUICK).await;
    (watch(&proxy, "/chat").await, llm.requests())
}

#[tokio::test]
async fn a_whole_stream_is_told_once_and_a_204_ends_it() {
    let (told, requests) = told_by(upstream().events(["a", "b", "c"]).end()).await;
    assert_eq!((data(&told), requests), (vec!["a", "b", "c"], 1));
    assert!(told.events.iter().all(|(_, _, id)| id.contains('.')), "{:?}", told.events);
    assert!(told.last.contains("204"), "{}", told.last);
}

#[tokio::test]
async fn what_the_upstream_reports_and_what_is_truncated_comes_as_one_error_event() {
    let reported = upstream().event("a").event(r#"{"type":"business","message":"no"}"#).named("error").end();
    let broken = upstream().event("a").half_event().cut();
    for (script, kind) in [(reported, "business"), (broken, "system")] {
        let (told, requests) = told_by(script).await;
        let (name, data, _) = told.events.last().expect("an error");
        let error: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((name.as_str(), error["type"].as_str(), told.events.len(), requests), ("error", Some(kind), 2, 1));
    }
}

#[tokio::test]
async fn a_429_is_made_well_behind_its_back() {
    let llm =
        upstream().answer_with(429, &[("retry-after", "0")], "no").then(upstream().event("a").end()).start().await;
    let proxy = Proxy::before(&llm, QUICK).await;
    assert_eq!((data(&watch(&proxy, "/chat").await), llm.requests()), (vec!["a"], 2));
}

#[tokio::test]
async fn a_client_that_is_cut_off_comes_back_for_the_rest() {
    // Dropped in the middle and begun anew with the last id that it noted.
    let gate = support::Gate::new();
    let llm = upstream().events(["a", "b"]).gate(&gate).events(["c", "d"]).end().start().await;
    let proxy = Proxy::before(&llm, QUICK).await;
    let mut source = EventSource::get(format!("http://{}/chat", proxy.address));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(Ok(Event::Message(event))) = must("an event", source.next()).await {
            seen.push(event);
        }
    }
    let last = source.last_event_id().to_owned();
    drop(source);
    gate.open();
    let client = reqwest::Client::new().get(format!("http://{}/chat", proxy.address)).header("last-event-id", last);
    let mut again = EventSource::new(client).expect("a request that can be repeated");
    while seen.len() < 4 {
        if let Some(Ok(Event::Message(event))) = must("an event", again.next()).await {
            seen.push(event);
        }
    }
    again.close();
    let data: Vec<_> = seen.iter().map(|event| event.data.as_str()).collect();
    assert_eq!((data, llm.requests()), (vec!["a", "b", "c", "d"], 1));
}
