//! No stream can be had: the same request without streaming, its answer sent as the events of a stream.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::time::{advance, freeze};
use support::{Gate, Script, Seen, Story, Upstream, Wire, upstream};

const ON: &str = "fallback = { mode = 'non_stream', timeout = '20s' }\n";

fn wants_stream(seen: &Seen) -> bool {
    seen.header("accept").is_none_or(|accept| accept != "application/json")
}

/// An upstream that does `broken` with every stream and `answer` with everything else.
async fn torn(broken: Script, answer: Script) -> Upstream {
    Upstream::by(move |seen| if wants_stream(seen) { broken.clone() } else { answer.clone() }).await
}

async fn fallbacks(story: &Story, result: &str) -> f64 {
    story.proxy.metric("stream_fallbacks_total", &[("kind", "before_content"), ("result", result)]).await
}

#[tokio::test]
async fn when_all_tries_fail_the_answer_comes_without_streaming() {
    for wire in Wire::ALL {
        let broken = [
            ("after_500", upstream().answer(500, "text/plain", "no"), 3),
            ("after_reset", upstream().reset(), 3),
            ("after_truncation", upstream().chunk(": hi\n\n").end(), 3),
            ("after_html", upstream().answer(200, "text/html", "<p>"), 1),
            ("after_huge", upstream().chunk(format!("data: {}", "x".repeat(70_000))).hang(), 1),
        ];
        for (name, broken, tries) in broken {
            let llm = torn(broken, upstream().json(200, &wire.answer("all of it"))).await;
            let toml = format!("{ON}[limits]\nline = '64KiB'\nevent = '64KiB'");
            let story = Story::new(name, wire, &llm, &toml).await;
            let before = fallbacks(&story, "ok").await;
            let reply = story.stream().await;
            assert_eq!(reply.header("streamkeeper-source").as_deref(), Some("fallback"), "{name}");
            let session = reply.session();
            assert_eq!(story.whole(reply).await, "all of it", "{name}");
            assert_eq!(llm.requests(), tries + 1, "{name}");
            assert!(fallbacks(&story, "ok").await > before);
            let state = story.proxy.state(&session).await;
            assert_eq!((&state["state"], &state["source"]), (&"finished".into(), &"fallback".into()));
            let errors = story.proxy.metric("stream_errors_total", &[("route", &story.route)]).await;
            assert_eq!(errors, 0.0, "a mended stream is no error");
        }
    }
}

#[tokio::test]
async fn the_request_without_streaming_is_the_same_but_for_the_streaming() {
    for wire in Wire::ALL {
        let llm = torn(upstream().reset(), upstream().json(200, &wire.answer("a"))).await;
        let story = Story::new("same_request", wire, &llm, ON).await;
        let body = r#"{"z":1.0e2,"stream_options":{"include_usage":true},"model":"m","stream":true,"a":"é\u00e9"}"#;
        let reply = story.ask().header("authorization", "Bearer k").header("x-app", "7").body(body).send().await;
        assert_eq!(reply.status, 200);
        drop(reply.rest().await);
        let (stream, plain) = (llm.request(1), llm.requested(4).await);
        assert_eq!((plain.method.as_str(), &plain.path), ("POST", &stream.path));
        assert_eq!(plain.text(), r#"{"z":1.0e2,"model":"m","a":"é\u00e9"}"#);
        assert_eq!(plain.header("accept").as_deref(), Some("application/json"));
        assert_eq!(plain.header("content-length"), Some(plain.body.len().to_string()));
        for name in ["authorization", "x-app", "content-type", "x-request-id", "accept-encoding"] {
            assert_eq!(plain.header(name), stream.header(name), "{name}");
        }
    }
}

#[tokio::test]
async fn the_usage_has_a_chunk_of_its_own_where_it_was_asked_for_and_else_stands_on_the_last() {
    let mut answer: Value = serde_json::from_str(&Wire::OpenAi.answer("a")).expect("JSON");
    answer["usage"] = serde_json::json!({ "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 });
    for asked in [true, false] {
        let llm = torn(upstream().reset(), upstream().json(200, &answer.to_string())).await;
        let story = Story::new(&format!("usage_{asked}"), Wire::OpenAi, &llm, ON).await;
        let body = format!(r#"{{"model":"m","stream":true,"stream_options":{{"include_usage":{asked}}}}}"#);
        let events = story.ask().body(body).send().await.rest().await;
        let told: Vec<_> = events.iter().filter(|event| event.data.contains("\"total_tokens\":3")).collect();
        assert_eq!(told.len(), 1, "{events:?}");
        assert_eq!(told[0].json()["choices"].as_array().is_some_and(Vec::is_empty), asked, "{events:?}");
        assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
    }
}

#[tokio::test]
async fn a_fallback_that_fails_leaves_the_fault_that_it_could_not_mend() {
    for wire in Wire::ALL {
        let answers = [
            ("fallback_500", upstream().answer(500, "text/plain", "no")),
            ("fallback_400", upstream().json(400, "{\"secret\":1}")),
            ("fallback_429", upstream().answer_with(429, &[("retry-after", "0")], "no")),
            ("fallback_html", upstream().answer(200, "text/html", "<p>")),
            ("fallback_reset", upstream().reset()),
            ("fallback_error", upstream().json(200, r#"{"error":{"message":"m","type":"business"}}"#)),
            ("fallback_stream", wire.done(wire.saying(&["a"]))),
        ];
        for (name, answer) in answers {
            let llm = torn(upstream().reset(), answer).await;
            let story = Story::new(name, wire, &llm, ON).await;
            let before = fallbacks(&story, "failed").await;
            let failure = story.refusal(502).await;
            story.told(&failure, "upstream_reset", "system", true).await;
            assert!(!failure.whole.to_string().contains("secret"));
            assert_eq!(llm.requests(), 4, "{name}: one fallback, not tried again");
            assert!(fallbacks(&story, "failed").await > before, "{name}");
        }
    }
}

#[tokio::test]
async fn what_a_fallback_cannot_mend_is_not_asked_for_again() {
    for wire in Wire::ALL {
        let faults = [
            ("no_after_404", upstream().json(404, "{}"), 404, 1),
            ("no_after_429", upstream().answer_with(429, &[("retry-after", "99")], ""), 429, 1),
            ("no_after_invalid", upstream().json(200, r#"{"error":{"type":"invalid_request_error"}}"#), 0, 1),
        ];
        for (name, script, status, requests) in faults {
            let llm = script.start().await;
            let story = Story::new(name, wire, &llm, ON).await;
            let got = story.ask().send().await.status;
            // The generic wire does not know OpenAI's words: to it that error is one that may pass.
            if wire == Wire::Generic && name == "no_after_invalid" {
                continue;
            }
            assert_eq!(got, if status == 0 { 400 } else { status }, "{name}");
            assert_eq!(llm.requests(), requests, "{name}");
        }
    }
}

#[tokio::test]
async fn a_route_without_fallback_asks_only_for_streams() {
    for wire in Wire::ALL {
        let llm = torn(upstream().reset(), upstream().json(200, &wire.answer("a"))).await;
        let story = Story::new("off", wire, &llm, "fallback = { mode = 'off' }").await;
        assert_eq!(story.refusal(502).await.code, "upstream_reset");
        assert_eq!(llm.requests(), 3);
    }
}

#[tokio::test]
async fn a_request_that_has_no_other_form_keeps_its_own_fault() {
    let llm = upstream().reset().start().await;
    let story = Story::new("no_form", Wire::Generic, &llm, ON).await;
    let path = format!("{}/run", story.route);
    let reply = story.proxy.get(&path).header("accept", "text/event-stream").send().await;
    assert_eq!(reply.status, 502);
    assert_eq!(support::Failure::read(&reply.text().await).code, "upstream_reset");
    assert_eq!(llm.requests(), 3);
}

#[tokio::test]
async fn a_fallback_has_its_own_time_limit() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let llm = torn(upstream().answer(500, "text/plain", "no"), upstream().hang()).await;
        let story = Story::new("slow_fallback", wire, &llm, &format!("{ON}commit_after = '1h'")).await;
        let asked = story.ask().begin().await;
        for _ in 0..4 {
            advance(&story.proxy, Duration::from_millis(6)).await; // the random waits between tries
        }
        assert_eq!(llm.requests(), 4);
        advance(&story.proxy, Duration::from_millis(19_970)).await;
        assert_eq!(llm.hung_up(), 0);
        advance(&story.proxy, Duration::from_millis(40)).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 502);
        assert_eq!(support::Failure::read(&reply.text().await).code, "upstream_unavailable");
        llm.closed().await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_client_that_already_has_its_head_gets_the_fallback_all_the_same() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let answer = upstream().gate(&gate).json(200, &wire.answer("all of it"));
        let llm = torn(upstream().answer(500, "text/plain", "no"), answer).await;
        let story = Story::new("late_fallback", wire, &llm, &format!("{ON}commit_after = '1s'")).await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, Duration::from_millis(1_001)).await;
        let reply = asked.reply().await;
        assert_eq!(reply.status, 200);
        for _ in 0..3 {
            advance(&story.proxy, Duration::from_millis(6)).await;
        }
        gate.release();
        assert_eq!(story.whole(reply).await, "all of it");
        tokio::time::resume();
    }
}
