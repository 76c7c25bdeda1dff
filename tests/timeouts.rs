//! Every stage of the ladder of timeouts, at its exact two end points: not before, and then at once.
//!
//! `connect`: dial → connection · `head`: dial → response head · `first_event`: head → first event · `idle`: event →
//! event · `total`: request → end, all tries included. Timers tick in milliseconds, so a deadline is looked at one
//! before and one after.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use support::time::{advance, freeze};
use support::{Gate, Script, Story, Upstream, Wire, upstream};

const TICK: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LIMITS: &str = "timeouts = { connect = '2s', head = '3s', first_event = '4s', idle = '5s', total = '1h' }\n";
const ONE_TRY: &str = "retry = { attempts = 1 }\ncommit_after = '1h'\n";

async fn story(name: &str, wire: Wire, llm: &Upstream, toml: &str) -> Story {
    Story::new(name, wire, llm, &format!("{LIMITS}{toml}")).await
}

/// Moves to just before a moment that is `time` away.
async fn almost(story: &Story, time: Duration) {
    advance(&story.proxy, time - TICK).await;
}

/// Moves over the moment that [`almost`] stopped at.
async fn over(story: &Story) {
    advance(&story.proxy, 2 * TICK).await;
}

async fn counted(story: &Story, stage: &str) -> f64 {
    story.proxy.metric("stream_timeouts_total", &[("stage", stage)]).await
}

/// Nothing is answered until `time` has passed; then it is a 504 with this code, and the upstream is let go.
async fn refused_at(story: &Story, llm: &Upstream, time: Duration, stage: &str) {
    let before = counted(story, stage).await;
    let asked = story.ask().begin().await;
    almost(story, time).await;
    let ended = story.proxy.metric("stream_errors_total", &[("route", &story.route)]).await;
    assert_eq!((ended, llm.hung_up()), (0.0, 0), "{stage} came early");
    over(story).await;
    let reply = asked.reply().await;
    assert_eq!(reply.status, 504);
    let failure = support::Failure::read(&reply.text().await);
    story.told(&failure, &format!("{stage}_timeout"), "timeout", true).await;
    assert!(counted(story, stage).await > before);
    llm.closed().await;
}

fn silent_stream() -> Script {
    upstream().head(200, &[("content-type", "text/event-stream")])
}

#[tokio::test]
async fn a_head_that_does_not_come_is_a_504_after_the_head_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = upstream().hang().start().await;
        let story = story("head", wire, &llm, ONE_TRY).await;
        refused_at(&story, &llm, 3 * SECOND, "head").await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_an_event_once_the_client_has_its_own() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = upstream().hang().start().await;
        let story = story("head_after_commit", wire, &llm, "retry = { attempts = 1 }\ncommit_after = '1s'").await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, SECOND + TICK).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 200);
        advance(&story.proxy, 2 * SECOND).await;
        let (events, failure) = story.failure(reply).await;
        assert!(events.is_empty(), "{events:?}");
        story.told(&failure, "head_timeout", "timeout", true).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_head_in_the_last_moment_is_in_time() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let llm = wire.done(upstream().gate(&gate).events(wire.said(&["a"]))).start().await;
        let story = story("late_head", wire, &llm, ONE_TRY).await;
        let asked = story.ask().begin().await;
        almost(&story, 3 * SECOND).await;
        gate.release();
        assert_eq!(story.whole(asked.reply().await).await, "a");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_answer_that_is_no_stream_must_be_whole_within_the_head_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = upstream().head(404, &[("content-type", "text/plain")]).body("there is no").hang().start().await;
        let story = story("slow_refusal", wire, &llm, ONE_TRY).await;
        refused_at(&story, &llm, 3 * SECOND, "head").await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_first_event_that_does_not_come_is_a_504_counted_from_the_head() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let stream = upstream().gate(&gate).head(200, &[("content-type", "text/event-stream")]);
        let llm = stream.hang().start().await;
        let story = story("first_event", wire, &llm, ONE_TRY).await;
        let before = counted(&story, "first_event").await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, 2 * SECOND).await;
        gate.release();
        almost(&story, 4 * SECOND).await;
        assert_eq!(llm.hung_up(), 0);
        over(&story).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 504);
        let failure = support::Failure::read(&reply.text().await);
        story.told(&failure, "first_event_timeout", "timeout", true).await;
        assert!(counted(&story, "first_event").await > before);
        llm.closed().await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn bytes_and_comments_are_no_first_event() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let stall = Duration::from_millis(1500);
        let trickle = silent_stream().stall(stall).chunk(": wait\n\n").stall(stall).chunk("data: half").hang();
        let llm = trickle.start().await;
        let story = story("trickle_first", wire, &llm, ONE_TRY).await;
        refused_at(&story, &llm, 4 * SECOND, "first_event").await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn silence_between_events_ends_the_stream_after_the_idle_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let llm = wire.saying(&["a"]).gate(&gate).events(wire.said(&["b"])).hang().start().await;
        let story = story("idle", wire, &llm, "[heartbeat]\ninterval = '2s'").await;
        let before = counted(&story, "idle").await;
        let mut reply = story.stream().await;
        reply.event().await;
        almost(&story, 5 * SECOND).await;
        gate.release();
        let second = reply.event().await;
        assert_eq!(wire.text(&[second]), "b", "an event in the last moment is in time");
        almost(&story, 5 * SECOND).await;
        let session = reply.session();
        assert_eq!(story.proxy.state(&session).await["state"], "live");
        over(&story).await;
        let (events, failure) = story.failure(reply).await;
        assert!(events.is_empty(), "{events:?}");
        story.told(&failure, "idle_timeout", "timeout", true).await;
        assert!(counted(&story, "idle").await > before);
        llm.closed().await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_client_hears_heartbeats_while_the_upstream_is_silent() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = wire.saying(&["a"]).hang().start().await;
        let story = story("heartbeats", wire, &llm, "[heartbeat]\ninterval = '2s'").await;
        let mut reply = story.stream().await;
        reply.event().await;
        for _ in 0..2 {
            advance(&story.proxy, 2 * SECOND + TICK).await;
        }
        advance(&story.proxy, SECOND).await;
        let rest = reply.until_end().await;
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].comments, ["ka", "ka"], "before the failure");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_trickle_of_bytes_and_comments_does_not_put_off_the_idle_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let trickle = |script: Script, bytes: &str| script.stall(SECOND).chunk(bytes);
        let script = [": a\n\n", "data: x", "y", ": b", "z"].into_iter().fold(wire.saying(&["a"]), trickle);
        let llm = script.stall(SECOND).chunk("!\n\n").hang().start().await;
        let story = story("trickle", wire, &llm, "").await;
        let mut reply = story.stream().await;
        reply.event().await;
        for _ in 0..4 {
            advance(&story.proxy, SECOND).await;
        }
        almost(&story, SECOND).await;
        let session = reply.session();
        assert_eq!(story.proxy.state(&session).await["state"], "live");
        over(&story).await;
        let (events, failure) = story.failure(reply).await;
        assert!(events.is_empty(), "{events:?}");
        story.told(&failure, "idle_timeout", "timeout", true).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_total_limit_ends_a_stream_that_never_pauses() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let pause = Duration::from_millis(900);
        let script = (0..100).fold(wire.saying(&["a"]), |script, _| script.stall(pause).events(wire.said(&["b"])));
        let llm = script.start().await;
        let toml = "timeouts = { connect = '2s', head = '3s', first_event = '4s', idle = '5s', total = '7s' }";
        let story = Story::new("total_live", wire, &llm, toml).await;
        let before = counted(&story, "total").await;
        let mut reply = story.stream().await;
        let session = reply.session();
        for _ in 0..6 {
            advance(&story.proxy, SECOND).await;
        }
        almost(&story, SECOND).await;
        assert_eq!(story.proxy.state(&session).await["state"], "live");
        over(&story).await;
        assert_eq!(story.proxy.state(&session).await["state"], "failed");
        let first = reply.event().await;
        let (events, failure) = story.failure(reply).await;
        let text = wire.text(&[vec![first], events].concat());
        assert!(text.starts_with("abbbbb"), "{text}");
        story.told(&failure, "total_timeout", "timeout", true).await;
        assert!(counted(&story, "total").await > before);
        llm.closed().await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_total_limit_counts_all_tries_together() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = upstream().hang().start().await;
        let toml = "timeouts = { connect = '2s', head = '3s', first_event = '4s', idle = '5s', total = '7s' }";
        let story = Story::new("total_tries", wire, &llm, &format!("{toml}\nretry = {{ attempts = 9 }}")).await;
        let before = counted(&story, "total").await;
        let asked = story.ask().begin().await;
        almost(&story, 3 * SECOND).await;
        assert_eq!(llm.requests(), 1);
        // The second try begins within the first random wait, a millisecond at most, the third within two.
        over(&story).await;
        over(&story).await;
        assert_eq!(llm.requests(), 2);
        advance(&story.proxy, 3 * SECOND + 2 * TICK).await;
        // That wait began when time had moved, and a timer may be a millisecond late.
        over(&story).await;
        over(&story).await;
        assert_eq!(llm.requests(), 3, "each try has its own head limit");
        almost(&story, SECOND - 9 * TICK).await;
        assert_eq!(llm.hung_up(), 2);
        over(&story).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 504);
        let failure = support::Failure::read(&reply.text().await);
        story.told(&failure, "total_timeout", "timeout", true).await;
        assert!(counted(&story, "total").await > before);
        assert_eq!(llm.requests(), 3);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_try_that_timed_out_is_let_go_and_counted_before_the_next_begins() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = upstream().hang().then(wire.done(wire.saying(&["a"]))).start().await;
        let story = story("let_go", wire, &llm, "").await;
        let before = story.proxy.metric("stream_upstream_attempts_total", &[("result", "head_timeout")]).await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, 3 * SECOND + TICK).await;
        advance(&story.proxy, 3 * TICK).await;
        assert_eq!((llm.hung_up(), llm.requests()), (1, 2));
        assert!(story.proxy.metric("stream_upstream_attempts_total", &[("result", "head_timeout")]).await > before);
        assert_eq!(story.whole(asked.reply().await).await, "a");
        tokio::time::resume();
    }
}

/// An address that takes no more connections and refuses none: what is dialled waits. It lives as long as the
/// sockets that clog it.
struct Clogged {
    address: SocketAddr,
    _sockets: Vec<socket2::Socket>,
}

impl Clogged {
    fn new() -> Self {
        let tcp = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let listener = tcp();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a loopback port");
        listener.listen(0).expect("a queue of almost nothing");
        let address = listener.local_addr().expect("its address");
        let mut sockets = vec![listener];
        // Connections under way are taken into the queue until it is full; the last of these is left waiting.
        for _ in 0..8 {
            let socket = tcp();
            socket.set_nonblocking(true).expect("a socket that does not wait");
            let _ = socket.connect(&address);
            sockets.push(socket);
        }
        Self { address: address.as_socket().expect("an internet address"), _sockets: sockets }
    }
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_a_504_after_the_connect_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let clogged = Clogged::new();
        let story = Story::at("connect", wire, &[clogged.address], &format!("{LIMITS}{ONE_TRY}")).await;
        let before = counted(&story, "connect").await;
        let asked = story.ask().begin().await;
        almost(&story, 2 * SECOND).await;
        let ended = story.proxy.metric("stream_errors_total", &[("route", &story.route)]).await;
        assert_eq!(ended, 0.0, "it came early");
        over(&story).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 504);
        let failure = support::Failure::read(&reply.text().await);
        story.told(&failure, "connect_timeout", "timeout", true).await;
        assert!(counted(&story, "connect").await > before);
        tokio::time::resume();
    }
}

/// An upstream in the test's own hand: what it writes is in the proxy's socket before the proxy can look.
struct Puppet {
    socket: TcpStream,
}

impl Puppet {
    /// Takes the request that the proxy has sent.
    async fn of(listener: TcpListener) -> Self {
        let accept = tokio::task::spawn_blocking(move || {
            let (mut socket, _) = listener.accept().expect("the proxy connects");
            let mut request = [0; 16 * 1024];
            assert!(socket.read(&mut request).expect("the proxy asks") > 0);
            socket
        });
        Self { socket: accept.await.expect("no panic") }
    }

    fn write(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).expect("the proxy reads");
    }

    fn event(&mut self, data: &str) {
        let event = format!("data: {data}\n\n");
        self.write(&format!("{:x}\r\n{event}\r\n", event.len()));
    }
}

#[tokio::test]
async fn an_event_that_arrived_in_the_very_moment_of_the_deadline_beats_it() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let story = Story::at("tie", wire, &[address], LIMITS).await;
        let asked = story.ask().begin().await;
        let mut puppet = Puppet::of(listener).await;
        puppet.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        puppet.event(&wire.says("a"));
        let mut reply = asked.reply().await;
        reply.event().await;
        for text in ["b", "c"] {
            almost(&story, 5 * SECOND).await;
            // No await between the two: the proxy finds the event and the deadline together.
            puppet.event(&wire.says(text));
            tokio::time::advance(2 * TICK).await;
            assert_eq!(wire.text(&[reply.event().await]), text);
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn where_only_content_counts_empty_deltas_do_not_put_off_the_idle_limit() {
    for (idle_on, ended) in [("events", false), ("content", true)] {
        let _frozen = freeze();
        let delta = |text: &str| {
            format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]}}"#)
        };
        let two = 2 * SECOND;
        let llm =
            upstream().event(delta("a")).stall(two).event(delta("")).stall(two).event(delta("")).hang().start().await;
        let keys = format!("[[routes]]\nidle_on = '{idle_on}'\nafter_partial = []\ntimeouts = {{ idle = '5s' }}");
        let proxy = support::Proxy::before(&llm, &keys).await;
        let mut reply = proxy.chat().send().await;
        let session = reply.session();
        reply.event().await;
        for _ in 0..3 {
            advance(&proxy, two + TICK).await;
        }
        assert_eq!(proxy.state(&session).await["state"] == "failed", ended, "{idle_on}");
        tokio::time::resume();
    }
}
