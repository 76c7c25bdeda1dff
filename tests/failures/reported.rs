use crate::support::{Story, Wire, upstream};

/// How upstreams report an error in the middle of a stream, as bytes of it; and the type it must become.
fn forms(wire: Wire) -> Vec<(&'static str, &'static str, &'static str)> {
    match wire {
        Wire::OpenAi => vec![
            ("plain", "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":null}}\n\n", "system"),
            (
                "named",
                "event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}\n\n",
                "rate_limit",
            ),
            (
                "vllm",
                "data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}\n\n",
                "validation",
            ),
            ("tgi", "data: {\"error\":\"m\",\"error_type\":\"overloaded\"}\n\n", "system"),
            ("llama_field", "error: {\"code\":503,\"message\":\"m\",\"type\":\"unavailable_error\"}\n\n", "system"),
            (
                "list",
                "data: [{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}]\n\n",
                "rate_limit",
            ),
        ],
        Wire::Generic => vec![
            (
                "standard",
                "event: error\ndata: {\"type\":\"timeout\",\"severity\":\"error\",\"message\":\"m\",\"code\":\"db\"}\n\n",
                "timeout",
            ),
            ("nested", "event: error\ndata: {\"error\":{\"type\":\"business\",\"message\":\"m\"}}\n\n", "business"),
            ("text", "event: error\ndata: m\n\n", "system"),
            ("string", "event: error\ndata: {\"error\":\"m\"}\n\n", "system"),
            ("split", "event: error\ndata: {\"type\":\"validation\",\ndata: \"message\":\"m\"}\n\n", "validation"),
        ],
    }
}

#[tokio::test]
async fn an_error_in_the_stream_becomes_one_standard_error_and_nothing_follows() {
    for wire in Wire::ALL {
        for (name, form, kind) in forms(wire) {
            let after = format!("data: {}\n\ndata: [DONE]\n\nevent: done\ndata: {{}}\n\n", wire.says("late"));
            let llm = wire.saying(&["a"]).chunk(format!("{form}{after}")).end().start().await;
            let story = Story::new(&format!("reported_{name}"), wire, &llm, "").await;
            let (events, failure) = story.failure(story.stream().await).await;
            assert_eq!(wire.text(&events), "a", "{name}");
            assert_eq!(events.len(), 1, "{name}: {events:?}");
            let recoverable = matches!(kind, "system" | "timeout" | "rate_limit");
            story.told(&failure, "upstream_error", kind, recoverable).await;
            assert_eq!(failure.message, "m", "{name}");
            assert_eq!(llm.requests(), 1);
        }
    }
}

#[tokio::test]
async fn done_in_a_later_piece_than_the_error_does_not_turn_it_into_a_success() {
    for wire in Wire::ALL {
        let (_, form, _) = forms(wire)[0];
        let gate = crate::support::Gate::new();
        let llm = wire.saying(&["a"]).chunk(form).gate(&gate).event("[DONE]").event("{}").named("done").end();
        let llm = llm.start().await;
        let story = Story::new("late_done", wire, &llm, "").await;
        let reply = story.stream().await;
        let session = reply.session();
        gate.release();
        let (_, failure) = story.failure(reply).await;
        assert_eq!(failure.code, "upstream_error");
        assert_eq!(story.proxy.state(&session).await["state"], "failed");
    }
}

#[tokio::test]
async fn a_null_error_is_no_error_and_is_not_shown_to_clients_that_would_raise() {
    let chunk = r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}],"error":null}"#;
    let llm = Wire::OpenAi.done(Wire::OpenAi.saying(&["a"]).event(chunk)).start().await;
    let story = Story::new("null_error", Wire::OpenAi, &llm, "").await;
    let reply = story.stream().await;
    let events = reply.rest().await;
    assert_eq!(Wire::OpenAi.text(&events), "ab");
    assert!(events.iter().all(|event| !event.data.contains("\"error\"")), "{events:?}");
}

#[tokio::test]
async fn an_apps_warning_passes_on_and_the_stream_goes_on() {
    let warning = r#"{"type":"system","severity":"warning","message":"cache is cold","code":"cold"}"#;
    let script = Wire::Generic.saying(&["a"]).event(warning).named("error").events(Wire::Generic.said(&["b"]));
    let llm = Wire::Generic.done(script).start().await;
    let story = Story::new("warning", Wire::Generic, &llm, "").await;
    let reply = story.stream().await;
    let session = reply.session();
    let events = reply.rest().await;
    assert_eq!(Wire::Generic.text(&events), "ab");
    assert_eq!((events[1].name.as_str(), events[1].data.as_str()), ("error", warning));
    assert_eq!(story.proxy.state(&session).await["state"], "finished");
    let labels = [("route", story.route.as_str())];
    assert_eq!(story.proxy.metric("stream_errors_total", &labels).await, 0.0);
}

#[tokio::test]
async fn a_fatal_error_stays_fatal_and_no_retry_is_promised() {
    let fatal = r#"{"type":"system","severity":"fatal","message":"m"}"#;
    let llm = upstream().event("a").event(fatal).named("error").end().start().await;
    let story = Story::new("fatal", Wire::Generic, &llm, "").await;
    let (_, failure) = story.failure(story.stream().await).await;
    assert_eq!((failure.severity.as_str(), failure.recoverable, failure.retry_after_ms), ("fatal", false, None));
}

#[tokio::test]
async fn a_wait_that_an_app_names_is_passed_on() {
    let error = r#"{"type":"rate_limit","message":"m","retry_after_ms":4321}"#;
    let llm = upstream().event("a").event(error).named("error").end().start().await;
    let story = Story::new("named_wait", Wire::Generic, &llm, "").await;
    let (_, failure) = story.failure(story.stream().await).await;
    assert_eq!(failure.retry_after_ms, Some(4321));
}

#[tokio::test]
async fn other_names_of_error_events_can_be_configured() {
    let llm = upstream().event("a").event(r#"{"message":"m"}"#).named("oops").end().start().await;
    let toml = "[[routes]]\ngeneric = { error_events = ['oops'] }\nfallback = { mode = 'off' }";
    let proxy = crate::support::Proxy::before(&llm, toml).await;
    let events = proxy.get("/x").events().await.rest().await;
    assert_eq!(events.len(), 2);
    assert_eq!((events[1].name.as_str(), &events[1].json()["code"]), ("error", &"upstream_error".into()));
}
