//! A stream breaks after content was delivered: what goes on where it stopped, and what must rather be an error.

mod support;

use serde_json::json;
use support::events::{data, ids};
use support::{Event, Gate, Script, Seen, Story, Upstream, Wire, upstream};

const FALLBACK: &str = "fallback = { mode = 'non_stream' }\nafter_partial = ['fallback']\n";
const RESUME: &str = "after_partial = ['native_resume']\n";

fn role() -> String {
    json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }],
    })
    .to_string()
}

/// A chat that says these pieces and breaks; whoever asks without streaming gets `answer`.
async fn breaks_after(pieces: &[&str], answer: Script) -> Upstream {
    let broken = upstream().event(role()).events(Wire::OpenAi.said(pieces)).half_event().cut();
    Upstream::by(move |seen| if seen.number == 1 { broken.clone() } else { answer.clone() }).await
}

fn count(events: &[Event], wanted: &str) -> usize {
    events.iter().filter(|event| event.data.contains(wanted)).count()
}

#[tokio::test]
async fn an_answer_that_begins_with_what_was_delivered_gives_only_its_rest() {
    let cases: [(&str, &[&str], &str); 4] = [
        ("in_a_word", &["Hel", "lo wo"], "Hello world"),
        ("at_the_end", &["Hello", " world"], "Hello world"),
        ("after_one", &["H"], "Hello world"),
        ("beyond_ascii", &["grü", "ße "], "grüße 🦀 an \"alle\"\n"),
    ];
    for (name, pieces, whole) in cases {
        let llm = breaks_after(pieces, upstream().json(200, &Wire::OpenAi.answer(whole))).await;
        let story = Story::new(name, Wire::OpenAi, &llm, FALLBACK).await;
        let reply = story.stream().await;
        let session = reply.session();
        let events = reply.rest().await;
        assert_eq!(Wire::OpenAi.text(&events), whole, "{events:?}");
        assert_eq!(data(&events)[1..=pieces.len()], Wire::OpenAi.said(pieces), "what was delivered stays");
        assert_eq!(count(&events, "\"role\":\"assistant\""), 1, "{events:?}");
        assert_eq!(count(&events, "\"finish_reason\":\"stop\""), 1, "{events:?}");
        assert_eq!(count(&events, "[DONE]"), 1);
        assert_eq!(events.last().map(|event| event.data.as_str()), Some("[DONE]"));
        let (seen, plain) = (ids(&events), llm.request(2));
        let sequence: Vec<_> = seen.iter().filter_map(|id| id.rsplit('.').next()?.parse::<usize>().ok()).collect();
        assert_eq!(sequence, (1..=events.len()).collect::<Vec<_>>(), "one numbering through");
        assert!(!plain.text().contains("stream") && llm.requests() == 2);
        let state = story.proxy.state(&session).await;
        assert_eq!((&state["source"], &state["state"]), (&"fallback".into(), &"finished".into()));
    }
}

#[tokio::test]
async fn wherever_a_chat_breaks_its_text_is_whole_and_told_once() {
    let pieces: Vec<_> = (1..=EVENTS).map(|n| format!("{n} ")).collect();
    let (pieces, whole): (Vec<&str>, _) = (pieces.iter().map(String::as_str).collect(), pieces.concat());
    for cut in 0..=EVENTS {
        let llm = breaks_after(&pieces[..cut], upstream().json(200, &Wire::OpenAi.answer(&whole))).await;
        let story = Story::new("every_cut", Wire::OpenAi, &llm, FALLBACK).await;
        let events = story.stream().await.rest().await;
        assert_eq!(Wire::OpenAi.text(&events), whole, "cut after {cut}");
        for once in ["\"role\":\"assistant\"", "\"finish_reason\":\"stop\"", "[DONE]"] {
            assert_eq!(count(&events, once), 1, "{once}, cut after {cut}");
        }
        assert_eq!(llm.requests(), 2);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_after_the_mending_sees_one_whole_answer() {
    let llm = breaks_after(&["Hel"], upstream().json(200, &Wire::OpenAi.answer("Hello"))).await;
    let story = Story::new("replayed", Wire::OpenAi, &llm, FALLBACK).await;
    let reply = story.stream().await;
    let session = reply.session();
    let first = reply.rest().await;
    let again = story.proxy.session("GET", &session).events().await.rest().await;
    assert_eq!((data(&again), ids(&again)), (data(&first), ids(&first)));
}

#[tokio::test]
async fn an_answer_that_begins_otherwise_is_not_used() {
    let answers = [
        ("other", upstream().json(200, &Wire::OpenAi.answer("Goodbye"))),
        ("shorter", upstream().json(200, &Wire::OpenAi.answer("He"))),
        ("error", upstream().json(200, r#"{"error":{"message":"m","type":"server_error"}}"#)),
        ("refused", upstream().json(400, "{}")),
        ("broken", upstream().reset()),
        ("html", upstream().answer(200, "text/html", "<p>")),
    ];
    for (name, answer) in answers {
        let llm = breaks_after(&["Hel", "lo"], answer).await;
        let story = Story::new(&format!("unused_{name}"), Wire::OpenAi, &llm, FALLBACK).await;
        let labels = [("kind", "after_partial"), ("result", "failed")];
        let before = story.proxy.metric("stream_fallbacks_total", &labels).await;
        let (events, failure) = story.failure(story.stream().await).await;
        assert_eq!(Wire::OpenAi.text(&events), "Hello", "{name}");
        assert_eq!(events.len(), 3, "{name}: {events:?}");
        story.told(&failure, "upstream_reset", "system", true).await;
        assert_eq!(llm.requests(), 2, "{name}: one fallback");
        assert!(story.proxy.metric("stream_fallbacks_total", &labels).await > before, "{name}");
    }
}

#[tokio::test]
async fn delivered_tool_calls_are_never_continued() {
    let call = json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "finish_reason": null, "delta": { "tool_calls": [
            { "index": 0, "id": "t1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":" } },
        ] } }],
    });
    let answer = upstream().json(200, &Wire::OpenAi.answer("text"));
    let broken = upstream().event(role()).event(call.to_string()).cut();
    let llm = broken.then(answer).start().await;
    let story = Story::new("tool_call", Wire::OpenAi, &llm, FALLBACK).await;
    let (events, failure) = story.failure(story.stream().await).await;
    assert_eq!(events.len(), 2);
    story.told(&failure, "upstream_reset", "system", true).await;
}

#[tokio::test]
async fn an_empty_ladder_reports_the_break_at_once() {
    for wire in Wire::ALL {
        let llm = wire.saying(&["a"]).cut().start().await;
        let toml = "fallback = { mode = 'non_stream' }\nafter_partial = []";
        let story = Story::new("no_ladder", wire, &llm, toml).await;
        let (events, failure) = story.failure(story.stream().await).await;
        assert_eq!(wire.text(&events), "a");
        story.told(&failure, "upstream_reset", "system", true).await;
        assert_eq!(llm.requests(), 1);
    }
}

#[tokio::test]
async fn what_can_never_be_mended_is_not_tried() {
    for wire in Wire::ALL {
        let endings = [
            (
                "invalid",
                wire.saying(&["a"]).event(r#"{"error":{"type":"validation","code":"invalid"}}"#).named("error"),
            ),
            ("huge", wire.saying(&["a"]).chunk(format!("data: {}", "x".repeat(5000)))),
        ];
        for (name, script) in endings {
            let llm = script.hang().start().await;
            let toml = format!("{FALLBACK}[limits]\nline = '4KiB'\nevent = '4KiB'");
            let story = Story::new(&format!("unmendable_{name}"), wire, &llm, &toml).await;
            let (_, failure) = story.failure(story.stream().await).await;
            assert!(!failure.recoverable, "{failure:?}");
            assert_eq!(llm.requests(), 1, "{name}");
        }
    }
}

// Native resume: the upstream numbers its own events and is asked to go on after its last one.

const EVENTS: usize = 30;

/// How an answer stops in the middle.
type Ending = fn(Script) -> Script;

/// An upstream that honours Last-Event-ID. Its first answer stops after `cut` events, as `ending` says.
async fn numbered(cut: usize, ending: Ending) -> Upstream {
    Upstream::by(move |seen| {
        let from = after(seen);
        let to = if seen.number == 1 { cut } else { EVENTS };
        let script = upstream().head(200, &[("content-type", "text/event-stream")]);
        let script = (from + 1..=to).fold(script, |script, n| script.event(format!("event {n}")).id(&format!("n-{n}")));
        if seen.number == 1 { ending(script) } else { script.event("{}").named("done").id("n-end").end() }
    })
    .await
}

/// How many events whoever asks has seen.
fn after(seen: &Seen) -> usize {
    seen.header("last-event-id").and_then(|id| id.strip_prefix("n-")?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn wherever_a_numbered_stream_breaks_each_event_comes_once() {
    let endings: [(&str, Ending); 4] = [
        ("cut", Script::cut),
        ("reset", Script::reset),
        ("truncated", Script::truncate),
        ("half", |script| script.chunk("id: n-99\ndata: never who").cut()),
    ];
    for (name, ending) in endings {
        for cut in 0..=EVENTS {
            let llm = numbered(cut, ending).await;
            let story = Story::new(&format!("resume_{name}"), Wire::Generic, &llm, RESUME).await;
            let reply = story.stream().await;
            let session = reply.session();
            let events = reply.rest().await;
            let wanted: Vec<_> = (1..=EVENTS).map(|n| format!("n-{n}")).chain(["n-end".to_owned()]).collect();
            assert_eq!(ids(&events), wanted, "{name} after {cut}");
            assert_eq!(events[4].data, "event 5");
            assert_eq!(llm.requests(), 2);
            // Nothing delivered, nothing to go on from: that is an ordinary second try.
            // A reset may take with it what was sent just before.
            let asked = llm.request(2).header("last-event-id");
            if cut == 0 {
                assert_eq!(asked, None, "{name}");
            } else if name != "reset" {
                assert_eq!(asked, Some(format!("n-{cut}")), "{name}");
                assert_eq!(story.proxy.state(&session).await["source"], "continued");
            }
        }
    }
}

#[tokio::test]
async fn a_resumed_request_is_the_clients_own_with_the_upstreams_last_id() {
    let llm = numbered(3, Script::cut).await;
    let story = Story::new("same_request", Wire::Generic, &llm, RESUME).await;
    let reply = story.ask().header("authorization", "Bearer k").send().await;
    assert_eq!(reply.rest().await.len(), EVENTS + 1);
    let (first, second) = (llm.request(1), llm.request(2));
    assert_eq!((&second.method, &second.path, second.text()), (&first.method, &first.path, first.text()));
    assert_eq!(second.header("authorization").as_deref(), Some("Bearer k"));
    assert_eq!((first.header("last-event-id"), second.header("last-event-id").as_deref()), (None, Some("n-3")));
}

#[tokio::test]
async fn resumes_have_a_budget_however_much_progress_they_make() {
    let one_by_one = |seen: &Seen| {
        let next = after(seen) + 1;
        upstream().event(format!("event {next}")).id(&format!("n-{next}")).cut()
    };
    let llm = Upstream::by(one_by_one).await;
    let story = Story::new("budget", Wire::Generic, &llm, RESUME).await;
    let (events, failure) = story.failure(story.stream().await).await;
    assert_eq!(ids(&events), ["n-1", "n-2", "n-3", "n-4"], "the first try and three resumes");
    story.told(&failure, "upstream_reset", "system", true).await;
    assert_eq!(llm.requests(), 4);
}

#[tokio::test]
async fn an_upstream_that_refuses_to_resume_leaves_the_fault_that_broke_the_stream() {
    let answers = [
        ("refuses", upstream().json(404, "{}")),
        ("fails", upstream().json(500, "{}")),
        ("talks", upstream().json(200, "{\"text\":\"other\"}")),
        ("resets", upstream().reset()),
    ];
    for (name, answer) in answers {
        let llm = upstream().event("a").id("n-1").cut().then(answer).start().await;
        let story = Story::new(&format!("resume_{name}"), Wire::Generic, &llm, RESUME).await;
        let (events, failure) = story.failure(story.stream().await).await;
        assert_eq!(data(&events), ["a"]);
        story.told(&failure, "upstream_reset", "system", true).await;
        assert_eq!(llm.requests(), 2, "{name}");
    }
}

#[tokio::test]
async fn an_upstream_without_ids_is_not_asked_to_resume() {
    for (name, toml) in [("unnumbered", RESUME.to_owned()), ("issued", format!("ids = 'issue'\n{RESUME}"))] {
        let script = if name == "issued" { upstream().event("a").id("n-1") } else { upstream().event("a") };
        let llm = script.cut().start().await;
        let story = Story::new(name, Wire::Generic, &llm, &toml).await;
        let (_, failure) = story.failure(story.stream().await).await;
        assert_eq!(failure.code, "upstream_reset");
        assert_eq!(llm.requests(), 1, "{name}");
    }
}

#[tokio::test]
async fn what_an_upstream_repeats_when_it_resumes_is_delivered_once() {
    let both = || upstream().event("a").id("n-1").event("b").id("n-2");
    let llm = both().cut().then(both().event("c").id("n-3").event("{}").named("done").end()).start().await;
    let story = Story::new("repeats", Wire::Generic, &llm, RESUME).await;
    let events = story.stream().await.rest().await;
    assert_eq!(data(&events), ["a", "b", "c", "{}"]);
}

#[tokio::test]
async fn an_upstream_that_begins_anew_under_the_same_ids_is_not_mixed_in() {
    let first = upstream().event("a").id("n-1").event("b").id("n-2").cut();
    let anew = upstream().event("x").id("n-1").event("y").id("n-2").event("z").id("n-3").event("{}").named("done");
    let llm = first.then(anew.end()).start().await;
    let story = Story::new("anew", Wire::Generic, &llm, RESUME).await;
    let (events, failure) = story.failure(story.stream().await).await;
    assert_eq!(data(&events), ["a", "b"]);
    story.told(&failure, "upstream_reset", "system", true).await;
    assert_eq!(llm.requests(), 2);
}

#[tokio::test]
async fn a_client_that_left_meanwhile_finds_the_mended_stream() {
    let gate = Gate::new();
    let first = upstream().event("a").id("n-1").event("b").id("n-2").gate(&gate).cut();
    let rest = upstream().event("c").id("n-3").event("{}").named("done").id("n-4").end();
    let llm = first.then(rest).start().await;
    let story = Story::new("left", Wire::Generic, &llm, RESUME).await;
    let mut reply = story.stream().await;
    let session = reply.session();
    reply.take(2).await;
    drop(reply);
    gate.release();
    llm.requested(2).await;
    let rest = story.proxy.session("GET", &session).after("n-1").events().await.rest().await;
    assert_eq!(ids(&rest), ["n-2", "n-3", "n-4"]);
}
