//! Collectors that do not collect.

use std::time::{Duration, Instant, SystemTime};

use streamkeeper::clock::Entropy;
use streamkeeper::telemetry::context::Trace;
use streamkeeper::telemetry::spans::{Side, Span, Spans};

use super::ended;
use super::support::events::data;
use super::support::{Proxy, Upstream, upstream};

#[tokio::test]
async fn a_collector_that_is_away_or_refuses_costs_nothing_but_the_spans() {
    let refusing = upstream().answer(403, "text/plain", "no").start().await;
    for address in [refusing.address, Upstream::nobody().await] {
        let llm = upstream().event("a").end().start().await;
        let toml = format!("[telemetry]\notlp = {{ endpoint = 'http://{address}' }}");
        let proxy = Proxy::before(&llm, &toml).await;
        let before = proxy.metric("stream_spans_dropped_total", &[]).await;
        assert_eq!(data(&proxy.get("/run").events().await.rest().await), ["a"]);
        proxy.app.spans.flush(Duration::from_secs(30)).await;
        assert!(proxy.metric("stream_spans_dropped_total", &[]).await >= before + 2.0);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_streams_nor_the_end_of_the_process() {
    let hanging = upstream().hang().start().await;
    let llm = upstream().event("a").end().start().await;
    let toml = format!("[telemetry]\notlp = {{ endpoint = 'http://{}' }}", hanging.address);
    let mut proxy = Proxy::before(&llm, &toml).await;
    ended(proxy.get("/run").events().await).await;
    hanging.requested(1).await;
    assert_eq!(data(&proxy.get("/run").events().await.rest().await), ["a"]);
    proxy.drain();
    proxy.exited().await;
}

fn some_span(trace: Trace) -> Span {
    let now = SystemTime::now();
    Span {
        trace,
        id: 1,
        parent: None,
        name: "chat".into(),
        side: Side::Client,
        start: now,
        end: now,
        attributes: Vec::new(),
        events: Vec::new(),
        dropped_events: 0,
        failed: false,
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_collector_is_bounded_and_the_rest_is_dropped_and_counted() {
    let hanging = upstream().hang().start().await;
    let llm = upstream().event("a").end().start().await;
    let toml = format!("[telemetry]\notlp = {{ endpoint = 'http://{}' }}", hanging.address);
    let proxy = Proxy::before(&llm, &toml).await;
    let before = proxy.metric("stream_spans_dropped_total", &[]).await;
    let spans: &Spans = &proxy.app.spans;
    let trace = spans.trace_of(&http::HeaderMap::new(), &Entropy::seeded(1)).expect("they are exported");
    let begun = Instant::now();
    for _ in 0..10_000 {
        spans.record(some_span(trace));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits");
    let dropped = proxy.metric("stream_spans_dropped_total", &[]).await - before;
    assert!((7_000.0..8_000.0).contains(&dropped), "{dropped} of 10,000, with room for 2,048 and a batch under way");
}
