//! Several endpoints, several upstreams: who gets which request, who is left alone, who stands in, and what each is
//! allowed to see.

#[path = "upstreams/machine.rs"]
mod machine;
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use machine::Machine;
use serde_json::Value;
use support::time::{advance, freeze, settle};
use support::{Gate, Proxy, Reply, Request, Script, Seen, Upstream, upstream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

const SECOND: Duration = Duration::from_secs(1);

/// For stories that read metrics of the whole process.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// `/live` waits at the gate after its first event; everything else is answered at once.
fn answers(hold: &Gate) -> impl Fn(&Seen) -> Script + Send + Sync + 'static {
    let hold = hold.clone();
    move |seen| {
        let begun = upstream().event("a");
        if seen.path == "/live" { begun.gate(&hold).event("b").end() } else { begun.event("b").end() }
    }
}

async fn serving() -> Upstream {
    Upstream::by(answers(&Gate::new())).await
}

fn ask(proxy: &Proxy, path: &str) -> Request {
    proxy.post(path).json("{}").header("accept", "text/event-stream")
}

/// Asks for a stream that must come, whole.
async fn whole(proxy: &Proxy) {
    let events = ask(proxy, "/new").events().await.rest().await;
    assert_eq!(support::events::data(&events), ["a", "b"]);
}

/// So many streams that have begun and wait.
async fn live(proxy: &Proxy, count: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    for _ in 0..count {
        let mut reply = ask(proxy, "/live").events().await;
        assert_eq!(reply.event().await.data, "a");
        replies.push(reply);
    }
    replies
}

/// What operators see of an endpoint of the first upstream.
async fn endpoint(proxy: &Proxy, index: usize) -> Value {
    let all = proxy.admin_get("/api/upstreams").await.json().await;
    all["upstreams"][0]["endpoints"][index].clone()
}

/// One upstream with this name (a metric's label), and one route to it that reports broken streams at once.
fn only(name: &str, endpoints: &str) -> String {
    format!(
        "[[upstreams]]\nname = '{name}'\nendpoints = [{endpoints}]\n\
         [[routes]]\nupstream = '{name}'\nfallback = {{ mode = 'off' }}\nafter_partial = []\n"
    )
}

/// An upstream `llm` at `first` that fails over to `spare`; `more` is what the spare one has beside its endpoint.
fn with_spare(first: &Upstream, spare: &Upstream, more: &str) -> String {
    format!(
        "[[upstreams]]\nname = 'llm'\nendpoints = ['http://{}']\nfailover = ['spare']\n\
         [[upstreams]]\nname = 'spare'\nendpoints = ['http://{}']\n{more}\n\
         [[routes]]\nupstream = 'llm'\n",
        first.address, spare.address
    )
}

#[tokio::test]
async fn of_two_endpoints_one_dies_under_200_streams_and_no_new_stream_fails() {
    let _alone = alone().await;
    let _frozen = freeze();
    let hold = Gate::new();
    let (first, second) = (Upstream::by(answers(&hold)).await, Upstream::by(answers(&hold)).await);
    let mut machine = Machine::before(&first).await;
    let toml = only("killed", &format!("'http://{}', 'http://{}'", machine.address, second.address));
    let proxy = Arc::new(Proxy::at(&[], &toml).await);
    let state = || proxy.metric("stream_breaker_state", &[("upstream", "killed")]);
    let in_vain = || proxy.metric("stream_upstream_attempts_total", &[("result", "upstream_unreachable")]);

    let mut streams = live(&proxy, 200).await;
    assert_eq!((first.requests(), second.requests()), (100, 100), "they share the load");
    assert_eq!((endpoint(&proxy, 0).await["in_flight"].as_u64(), state().await), (Some(100), 0.0));

    machine.kill().await;
    settle(&proxy).await;
    let (before, mut new) = (in_vain().await, JoinSet::new());
    for _ in 0..300 {
        let proxy = Arc::clone(&proxy);
        new.spawn(async move { whole(&proxy).await });
    }
    while let Some(ended) = new.join_next().await {
        ended.expect("no new stream fails");
    }
    assert_eq!(second.requests(), 400);
    assert_eq!((endpoint(&proxy, 0).await["state"].as_str(), state().await), (Some("open"), 2.0));
    let budget = (500.0 * 0.2) + 10.0;
    let retries = in_vain().await - before;
    assert!((5.0..=budget).contains(&retries), "{retries} retries");

    // Left alone, it costs nobody a try; after the cool-down one request tries it.
    let before = in_vain().await;
    for _ in 0..20 {
        whole(&proxy).await;
    }
    assert_eq!((in_vain().await - before, second.requests()), (0.0, 420));
    machine.revive().await;
    advance(&proxy, 10 * SECOND).await;
    assert_eq!(state().await, 1.0);
    let seen = first.requests();
    whole(&proxy).await;
    settle(&proxy).await;
    assert_eq!((first.requests(), state().await), (seen + 1, 0.0));

    // Streams at the other endpoint never noticed; those at the dead one were told.
    hold.open();
    let mut ends = [0, 0];
    for reply in streams.drain(..) {
        let last = reply.rest().await.pop().expect("an end");
        ends[usize::from(last.data == "b")] += 1;
    }
    assert_eq!(ends, [100, 100]);
    tokio::time::resume();
}

#[tokio::test]
async fn an_ill_upstream_gets_no_more_than_its_requests_and_the_retry_budget() {
    let _frozen = freeze();
    // A fallback is not charged: there is at most one in a session.
    for (fallback, each) in [("off", 1), ("non_stream", 2)] {
        let llm = upstream().answer(500, "text/plain", "no").start().await;
        let toml = format!(
            "[[upstreams]]\nretry_budget = {{ ratio = 0.2, floor = 7 }}\n\
             [[routes]]\nretry = {{ attempts = 3, base = '1ms', max = '1ms' }}\nfallback = {{ mode = '{fallback}' }}"
        );
        let proxy = Proxy::before(&llm, &toml).await;
        for asked in 1..=100 {
            let reply = proxy.chat().begin().await;
            advance(&proxy, Duration::from_millis(2)).await;
            advance(&proxy, Duration::from_millis(2)).await;
            assert_eq!(reply.reply().await.status, 502);
            assert!(
                llm.requests() <= each * asked + asked / 5 + 7,
                "fallback {fallback}: {} of {asked}",
                llm.requests()
            );
        }
        assert_eq!(llm.requests(), each * 100 + 27, "and all of the budget is used");
        advance(&proxy, 12 * SECOND).await;
        let all = proxy.admin_get("/api/upstreams").await.json().await;
        assert_eq!(all["upstreams"][0]["retries_left"], 7);
    }
    tokio::time::resume();
}

#[tokio::test]
async fn a_single_endpoint_is_never_refused_by_its_breaker() {
    let _alone = alone().await;
    let _frozen = freeze();
    let llm = serving().await;
    let mut machine = Machine::before(&llm).await;
    let toml = only("single", &format!("'http://{}'", machine.address)) + "retry = { attempts = 1 }";
    let proxy = Proxy::at(&[], &toml).await;
    machine.kill().await;
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "/new").send().await.status, 502);
    }
    assert_eq!(endpoint(&proxy, 0).await["state"], "open");
    machine.revive().await;
    whole(&proxy).await;
    assert_eq!(endpoint(&proxy, 0).await["state"], "closed");
    tokio::time::resume();
}

#[tokio::test]
async fn streams_are_spread_by_weight() {
    let hold = Gate::new();
    let (large, small) = (Upstream::by(answers(&hold)).await, Upstream::by(answers(&hold)).await);
    let endpoints = format!("{{ url = 'http://{}', weight = 3 }}, 'http://{}'", large.address, small.address);
    let proxy = Proxy::at(&[], &only("weighted", &endpoints)).await;
    let _streams = live(&proxy, 40).await;
    assert_eq!((large.requests(), small.requests()), (30, 10));
}

#[tokio::test]
async fn a_spare_endpoint_serves_only_while_the_others_are_away() {
    let _alone = alone().await;
    let _frozen = freeze();
    let (main, spare) = (serving().await, serving().await);
    let mut machine = Machine::before(&main).await;
    let endpoints = format!("{{ url = 'http://{}', priority = 1 }}, 'http://{}'", spare.address, machine.address);
    let proxy = Proxy::at(&[], &only("spared", &endpoints)).await;
    for _ in 0..5 {
        whole(&proxy).await;
    }
    assert_eq!((main.requests(), spare.requests()), (5, 0));
    machine.kill().await;
    for _ in 0..10 {
        whole(&proxy).await;
    }
    assert_eq!((main.requests(), spare.requests()), (5, 10));
    machine.revive().await;
    advance(&proxy, 10 * SECOND).await;
    for _ in 0..5 {
        whole(&proxy).await;
        settle(&proxy).await;
    }
    assert_eq!((main.requests(), spare.requests()), (10, 10));
    tokio::time::resume();
}

#[tokio::test]
async fn an_endpoint_that_asks_for_a_rest_gets_it_and_another_answers_at_once() {
    let _frozen = freeze();
    let limited = upstream().answer_with(429, &[("retry-after", "60")], "slow down").start().await;
    let well = serving().await;
    let endpoints = format!("'http://{}', 'http://{}'", limited.address, well.address);
    let proxy = Proxy::at(&[], &only("limited", &endpoints)).await;
    for _ in 0..6 {
        whole(&proxy).await;
    }
    assert_eq!((limited.requests(), well.requests()), (1, 6));
    advance(&proxy, 59 * SECOND).await;
    assert_eq!(endpoint(&proxy, 0).await["state"], "open");
    advance(&proxy, SECOND).await;
    assert_eq!(endpoint(&proxy, 0).await["state"], "half_open");
    tokio::time::resume();
}

#[tokio::test]
async fn mistakes_of_callers_and_callers_that_leave_say_nothing_about_an_endpoint() {
    let wrong = upstream().json(404, "{}").start().await;
    let proxy = Proxy::before(&wrong, &only("wrong", &format!("'http://{}'", wrong.address))).await;
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "/new").send().await.status, 404);
    }
    assert_eq!(endpoint(&proxy, 0).await["state"], "closed");
    let slow = upstream().hang().start().await;
    let toml = only("left", &format!("'http://{}'", slow.address)) + "detach = { mode = 'cancel' }";
    let proxy = Proxy::at(&[], &toml).await;
    for number in 1..=20 {
        let asked = ask(&proxy, "/new").begin().await;
        slow.requested(number).await;
        drop(asked);
        slow.until("the proxy to hang up", move |log| log.hung_up == number).await;
    }
    assert_eq!(endpoint(&proxy, 0).await["state"], "closed");
}

#[tokio::test]
async fn another_upstream_stands_in_under_its_own_name_and_nothing_of_the_callers_key_reaches_it() {
    let mut key = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(key, "OWN-KEY").expect("it is written");
    let first = upstream().answer(500, "text/plain", "no").start().await;
    let spare = serving().await;
    let more = format!(
        "credential = {{ file = '{}' }}\nheaders = {{ x-team = 'search' }}\nmodels = {{ gpt = 'mixtral' }}",
        key.path().display()
    );
    let proxy = Proxy::at(&[], &with_spare(&first, &spare, &more)).await;
    let reply = proxy
        .post("/run?key=CALLER-1&x=1")
        .header("authorization", "Bearer CALLER-2")
        .header("x-api-key", "CALLER-3")
        .header("api-key", "CALLER-4")
        .header("x-goog-api-key", "CALLER-5")
        .header("cookie", "login=CALLER-6")
        .header("accept", "text/event-stream")
        .json(r#"{"model":"gpt","stream":true,"n":1.0e2}"#);
    let events = reply.events().await.rest().await;
    assert_eq!(support::events::data(&events), ["a", "b"]);

    assert_eq!(first.requests(), 3, "its own tries come first");
    let (asked, stood_in) = (first.requested(3).await, spare.requested(1).await);
    assert_eq!((asked.path.as_str(), asked.header("x-team")), ("/run?key=CALLER-1&x=1", None));
    assert_eq!(asked.header("authorization").as_deref(), Some("Bearer CALLER-2"));
    assert_eq!(asked.text(), r#"{"model":"gpt","stream":true,"n":1.0e2}"#);
    assert!(!format!("{stood_in:?}{}", stood_in.text()).contains("CALLER"), "{stood_in:?}");
    assert_eq!((stood_in.path.as_str(), stood_in.header("x-team").as_deref()), ("/run?x=1", Some("search")));
    assert_eq!(stood_in.header("authorization").as_deref(), Some("Bearer OWN-KEY"));
    assert_eq!(stood_in.text(), r#"{"model":"mixtral","stream":true,"n":1.0e2}"#);
    for path in ["/api/upstreams", "/api/sessions", "/metrics"] {
        let shown = proxy.admin_get(path).await.text().await;
        assert!(!shown.contains("OWN-KEY") && !shown.contains("CALLER"), "{path}: {shown}");
    }
    assert!(!format!("{:?}", proxy.app).contains("OWN-KEY"));
}

#[tokio::test]
async fn an_upstream_without_a_credential_of_its_own_gets_the_callers() {
    let (first, spare) = (upstream().reset().start().await, serving().await);
    let proxy = Proxy::at(&[], &with_spare(&first, &spare, "")).await;
    ask(&proxy, "/new").caller("k").events().await.rest().await;
    assert_eq!(spare.requested(1).await.header("authorization").as_deref(), Some("Bearer k"));
}

#[tokio::test]
async fn what_passes_is_dressed_for_its_upstream_as_well() {
    let llm = upstream().json(200, "{}").start().await;
    let mut key = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(key, "OWN").expect("it is written");
    let toml = format!(
        "[[upstreams]]\nmodel = 'mixtral'\ncredential_header = 'x-api-key'\ncredential = {{ file = '{}' }}",
        key.path().display()
    );
    let proxy = Proxy::before(&llm, &toml).await;
    let reply = proxy.post("/v1/chat/completions").caller("k").json(r#"{"model":"gpt"}"#).send().await;
    assert_eq!(reply.status, 200);
    let seen = llm.requested(1).await;
    assert_eq!((seen.header("authorization"), seen.header("x-api-key").as_deref()), (None, Some("OWN")));
    assert_eq!(seen.text(), r#"{"model":"mixtral"}"#);
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string()));
}

#[tokio::test]
async fn an_upstream_that_is_left_alone_is_skipped_while_another_is_to_be_had() {
    let _frozen = freeze();
    let (first, spare) = (upstream().reset().start().await, serving().await);
    let proxy = Proxy::at(&[], &with_spare(&first, &spare, "")).await;
    let some = |count: usize| {
        let proxy = &proxy;
        async move {
            for _ in 0..count {
                let asked = ask(proxy, "/new").header("accept", "text/event-stream").begin().await;
                advance(proxy, Duration::from_millis(6)).await;
                advance(proxy, Duration::from_millis(6)).await;
                assert_eq!(asked.reply().await.status, 200);
            }
        }
    };
    some(2).await;
    assert_eq!((first.requests(), spare.requests()), (5, 2), "the breaker opened in the second one's tries");
    some(10).await;
    assert_eq!((first.requests(), spare.requests()), (5, 12));
    advance(&proxy, 10 * SECOND).await;
    some(3).await;
    assert_eq!((first.requests(), spare.requests()), (6, 15), "one probe, and nobody noticed");
    tokio::time::resume();
}

#[tokio::test]
async fn no_other_upstream_is_asked_after_content_or_for_a_callers_mistake() {
    let spare = serving().await;
    for (script, status) in [(upstream().event("a").reset(), 200), (upstream().json(400, "{}"), 400)] {
        let first = script.start().await;
        let proxy = Proxy::at(&[], &with_spare(&first, &spare, "")).await;
        let reply = ask(&proxy, "/new").send().await;
        assert_eq!(reply.status, status);
        reply.bytes().await;
        assert_eq!((first.requests(), spare.requests()), (1, 0));
    }
}

#[tokio::test]
async fn an_active_check_leaves_an_endpoint_alone_until_it_is_alive_again() {
    let _frozen = freeze();
    let checked = Upstream::by(|seen| match (seen.path.as_str(), seen.number) {
        ("/base/alive", 1) => upstream().answer(503, "text/plain", "no"),
        ("/base/alive", _) => upstream().answer(404, "text/plain", "well"),
        _ => upstream().event("a").event("b").end(),
    })
    .await;
    let well = serving().await;
    let toml = format!(
        "[[upstreams]]\nendpoints = ['http://{}/base', 'http://{}']\nhealth = {{ path = '/alive', interval = '5s' }}",
        checked.address, well.address
    );
    let proxy = Proxy::at(&[], &toml).await;
    settle(&proxy).await;
    assert_eq!(checked.requested(1).await.path, "/base/alive");
    settle(&proxy).await;
    for _ in 0..4 {
        whole(&proxy).await;
    }
    assert_eq!((checked.requests(), endpoint(&proxy, 0).await["available"].as_bool()), (1, Some(false)));
    advance(&proxy, Duration::from_millis(5_001)).await;
    settle(&proxy).await;
    assert_eq!((checked.requests(), endpoint(&proxy, 0).await["available"].as_bool()), (2, Some(true)));
    tokio::time::resume();
}

#[tokio::test]
async fn a_stream_that_nobody_announced_counts_as_load_until_it_ends() {
    let hold = Gate::new();
    let llm = Upstream::by(answers(&hold)).await;
    let proxy = Proxy::before(&llm, "").await;
    let mut reply = proxy.get("/live").send().await;
    assert_eq!(reply.event().await.data, "a");
    assert_eq!(endpoint(&proxy, 0).await["in_flight"], 1);
    hold.open();
    reply.rest().await;
    support::must("the load to go", async {
        while endpoint(&proxy, 0).await["in_flight"] != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
