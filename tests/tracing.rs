//! Traces: what an upstream is told of one, and what a collector gets. A collector that is away is nobody's trouble.

#[path = "tracing/away.rs"]
mod away;
#[path = "tracing/environment.rs"]
mod environment;
#[path = "tracing/replicas.rs"]
mod replicas;
mod replicas_support;
mod support;

use std::time::SystemTime;

use support::events::data;
use support::{Collector, Gate, Proxy, Reply, Seen, Told, Upstream, Wire, upstream};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The fields of a traceparent.
type Parent = (String, String, String);

/// What the upstream was told of the trace: trace, span, flags.
fn told(seen: &Seen) -> Parent {
    let value = seen.header("traceparent").expect("a traceparent");
    let fields: Vec<_> = value.split('-').collect();
    let ["00", trace, span, flags] = fields[..] else { panic!("{value:?}") };
    assert_eq!((trace.len(), span.len(), flags.len()), (32, 16, 2), "{value:?}");
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

/// The session's span, and those of its tries in order.
fn family(spans: &[Told]) -> (Told, Vec<Told>) {
    let (servers, mut tries): (Vec<_>, Vec<_>) = spans.iter().cloned().partition(|span| span.kind == "server");
    let [server] = servers.try_into().expect("one span of the session");
    for span in &tries {
        assert_eq!((&span.trace, &span.parent), (&server.trace, &server.id), "{spans:#?}");
        assert!(server.start <= span.start && span.start <= span.end && span.end <= server.end, "{spans:#?}");
    }
    tries.sort_by_key(|span| span.start);
    (server, tries)
}

async fn ended(reply: Reply) {
    let mut reply = reply;
    while reply.piece().await {}
}

// What the upstream is told

#[tokio::test]
async fn every_try_tells_the_upstream_of_a_span_of_its_own_in_the_callers_trace() {
    for exporting in [false, true] {
        let llm = upstream().answer(500, "text/plain", "no").then(upstream().event("a").end()).start().await;
        let collector = Collector::start().await;
        let proxy = Proxy::before(&llm, &if exporting { collector.toml() } else { String::new() }).await;
        let ask = proxy.get("/run").header("traceparent", CALLER).header("tracestate", "a=1");
        ended(ask.header("tracestate", "b=2").header("baggage", "k=v").events().await).await;
        let seen = [llm.request(1), llm.request(2)];
        let spans = seen.each_ref().map(told);
        for (seen, (trace, span, flags)) in seen.iter().zip(&spans) {
            assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
            assert!(span != "b7ad6b7169203331" && span != "0000000000000000");
            assert_eq!(seen.header("tracestate").as_deref(), Some("a=1, b=2"));
            assert_eq!(seen.header("baggage").as_deref(), Some("k=v"));
        }
        assert_ne!(spans[0].1, spans[1].1);
        if exporting {
            let (server, tries) = family(&collector.of(&proxy, 3).await);
            assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, "b7ad6b7169203331"));
            assert_eq!([&tries[0].id, &tries[1].id], [&spans[0].1, &spans[1].1], "they are the ones that were told");
        } else {
            assert_eq!(collector.batches().len(), 0);
        }
    }
}

#[tokio::test]
async fn an_upstream_is_told_of_no_trace_that_nobody_asked_for() {
    let malformed = CALLER.to_uppercase();
    for parent in [None, Some(malformed.as_str())] {
        let llm = upstream().event("a").end().start().await;
        let proxy = Proxy::before(&llm, "").await;
        let ask = proxy.get("/run").header("tracestate", "a=1");
        let ask = parent.into_iter().fold(ask, |ask, parent| ask.header("traceparent", parent));
        ended(ask.events().await).await;
        let seen = llm.request(1);
        assert_eq!((seen.header("traceparent"), seen.header("tracestate")), (None, None));
    }
}

#[tokio::test]
async fn where_spans_are_exported_a_trace_begins_if_the_caller_has_none_that_can_be_understood() {
    let doubled = [CALLER, CALLER];
    for parents in [&[][..], &["00-xyz"], &doubled] {
        let llm = upstream().event("a").end().start().await;
        let collector = Collector::start().await;
        let proxy = Proxy::before(&llm, &collector.toml()).await;
        let ask = proxy.get("/run").header("tracestate", "a=1");
        ended(parents.iter().fold(ask, |ask, parent| ask.header("traceparent", parent)).events().await).await;
        let (trace, span, _) = told(&llm.request(1));
        assert_ne!(trace, TRACE);
        assert_eq!(llm.request(1).header("tracestate"), None, "it belongs to no trace");
        let (server, tries) = family(&collector.of(&proxy, 2).await);
        assert_eq!((&server.trace, server.parent.as_str(), &tries[0].id), (&trace, "", &span));
    }
}

#[tokio::test]
async fn who_decides_what_is_kept_is_who_begins_the_trace() {
    let unsampled = CALLER.replace("-01", "-00");
    // (sample, the caller's traceparent, the flag that goes on, spans)
    let cases = [
        ("0.0", None, "02", 0),
        ("1.0", None, "03", 2),
        ("0.0", Some(CALLER), "01", 2),
        ("1.0", Some(unsampled.as_str()), "00", 0),
    ];
    for (sample, parent, flags, spans) in cases {
        let llm = upstream().event("a").end().start().await;
        let collector = Collector::start().await;
        let proxy = Proxy::before(&llm, &format!("{}sample = {sample}", collector.toml())).await;
        let ask = parent.into_iter().fold(proxy.get("/run"), |ask, parent| ask.header("traceparent", parent));
        ended(ask.events().await).await;
        assert_eq!(told(&llm.request(1)).2, flags);
        collector.of(&proxy, spans).await;
    }
}

#[tokio::test]
async fn what_merely_passes_keeps_its_trace_as_it_came() {
    let collector = Collector::start().await;
    for parent in [None, Some(CALLER), Some("what is this")] {
        let llm = upstream().answer(200, "text/plain", "ok").start().await;
        let proxy = Proxy::before(&llm, &collector.toml()).await;
        let ask = parent.into_iter().fold(proxy.get("/file"), |ask, parent| ask.header("traceparent", parent));
        ended(ask.send().await).await;
        assert_eq!(llm.request(1).header("traceparent").as_deref(), parent);
        collector.of(&proxy, 0).await;
    }
}

// What the collector gets

#[tokio::test]
async fn a_whole_answer_is_one_span_with_one_try_below_it() {
    let llm = Wire::OpenAi.saying(&["Hello", " world"]).event("[DONE]").end().start().await;
    let collector = Collector::start().await;
    let (now, route) = (SystemTime::now(), "[[routes]]\nmatch = { path = '/v1' }\n");
    let proxy = Proxy::before(&llm, &format!("{route}{}headers = {{ x-team = 'search' }}", collector.toml())).await;
    let reply = proxy.chat().events().await;
    let session = reply.session();
    let events = reply.rest().await.len();
    let (server, tries) = family(&collector.of(&proxy, 2).await);
    assert_eq!((server.name.as_str(), tries[0].name.as_str(), server.failed), ("POST /v1", "chat", false));
    let events = events.to_string();
    let expected = [
        ("http.request.method", "POST"),
        ("http.route", "/v1"),
        ("http.response.status_code", "200"),
        ("streamkeeper.session.id", &session),
        ("streamkeeper.route", "/v1"),
        ("streamkeeper.dialect", "openai"),
        ("streamkeeper.outcome", "completed"),
        ("streamkeeper.source", "live"),
        ("streamkeeper.events", &events),
        ("streamkeeper.tries", "1"),
        ("streamkeeper.readers", "1"),
        ("streamkeeper.resumes", "0"),
        ("streamkeeper.replayed", "0"),
        ("error.type", ""),
    ];
    for (name, value) in expected {
        assert_eq!(server.get(name), value, "{name}");
    }
    for time in ["streamkeeper.head_ms", "streamkeeper.first_event_ms", "streamkeeper.longest_silence_ms"] {
        assert!(server.get(time).parse::<u64>().is_ok(), "{time} in {server:#?}");
    }
    assert!(server.get("streamkeeper.bytes").parse::<u64>().unwrap() > 100);
    assert_eq!(server.events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["streamkeeper.first_event"]);
    let port = llm.address.port().to_string();
    let expected = [
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.operation.name", "chat"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("streamkeeper.try.kind", "stream"),
        ("streamkeeper.upstream", "llm"),
        ("error.type", ""),
    ];
    for (name, value) in expected {
        assert_eq!(tries[0].get(name), value, "{name}");
    }
    let begun = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let took = u128::from(server.end) - begun.min(u128::from(server.end));
    assert!(u128::from(server.start) + 1_000_000_000 > begun && took < 60_000_000_000, "{server:#?}");
    let batch = &collector.batches()[0];
    assert_eq!((batch.method.as_str(), batch.path.as_str()), ("POST", "/v1/traces"));
    assert_eq!(batch.header("content-type").as_deref(), Some("application/x-protobuf"));
    assert_eq!(batch.header("x-team").as_deref(), Some("search"));
    let resource = collector.resource();
    assert_eq!(resource.get("service.name").map(String::as_str), Some("streamkeeper"));
    assert_eq!(resource.get("service.version").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_try_that_failed_says_why_and_the_session_did_not() {
    let llm = upstream().answer(503, "text/plain", "no").then(upstream().event("a").end()).start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &collector.toml()).await;
    ended(proxy.get("/run").events().await).await;
    let (server, tries) = family(&collector.of(&proxy, 3).await);
    let say = |span: &Told| {
        let get = |name: &str| span.get(name).to_owned();
        (get("error.type"), get("http.response.status_code"), get("http.request.resend_count"), span.failed)
    };
    let words = |error: &str, status: &str, resent: &str, failed| {
        (error.to_owned(), status.to_owned(), resent.to_owned(), failed)
    };
    assert_eq!(say(&tries[0]), words("upstream_unavailable", "503", "", true));
    assert_eq!(say(&tries[1]), words("", "200", "1", false));
    assert_eq!(say(&server), words("", "200", "", false));
    assert_eq!(server.get("streamkeeper.tries"), "2");
    assert_eq!(server.event("streamkeeper.try_failed")["error.type"], "upstream_unavailable");
    // Nothing is known of whose model it is, so nothing is claimed.
    assert_eq!((tries[0].name.as_str(), tries[0].get("gen_ai.operation.name")), ("GET", ""));
}

#[tokio::test]
async fn a_fallback_is_a_try_of_its_kind_and_an_event() {
    let answer = upstream().json(200, &Wire::OpenAi.answer("all of it"));
    let llm = Upstream::by(move |seen| if seen.number == 1 { upstream().reset() } else { answer.clone() }).await;
    let collector = Collector::start().await;
    let toml = format!("[[routes]]\nretry = {{ attempts = 1 }}\n{}", collector.toml());
    let proxy = Proxy::before(&llm, &toml).await;
    ended(proxy.chat().events().await).await;
    let (server, tries) = family(&collector.of(&proxy, 3).await);
    let kinds: Vec<_> = tries.iter().map(|span| span.get("streamkeeper.try.kind")).collect();
    assert_eq!(kinds, ["stream", "fallback"]);
    assert_eq!((tries[0].get("error.type"), tries[0].get("http.response.status_code")), ("upstream_reset", ""));
    assert!(server.event("streamkeeper.fallback").is_empty());
    assert_eq!((server.get("streamkeeper.source"), server.failed), ("fallback", false));
    assert_eq!(told(&llm.request(2)).1, tries[1].id);
}

#[tokio::test]
async fn a_broken_stream_that_goes_on_says_how() {
    let broken = upstream().event("a").id("1").cut();
    let llm = broken.then(upstream().event("b").id("2").end()).start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &collector.toml()).await;
    assert_eq!(data(&proxy.get("/run").events().await.rest().await), ["a", "b"]);
    let (server, tries) = family(&collector.of(&proxy, 3).await);
    assert_eq!(tries[1].get("streamkeeper.try.kind"), "native_resume");
    assert!(server.event("streamkeeper.native_resume").is_empty());

    let broken = Wire::OpenAi.saying(&["Hel"]).cut();
    let llm = broken.then(Wire::OpenAi.saying(&["lo"]).event("[DONE]").end()).start().await;
    let toml = format!("[[routes]]\nafter_partial = ['continuation']\nprefill = 'prefix'\n{}", collector.toml());
    let proxy = Proxy::before(&llm, &toml).await;
    ended(proxy.chat().events().await).await;
    let (server, tries) = family(&collector.of(&proxy, 6).await[3..]);
    assert_eq!(tries[1].get("streamkeeper.try.kind"), "continuation");
    assert!(server.event("streamkeeper.continuation").is_empty());
}

#[tokio::test]
async fn a_client_that_comes_back_is_an_event_and_what_it_gets_again_is_counted() {
    let gate = Gate::new();
    let llm = upstream().events(["a", "b", "c"]).gate(&gate).event("d").end().start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &collector.toml()).await;
    let mut first = proxy.get("/run").events().await;
    let seen = first.take(3).await;
    drop(first);
    let mut again = proxy.get("/run").after(seen[0].id()).events().await;
    again.take(2).await;
    gate.open();
    ended(again).await;
    let (server, _) = family(&collector.of(&proxy, 2).await);
    assert_eq!(server.event("streamkeeper.resume")["streamkeeper.result"], "replayed");
    let counts = ["streamkeeper.readers", "streamkeeper.resumes", "streamkeeper.replayed"].map(|name| server.get(name));
    assert_eq!(counts, ["2", "1", "2"]);
}

#[tokio::test]
async fn a_gap_is_an_event_with_its_reason() {
    let gate = Gate::new();
    let llm = upstream().events(["a", "b", "c", "d"]).gate(&gate).event("e").end().start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &format!("[session]\nmax_events = 2\n{}", collector.toml())).await;
    let mut first = proxy.get("/run").events().await;
    let session = first.session();
    first.event().await;
    let mut again = proxy.get("/run").after(&format!("{session}.0.1")).events().await;
    again.event().await;
    gate.open();
    ended(again).await;
    drop(first);
    let (server, _) = family(&collector.of(&proxy, 2).await);
    assert_eq!(server.event("streamkeeper.gap")["streamkeeper.reason"], "evicted");
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_failed_span_although_its_status_was_200() {
    let llm = Wire::OpenAi.saying(&["a"]).cut().start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &format!("[[routes]]\nafter_partial = []\n{}", collector.toml())).await;
    ended(proxy.chat().events().await).await;
    let (server, tries) = family(&collector.of(&proxy, 2).await);
    for span in [&server, &tries[0]] {
        assert_eq!((span.get("error.type"), span.get("http.response.status_code")), ("upstream_reset", "200"));
        assert!(span.failed);
    }
    assert_eq!(server.get("streamkeeper.outcome"), "failed");
}

#[tokio::test]
async fn a_timeout_is_an_event_with_its_stage() {
    let llm = upstream().event("a").hang().start().await;
    let collector = Collector::start().await;
    let toml = format!("[[routes]]\nafter_partial = []\ntimeouts = {{ idle = '50ms' }}\n{}", collector.toml());
    let proxy = Proxy::before(&llm, &toml).await;
    ended(proxy.get("/run").events().await).await;
    let (server, tries) = family(&collector.of(&proxy, 2).await);
    assert_eq!(server.event("streamkeeper.timeout")["streamkeeper.stage"], "idle");
    assert_eq!((server.get("error.type"), tries[0].get("error.type")), ("idle_timeout", "idle_timeout"));
    assert!(server.get("streamkeeper.longest_silence_ms").parse::<u64>().unwrap() >= 50, "{server:#?}");
}

#[tokio::test]
async fn a_refusal_has_its_status_and_a_callers_mistake_is_no_failure_of_ours() {
    for (status, failed) in [(422, false), (500, true)] {
        let llm = upstream().answer(status, "text/plain", "no").start().await;
        let collector = Collector::start().await;
        let toml =
            format!("[[routes]]\nretry = {{ attempts = 1 }}\nfallback = {{ mode = 'off' }}\n{}", collector.toml());
        let proxy = Proxy::before(&llm, &toml).await;
        let got = proxy.chat().send().await.status.to_string();
        let (server, tries) = family(&collector.of(&proxy, 2).await);
        assert_eq!((server.get("http.response.status_code"), server.failed), (got.as_str(), failed));
        assert_eq!((tries[0].get("http.response.status_code"), tries[0].failed), (status.to_string().as_str(), true));
        assert_eq!(server.get("streamkeeper.outcome"), "refused");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_announced_is_a_session_like_any_other() {
    let llm = upstream().event("a").end().start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &collector.toml()).await;
    ended(proxy.get("/run").header("traceparent", CALLER).send().await).await;
    assert_eq!(llm.request(1).header("traceparent").as_deref(), Some(CALLER), "it passed");
    let (server, tries) = family(&collector.of(&proxy, 2).await);
    assert_eq!((server.trace.as_str(), server.parent.as_str()), (TRACE, "b7ad6b7169203331"));
    assert_eq!(tries[0].get("streamkeeper.try.kind"), "adopted");
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_process_ends() {
    let llm = upstream().event("a").end().start().await;
    let collector = Collector::start().await;
    let mut proxy = Proxy::before(&llm, &collector.toml()).await;
    ended(proxy.get("/run").events().await).await;
    proxy.drain();
    proxy.exited().await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn spans_are_sent_without_being_asked_for() {
    let llm = upstream().event("a").end().start().await;
    let collector = Collector::start().await;
    let proxy = Proxy::before(&llm, &collector.toml()).await;
    ended(proxy.get("/run").events().await).await;
    collector.until(2).await;
}
