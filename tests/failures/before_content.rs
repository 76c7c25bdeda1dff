use std::time::Duration;

use crate::support::time::{advance, freeze};
use crate::support::{Failure, Story, Upstream, Wire, upstream};

const TRIES: usize = 3;

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502_after_all_tries() {
    for wire in Wire::ALL {
        let nobody = Upstream::nobody().await;
        let story = Story::at("unreachable", wire, &[nobody], "").await;
        let before = story.proxy.metric("stream_upstream_attempts_total", &[("result", "upstream_unreachable")]).await;
        let failure = story.refusal(502).await;
        story.told(&failure, "upstream_unreachable", "system", true).await;
        let tries = story.proxy.metric("stream_upstream_attempts_total", &[("result", "upstream_unreachable")]).await;
        assert!(tries >= before + TRIES as f64);
        assert!(!failure.whole.to_string().contains(&nobody.port().to_string()), "{failure:?}");
    }
}

#[tokio::test]
async fn the_next_endpoint_answers_where_one_cannot_be_reached() {
    for wire in Wire::ALL {
        let llm = wire.done(wire.saying(&["a"])).start().await;
        let endpoints = [Upstream::nobody().await, llm.address];
        let story = Story::at("next_endpoint", wire, &endpoints, "retry = { base = '1h', max = '1h' }").await;
        assert_eq!(story.whole(story.stream().await).await, "a");
        assert_eq!(llm.requests(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_head_is_tried_again_then_a_502() {
    for wire in Wire::ALL {
        for (name, script) in [("reset_early", upstream().reset()), ("closed_early", upstream().cut())] {
            let llm = script.start().await;
            let story = Story::new(name, wire, &llm, "").await;
            let failure = story.refusal(502).await;
            story.told(&failure, "upstream_reset", "system", true).await;
            assert_eq!(llm.requests(), TRIES);
        }
    }
}

#[tokio::test]
async fn half_a_head_is_a_broken_connection() {
    for wire in Wire::ALL {
        let llm = upstream().raw("HTTP/1.1 200 OK\r\ncontent-ty").cut().start().await;
        let story = Story::new("half_a_head", wire, &llm, "retry = { attempts = 1 }").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "upstream_reset", "system", true).await;
    }
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_sent_once_where_the_route_says_so() {
    for wire in Wire::ALL {
        let llm = upstream().reset().start().await;
        let story = Story::new("sent_once", wire, &llm, "retry = { after_send = false }").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "upstream_reset", "system", true).await;
        assert_eq!(llm.requests(), 1);
    }
}

#[tokio::test]
async fn a_try_that_failed_leaves_no_trace_in_the_stream_of_the_next() {
    for wire in Wire::ALL {
        let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
        let broken = if wire == Wire::OpenAi { upstream().event(role).reset() } else { upstream().reset() };
        let llm = broken.then(upstream().answer(500, "text/plain", "oh")).then(wire.done(wire.saying(&["a", "b"])));
        let llm = llm.start().await;
        let story = Story::new("third_try", wire, &llm, "").await;
        let reply = story.stream().await;
        assert_eq!(reply.header("streamkeeper-source").as_deref(), Some("live"));
        let events = reply.rest().await;
        assert_eq!(events.len(), 2 + wire.done_events(), "{events:?}");
        assert_eq!(wire.text(&events), "ab");
        assert_eq!(llm.requests(), 3);
        let sent: Vec<_> = (1..=3).map(|number| llm.request(number).text()).collect();
        assert!(sent.iter().all(|body| *body == sent[0] && body.contains("\"stream\":true")), "{sent:?}");
    }
}

#[tokio::test]
async fn a_4xx_is_passed_on_as_it_is_and_not_tried_again() {
    for wire in Wire::ALL {
        for status in [400, 401, 402, 403, 404, 405, 409, 413, 418, 422, 451] {
            let body = format!("{{\"error\": {{\"message\":\"no {status}\"}} }} ");
            let headers =
                [("content-type", "application/problem+json"), ("x-vendor", "7"), ("set-cookie", "a=1"), ("age", "3")];
            let llm = upstream().answer_with(status, &headers, &body).start().await;
            let story = Story::new("refused", wire, &llm, "fallback = { mode = 'non_stream' }").await;
            let reply = story.ask().send().await;
            assert_eq!(reply.status, status);
            for (name, value) in headers {
                assert_eq!(reply.header(name).as_deref(), Some(value), "{name}");
            }
            assert_eq!(reply.header("streamkeeper-session"), None);
            assert_eq!(reply.text().await, body);
            assert_eq!(llm.requests(), 1);
        }
    }
}

#[tokio::test]
async fn a_4xx_is_counted_as_the_upstreams_refusal() {
    for wire in Wire::ALL {
        let llm = upstream().json(404, "{}").start().await;
        let story = Story::new("counted_refusal", wire, &llm, "").await;
        assert_eq!(story.ask().send().await.status, 404);
        let labels = [("route", story.route.as_str()), ("code", "upstream_rejected"), ("error_type", "business")];
        assert_eq!(story.proxy.metric("stream_errors_total", &labels).await, 1.0);
    }
}

#[tokio::test]
async fn a_redirect_or_a_204_is_the_upstreams_own_word() {
    for wire in Wire::ALL {
        for (status, name, value) in [(302, "location", "http://elsewhere.example/"), (204, "x-empty", "1")] {
            let llm = upstream().head(status, &[(name, value), ("x-length", "0")]).end().start().await;
            let story = Story::new("own_word", wire, &llm, "").await;
            let reply = story.ask().send().await;
            assert_eq!((reply.status, reply.header(name).as_deref()), (status, Some(value)));
            assert_eq!(reply.bytes().await, b"");
            assert_eq!(llm.requests(), 1, "no redirect is followed");
        }
    }
}

#[tokio::test]
async fn a_429_that_asks_for_a_short_wait_is_waited_for() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let busy = upstream().answer_with(429, &[("retry-after", "2")], "slow down");
        let llm = busy.then(wire.done(wire.saying(&["a"]))).start().await;
        let story = Story::new("short_wait", wire, &llm, "retry = { max = '2s' }").await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, Duration::from_millis(1999)).await;
        assert_eq!(llm.requests(), 1, "not before the upstream wants it");
        advance(&story.proxy, Duration::from_millis(2)).await;
        assert_eq!(llm.requests(), 2);
        assert_eq!(story.whole(asked.reply().await).await, "a");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_429_that_asks_for_a_long_wait_is_handed_on_with_its_header() {
    for wire in Wire::ALL {
        let headers = [("retry-after", "120"), ("x-ratelimit-remaining", "0"), ("content-type", "text/plain")];
        let llm = upstream().answer_with(429, &headers, "slow down").start().await;
        let story = Story::new("long_wait", wire, &llm, "").await;
        let reply = story.ask().send().await;
        assert_eq!(reply.status, 429);
        assert_eq!(reply.header("retry-after").as_deref(), Some("120"));
        assert_eq!(reply.header("x-ratelimit-remaining").as_deref(), Some("0"));
        assert_eq!(reply.text().await, "slow down");
        assert_eq!(llm.requests(), 1);
        let failure = Failure { kind: "rate_limit".into(), code: "rate_limited".into(), ..Failure::default() };
        assert_eq!(story.errors(&failure).await, 1.0);
    }
}

#[tokio::test]
async fn a_429_without_end_is_handed_on_when_the_tries_are_spent() {
    for wire in Wire::ALL {
        let llm = upstream().answer_with(429, &[("retry-after", "0")], "slow down").start().await;
        let story = Story::new("always_429", wire, &llm, "").await;
        let reply = story.ask().send().await;
        assert_eq!((reply.status, reply.header("retry-after").as_deref()), (429, Some("0")));
        assert_eq!(llm.requests(), TRIES);
    }
}

#[tokio::test]
async fn a_5xx_is_tried_again_and_told_as_502_or_503() {
    for wire in Wire::ALL {
        for (status, told) in [(500, 502), (501, 502), (502, 502), (503, 503), (504, 502), (529, 502), (599, 502)] {
            let llm = upstream().answer(status, "text/html", "<h1>internal stack trace</h1>").start().await;
            let story = Story::new(&format!("status_{status}"), wire, &llm, "").await;
            let failure = story.refusal(told).await;
            story.told(&failure, "upstream_unavailable", "system", true).await;
            assert!(!failure.whole.to_string().contains("stack"), "{failure:?}");
            assert_eq!(llm.requests(), TRIES);
        }
    }
}

#[tokio::test]
async fn a_503_that_names_a_long_wait_is_not_tried_again_and_the_client_learns_the_wait() {
    for wire in Wire::ALL {
        let llm = upstream().answer_with(503, &[("retry-after", "77")], "later").start().await;
        let story = Story::new("long_503", wire, &llm, "").await;
        let failure = story.refusal(503).await;
        assert_eq!(failure.header("retry-after"), Some("77"));
        assert_eq!(failure.retry_after_ms, Some(77_000));
        assert_eq!(llm.requests(), 1);
    }
}

#[tokio::test]
async fn who_asks_again_after_a_refusal_gets_another_try_even_with_the_same_key() {
    for wire in Wire::ALL {
        let llm = upstream().json(500, "{}").then(wire.done(wire.saying(&["a"]))).start().await;
        let story = Story::new("again", wire, &llm, "retry = { attempts = 1 }").await;
        let asked = || story.ask().header("idempotency-key", "k1");
        assert_eq!(asked().send().await.status, 502);
        assert_eq!(story.whole(asked().send().await).await, "a");
    }
}

#[tokio::test]
async fn a_callers_request_id_is_in_the_error_and_on_the_answer() {
    for wire in Wire::ALL {
        let llm = upstream().json(500, "{}").start().await;
        let story = Story::new("request_id", wire, &llm, "").await;
        let reply = story.ask().header("x-request-id", "req-7").send().await;
        assert_eq!(reply.header("x-request-id").as_deref(), Some("req-7"));
        assert_eq!(Failure::read(&reply.text().await).request_id, "req-7");
    }
}
