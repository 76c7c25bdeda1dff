use std::time::Duration;

use crate::support::time::{advance, freeze, settle};
use crate::support::{Gate, Proxy, Story, Wire, upstream};

#[tokio::test]
async fn half_an_event_is_dropped_when_the_connection_breaks() {
    for wire in Wire::ALL {
        for (name, cut) in [("reset_mid_event", false), ("closed_mid_event", true)] {
            let gate = Gate::new();
            let half = wire.saying(&["a", "b"]).half_event().gate(&gate);
            let llm = if cut { half.cut() } else { half.reset() }.start().await;
            let story = Story::new(name, wire, &llm, "").await;
            let mut reply = story.stream().await;
            let first = reply.take(2).await;
            gate.release();
            let (more, failure) = story.failure(reply).await;
            assert_eq!(wire.text(&first), "ab");
            assert!(more.is_empty(), "{more:?}");
            story.told(&failure, "upstream_reset", "system", true).await;
            assert_eq!(llm.requests(), 1, "content was delivered: no second beginning");
        }
    }
}

#[tokio::test]
async fn a_clean_end_without_the_terminator_is_a_truncation() {
    for wire in Wire::ALL {
        let llm = wire.saying(&["a", "b"]).truncate().start().await;
        let story = Story::new("truncated", wire, &llm, "").await;
        let (events, failure) = story.failure(story.stream().await).await;
        assert_eq!(wire.text(&events), "ab");
        story.told(&failure, "upstream_truncated", "system", true).await;
    }
}

#[tokio::test]
async fn a_clean_end_before_any_content_is_tried_again_then_a_502() {
    for wire in Wire::ALL {
        let llm = upstream().chunk(": hello\n\n").truncate().start().await;
        let story = Story::new("empty_stream", wire, &llm, "").await;
        let failure = story.refusal(502).await;
        story.told(&failure, "upstream_truncated", "system", true).await;
        assert_eq!(llm.requests(), 3);
    }
}

#[tokio::test]
async fn a_finish_without_done_counts_as_complete() {
    let finish = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    let llm = Wire::OpenAi.saying(&["a"]).event(finish).end().start().await;
    let story = Story::new("no_done", Wire::OpenAi, &llm, "").await;
    let reply = story.stream().await;
    let session = reply.session();
    let events = reply.rest().await;
    assert_eq!((events.len(), events[1].data.as_str()), (2, finish));
    assert_eq!(story.proxy.state(&session).await["state"], "finished");
}

#[tokio::test]
async fn a_clean_end_is_whole_where_no_terminator_is_configured_and_a_broken_one_is_not() {
    let toml = "[[routes]]\nfallback = { mode = 'off' }";
    let endings = [
        (upstream().event("a").end(), &["message"][..]),
        (upstream().event("a").cut(), &["message", "error"]),
        (upstream().event("a").reset(), &["message", "error"]),
    ];
    for (script, names) in endings {
        let llm = script.start().await;
        let proxy = Proxy::before(&llm, toml).await;
        let events = proxy.get("/plain").events().await.rest().await;
        let got: Vec<_> =
            events.iter().map(|event| if event.name.is_empty() { "message" } else { &event.name }).collect();
        assert_eq!(got, names);
    }
}

#[tokio::test]
async fn an_event_or_a_line_over_its_cap_ends_the_stream() {
    for wire in Wire::ALL {
        let line = format!("data: {}", "x".repeat(5 * 1024));
        let lines = "data: 0123456789\n".repeat(1000);
        for (name, huge) in [("huge_line", line), ("huge_event", lines)] {
            let llm = wire.saying(&["a"]).chunk(huge).chunk("\n\ndata: more\n\n").hang().start().await;
            let story = Story::new(name, wire, &llm, "[limits]\nline = '4KiB'\nevent = '8KiB'").await;
            let (events, failure) = story.failure(story.stream().await).await;
            assert_eq!(wire.text(&events), "a");
            story.told(&failure, "event_too_large", "system", false).await;
            llm.closed().await;
        }
    }
}

#[tokio::test]
async fn an_event_just_under_the_cap_passes() {
    for wire in Wire::ALL {
        let text = "x".repeat(3 * 1024);
        let llm = wire.done(wire.saying(&[&text])).start().await;
        let story = Story::new("large_event", wire, &llm, "[limits]\nline = '4KiB'\nevent = '8KiB'").await;
        assert_eq!(story.whole(story.stream().await).await, text);
    }
}

#[tokio::test]
async fn after_the_head_went_out_with_heartbeats_a_failure_is_an_event() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let llm = upstream().gate(&gate).answer(500, "text/plain", "no").start().await;
        let toml = "commit_after = '15s'\nretry = { attempts = 1 }\n[heartbeat]\ninterval = '5s'";
        let story = Story::new("committed", wire, &llm, toml).await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, Duration::from_millis(15_001)).await;
        let mut reply = asked.reply().await;
        assert_eq!(reply.status, 200);
        advance(&story.proxy, Duration::from_millis(5_001)).await;
        reply.until_raw(b": ka\n").await;
        advance(&story.proxy, Duration::from_millis(5_001)).await;
        reply.until_raw(b": ka\n: ka\n").await;
        gate.release();
        let (events, failure) = story.failure(reply).await;
        assert!(events.is_empty());
        story.told(&failure, "upstream_unavailable", "system", true).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_slow_first_event_after_the_head_is_still_a_good_stream() {
    for wire in Wire::ALL {
        let _frozen = freeze();
        let gate = Gate::new();
        let llm = wire.done(upstream().gate(&gate).events(wire.said(&["a"]))).start().await;
        let story = Story::new("slow_first", wire, &llm, "commit_after = '5s'\n[heartbeat]\ninterval = '2s'").await;
        let asked = story.ask().begin().await;
        advance(&story.proxy, Duration::from_millis(5_001)).await;
        let reply = asked.reply().await;
        advance(&story.proxy, Duration::from_millis(2_001)).await;
        gate.release();
        settle(&story.proxy).await;
        assert_eq!(story.whole(reply).await, "a");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_failed_stream_tells_its_end_to_whoever_comes_back_and_no_more_than_once() {
    for wire in Wire::ALL {
        let llm = wire.saying(&["a"]).truncate().start().await;
        let story = Story::new("failed_again", wire, &llm, "").await;
        let reply = story.stream().await;
        let session = reply.session();
        let events = reply.rest().await;
        let again = story.proxy.session("GET", &session).events().await.rest().await;
        assert_eq!(crate::support::events::data(&again), crate::support::events::data(&events));
        let seen = events.last().expect("a failure").id().to_owned();
        let nothing = story.proxy.session("GET", &session).header("accept", "text/event-stream").after(&seen);
        assert_eq!(nothing.send().await.status, 204);
    }
}
