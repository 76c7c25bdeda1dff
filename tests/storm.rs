//! A reconnect storm: many streams at once, each cut by its client again and again, and resumed in every way there is.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{Event, Proxy, Request, Seen, Upstream, upstream};
use tokio::task::JoinSet;

const STREAMS: usize = 300;
const EVENTS: usize = 200;
const CUTS: usize = 4;

/// A small generator of its own (xorshift), so that a failing storm can be had again.
struct Chance(u64);

impl Chance {
    fn of(seed: usize) -> Self {
        Self((seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// `EVENTS` events in gusts, and the terminator.
fn gusts(seen: &Seen) -> support::Script {
    let mut chance = Chance::of(seen.number);
    let mut script = upstream();
    for n in 0..EVENTS {
        script = script.event(format!("{} {n}", seen.path));
        if chance.below(16) == 0 {
            script = script.stall(Duration::from_millis(1));
        }
    }
    script.event("{}").named("done").end()
}

/// A POST of its own; the re-sent one is the same but for its Last-Event-ID.
fn ask(proxy: &Proxy, stream: usize) -> Request {
    proxy.post(&format!("/storm/{stream}")).json(&format!(r#"{{"stream":{stream}}}"#))
}

/// Comes back in one of the three ways.
fn come_back(proxy: &Proxy, stream: usize, session: &str, last: &str, way: usize) -> Request {
    match way {
        0 => proxy.get(&format!("/storm/{stream}")).after(last),
        1 => proxy.session("GET", session).after(last),
        _ => ask(proxy, stream).after(last),
    }
}

/// One client's whole story: all it ever took, in order.
async fn ride(proxy: Arc<Proxy>, stream: usize) -> Vec<Event> {
    let mut chance = Chance::of(STREAMS + stream);
    let mut cuts: Vec<usize> = (0..CUTS).map(|_| 1 + chance.below(EVENTS)).collect();
    cuts.sort_unstable();
    let mut taken: Vec<Event> = Vec::new();
    let mut reply = ask(&proxy, stream).events().await;
    let session = reply.session();
    for cut in cuts {
        taken.extend(reply.take(cut - taken.len()).await);
        drop(reply);
        let last = taken[taken.len() - 1].id();
        reply = come_back(&proxy, stream, &session, last, chance.below(3)).events().await;
        assert_eq!(reply.session(), session);
    }
    taken.extend(reply.rest().await);
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_streams_cut_four_times_each_lose_nothing_and_are_paid_once() {
    let llm = Upstream::by(gusts).await;
    let proxy = Arc::new(Proxy::before(&llm, "[[routes]]\ngeneric = { done_events = ['done'] }").await);
    let mut storm = JoinSet::new();
    for stream in 0..STREAMS {
        let proxy = Arc::clone(&proxy);
        storm.spawn(async move { (stream, ride(proxy, stream).await) });
    }
    while let Some(ridden) = storm.join_next().await {
        let (stream, taken) = ridden.expect("every client's story ends well");
        let expected: Vec<_> = (0..EVENTS).map(|n| format!("/storm/{stream} {n}")).chain(["{}".to_owned()]).collect();
        assert_eq!(support::events::data(&taken), expected, "stream {stream}");
        assert_eq!(taken[EVENTS].name, "done");
        let (session, _) = taken[0].id().split_once('.').expect("an id of ours");
        for (n, event) in taken.iter().enumerate() {
            assert_eq!(event.id(), format!("{session}.0.{}", n + 1), "stream {stream}");
        }
    }
    assert_eq!(llm.requests(), STREAMS);
}
