//! The wires beside chat completions and plain events, through the whole proxy: told by what a request or its answer
//! gives away, broken in the middle, mended where the wire knows how. What each event means is tested with each dialect.

mod support;

use serde_json::{Value, json};
use support::events::data;
use support::reply::BodyEnd;
use support::{Event, Proxy, Request, Script, Upstream, upstream};

const ERRORS_AT_ONCE: &str = "after_partial = []\n";
const QUICK: &str = "retry = { attempts = 1 }\n";

fn chat_chunk(delta: Value, finish: Option<&str>) -> String {
    json!({
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
    })
    .to_string()
}

fn post(proxy: &Proxy, path: &str, body: &Value) -> Request {
    proxy.post(path).json(&body.to_string())
}

fn routed(keys: &str) -> String {
    format!("[[routes]]\n{keys}")
}

fn text_of_chat(events: &[Event]) -> String {
    let parsed = events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
    parsed.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_chat_cut_after_any_token_is_continued_by_the_model_itself() {
    const WORDS: usize = 50;
    let words: Vec<String> = (1..=WORDS).map(|n| format!("word{n} ")).collect();
    for cut in 1..=WORDS {
        let all = words.clone();
        let llm = Upstream::by(move |seen| {
            let (said, rest) = if seen.number == 1 { (0, cut) } else { (cut, WORDS) };
            let role = chat_chunk(json!({ "role": "assistant", "content": "" }), None);
            let tokens = all[said..rest].iter().map(|word| chat_chunk(json!({ "content": word }), None));
            let script = upstream().event(role).events(tokens);
            if seen.number == 1 {
                script.half_event().cut()
            } else {
                script.event(chat_chunk(json!({}), Some("stop"))).event("[DONE]").end()
            }
        })
        .await;
        let keys = "after_partial = ['continuation']\nprefill = 'prefix'\nfallback = { mode = 'off' }\n";
        let proxy = Proxy::before(&llm, &routed(keys)).await;
        let body = json!({ "stream": true, "messages": [{ "role": "user", "content": "count" }] });
        let reply = post(&proxy, "/v1/chat/completions", &body).events().await;
        let session = reply.session();
        let events = reply.rest().await;
        assert_eq!(text_of_chat(&events), words.concat(), "cut after {cut}");
        assert_eq!(events.iter().filter(|event| event.data.contains("\"role\"")).count(), 1);
        assert_eq!(events.iter().filter(|event| event.data == "[DONE]").count(), 1);
        let second: Value = serde_json::from_str(&llm.request(2).text()).unwrap();
        let last = second["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap();
        assert_eq!((last["role"].as_str(), last["prefix"].as_bool()), (Some("assistant"), Some(true)));
        assert_eq!(last["content"].as_str().map(str::trim_end), Some(words[..cut].concat().trim_end()));
        assert_eq!(proxy.state(&session).await["source"], "continued");
    }
}

#[tokio::test]
async fn a_server_that_refuses_to_continue_leaves_the_next_rung() {
    let answer = json!({
        "id": "c2", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hello world" }, "finish_reason": "stop" }],
    });
    let llm = Upstream::by(move |seen| match seen.number {
        1 => upstream().event(chat_chunk(json!({ "content": "Hello" }), None)).cut(),
        2 => upstream().json(400, r#"{"error":{"message":"no prefill here"}}"#),
        _ => upstream().json(200, &answer.to_string()),
    })
    .await;
    let keys = "after_partial = ['continuation', 'fallback']\nprefill = 'trailing'\n";
    let proxy = Proxy::before(&llm, &routed(keys)).await;
    let body = json!({ "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let events = post(&proxy, "/v1/chat/completions", &body).events().await.rest().await;
    assert_eq!(text_of_chat(&events), "Hello world");
    assert_eq!(llm.requests(), 3);
}

fn anthropic(kind: &str, rest: Value) -> (String, String) {
    let mut event = json!({ "type": kind });
    event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    (kind.to_owned(), event.to_string())
}

fn told(script: Script, events: impl IntoIterator<Item = (String, String)>) -> Script {
    events.into_iter().fold(script, |script, (name, data)| script.event(data).named(&name))
}

#[tokio::test]
async fn a_truncated_message_of_anthropics_ends_in_its_own_kind_of_error() {
    let message = json!({ "id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m",
        "stop_reason": null, "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let events = [
        anthropic("message_start", json!({ "message": message })),
        anthropic("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } })),
        anthropic("content_block_delta", json!({ "index": 0, "delta": { "type": "text_delta", "text": "Hel" } })),
    ];
    let llm = told(upstream(), events).truncate().start().await;
    let proxy = Proxy::before(&llm, &routed(ERRORS_AT_ONCE)).await;
    let body = json!({ "stream": true, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    let events = post(&proxy, "/v1/messages", &body).events().await.rest().await;
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| !event.name.is_empty() && event.id.is_some()), "{events:?}");
    let last = events.last().unwrap();
    let error = last.json();
    assert_eq!((last.name.as_str(), error["type"].as_str()), ("error", Some("error")));
    assert_eq!(error["error"]["type"], "api_error");
    assert_eq!(
        (&error["code"], &error["error"]["details"]["error_code"]),
        (&json!("upstream_truncated"), &json!("upstream_truncated"))
    );
}

#[tokio::test]
async fn nothing_is_put_into_geminis_streams_and_their_errors_break_off() {
    let part = |text: &str| json!({ "candidates": [{ "content": { "parts": [{ "text": text }], "role": "model" }, "index": 0 }] });
    let llm = upstream().event(part("Hel").to_string()).event(part("lo").to_string()).cut().start().await;
    let proxy = Proxy::before(&llm, &routed(ERRORS_AT_ONCE)).await;
    let body = json!({ "contents": [{ "parts": [{ "text": "hi" }] }] });
    let path = "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse";
    let mut reply = post(&proxy, path, &body).events().await;
    let events = reply.until_end().await;
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.id.is_none() && event.retry.is_none() && event.comments.is_empty()));
    assert!(events[2].data.starts_with(r#"{"error":{"code":502"#), "{}", events[2].data);
    assert_ne!(reply.ended(), Some(BodyEnd::Clean), "its SDKs take a clean end for success");
}

#[tokio::test]
async fn a_broken_background_response_is_resumed_by_openai_itself() {
    let event = |kind: &str, number: u64, rest: Value| {
        let mut event = json!({ "type": kind, "sequence_number": number });
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        (kind.to_owned(), event.to_string())
    };
    let response =
        |status: &str| json!({ "response": { "id": "resp_1", "object": "response", "status": status, "output": [] } });
    let delta = |number, text: &str| {
        event(
            "response.output_text.delta",
            number,
            json!({ "item_id": "i", "output_index": 0, "content_index": 0, "delta": text }),
        )
    };
    let first = [event("response.created", 0, response("in_progress")), delta(1, "Hel")];
    let second = [delta(2, "lo"), event("response.completed", 3, response("completed"))];
    let (first, second) = (told(upstream(), first).cut(), told(upstream(), second).end());
    let llm = Upstream::by(move |seen| if seen.number == 1 { first.clone() } else { second.clone() }).await;
    let proxy = Proxy::before(&llm, &routed("after_partial = ['native_resume']\n")).await;
    let body = json!({ "stream": true, "background": true, "input": "hi" });
    let events = post(&proxy, "/v1/responses", &body).events().await.rest().await;
    let numbers: Vec<_> = events.iter().map(|event| event.json()["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    let again = llm.request(2);
    assert_eq!(
        (again.method.as_str(), again.path.as_str()),
        ("GET", "/v1/responses/resp_1?stream=true&starting_after=1")
    );
    assert!(again.text().is_empty());
}

#[tokio::test]
async fn a_cohere_stream_that_breaks_says_so_in_its_last_message() {
    let start = (
        "message-start",
        json!({ "type": "message-start", "id": "1", "delta": { "message": { "role": "assistant" } } }),
    );
    let text = json!({ "type": "content-delta", "index": 0, "delta": { "message": { "content": { "text": "Hel" } } } });
    let events = [start, ("content-delta", text)].map(|(name, event)| (name.to_owned(), event.to_string()));
    let llm = told(upstream(), events).truncate().start().await;
    let proxy = Proxy::before(&llm, &routed(ERRORS_AT_ONCE)).await;
    let body = json!({ "stream": true, "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    let mut reply = post(&proxy, "/v2/chat", &body).events().await;
    let events = reply.until_end().await;
    let error = events.last().unwrap().json();
    assert_eq!((&error["type"], &error["delta"]["finish_reason"]), (&json!("message-end"), &json!("ERROR")));
    assert_eq!(error["proxy_error"]["code"], "upstream_truncated");
    assert_ne!(reply.ended(), Some(BodyEnd::Clean));
}

#[tokio::test]
async fn an_answer_of_the_ai_sdk_is_known_by_its_header_and_fails_in_its_parts() {
    let head = [("content-type", "text/event-stream"), ("x-vercel-ai-ui-message-stream", "v1")];
    let part = |part: Value| part.to_string();
    let llm = upstream()
        .head(200, &head)
        .event(part(json!({ "type": "start" })))
        .event(part(json!({ "type": "text-delta", "id": "t", "delta": "Hel" })))
        .cut()
        .start()
        .await;
    let proxy = Proxy::before(&llm, "").await;
    let events = post(&proxy, "/api/chat", &json!({ "messages": [] })).send().await.rest().await;
    let kinds: Vec<_> = events
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.data).map(|part| part["type"].clone()))
        .collect();
    assert_eq!(kinds[2].as_ref().ok(), Some(&json!("data-proxy-error")));
    assert_eq!(kinds[3].as_ref().ok(), Some(&json!("error")));
    assert_eq!(data(&events)[4..], ["[DONE]"]);
}

#[tokio::test]
async fn a_tool_call_over_mcp_that_breaks_off_gets_an_error_with_its_own_id() {
    let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progress": 1 } });
    let llm = upstream().event(progress.to_string()).named("message").truncate().start().await;
    let proxy = Proxy::before(&llm, &routed(ERRORS_AT_ONCE)).await;
    let call = json!({ "jsonrpc": "2.0", "id": "call-7", "method": "tools/call", "params": {} });
    let request = post(&proxy, "/mcp", &call).header("accept", "application/json, text/event-stream");
    let events = request.send().await.rest().await;
    let error = events.last().unwrap().json();
    assert_eq!(
        (&error["jsonrpc"], &error["id"], &error["error"]["code"]),
        (&json!("2.0"), &json!("call-7"), &json!(-32001))
    );
    assert_eq!(error["error"]["data"]["code"], "upstream_truncated");
}

#[tokio::test]
async fn a_json_answer_over_mcp_passes_as_it_is() {
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let llm = upstream().json(200, answer).start().await;
    let proxy = Proxy::before(&llm, "").await;
    let request = post(&proxy, "/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }));
    let reply = request.header("accept", "application/json, text/event-stream").send().await;
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(reply.text().await, answer);
}

#[tokio::test]
async fn a_path_that_langserve_shares_with_others_is_generic_unless_the_body_is_langserves() {
    let llm = upstream().event("a").end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let ask = |body: Value| post(&proxy, "/chat/stream", &body).header("accept", "text/event-stream");
    let proxy = &proxy;
    let dialect = |session: String| async move { proxy.state(&session).await["dialect"].clone() };
    let plain = ask(json!({ "message": "hi" })).events().await;
    assert_eq!(dialect(plain.session()).await, "generic");
    let served = ask(json!({ "input": "hi" })).events().await;
    assert_eq!(dialect(served.session()).await, "langserve");
}

#[tokio::test]
async fn each_wire_answers_a_refusal_before_the_head_in_its_own_shape() {
    let llm = Upstream::by(|_| upstream().json(500, "{}")).await;
    let proxy = Proxy::before(&llm, &routed(&format!("{QUICK}fallback = {{ mode = 'off' }}\n"))).await;
    let stream = json!({ "stream": true, "messages": [], "input": "x" });
    for (path, pointer) in [
        ("/v1/chat/completions", "/error/message"),
        ("/v1/responses", "/error/message"),
        ("/v1/messages", "/error/message"),
        ("/v2/chat", "/message"),
        ("/v1beta/models/m:streamGenerateContent?alt=sse", "/error/status"),
    ] {
        let reply = post(&proxy, path, &stream).send().await;
        assert_eq!(reply.status, 502, "{path}");
        let body = reply.json().await;
        assert!(body.pointer(pointer).is_some_and(Value::is_string), "{path}: {body}");
    }
}

/// A wire that cannot be continued: its path, its request, its first events, one piece of its answer.
struct Strict {
    path: &'static str,
    ask: Value,
    start: Vec<(&'static str, Value)>,
    piece: fn(usize) -> (&'static str, Value),
}

fn strict() -> Vec<Strict> {
    let messages = json!([{ "role": "user", "content": "count" }]);
    vec![
        Strict {
            path: "/v1/responses",
            ask: json!({ "stream": true, "input": "count" }),
            start: vec![(
                "response.created",
                json!({ "type": "response.created", "sequence_number": 0,
                "response": { "id": "resp_1", "status": "in_progress", "output": [] } }),
            )],
            piece: |n| {
                (
                    "response.output_text.delta",
                    json!({ "type": "response.output_text.delta", "sequence_number": n,
                "item_id": "i", "output_index": 0, "content_index": 0, "delta": format!("word{n} ") }),
                )
            },
        },
        Strict {
            path: "/v1beta/models/m:streamGenerateContent?alt=sse",
            ask: json!({ "contents": [] }),
            start: vec![],
            piece: |n| {
                (
                    "",
                    json!({ "candidates": [{ "index": 0, "content": { "role": "model", "parts": [{ "text": format!("word{n} ") }] } }] }),
                )
            },
        },
        Strict {
            path: "/v2/chat",
            ask: json!({ "stream": true, "model": "m", "messages": messages }),
            start: vec![(
                "message-start",
                json!({ "type": "message-start", "id": "1", "delta": { "message": { "role": "assistant" } } }),
            )],
            piece: |n| {
                (
                    "content-delta",
                    json!({ "type": "content-delta", "index": 0,
                "delta": { "message": { "content": { "text": format!("word{n} ") } } } }),
                )
            },
        },
        Strict {
            path: "/v1/chat/completions",
            ask: json!({ "stream": true, "messages": messages, "tools": [{ "type": "function", "function": { "name": "f" } }] }),
            start: vec![],
            piece: |n| {
                (
                    "",
                    json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{ "index": 0,
                "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": format!("{n},") } }] }, "finish_reason": null }] }),
                )
            },
        },
        Strict { path: "/events", ask: json!({}), start: vec![], piece: |n| ("", json!({ "word": n })) },
    ]
}

#[tokio::test]
async fn what_cannot_be_continued_ends_in_one_error_wherever_it_is_cut() {
    const PIECES: usize = 50;
    for wire in strict() {
        for cut in 1..=PIECES {
            let said = wire.start.clone().into_iter().chain((1..=cut).map(wire.piece));
            let script = told(upstream(), said.map(|(name, event)| (name.to_owned(), event.to_string())));
            let script = script.half_event().cut();
            let llm =
                Upstream::by(move |seen| if seen.number == 1 { script.clone() } else { upstream().json(500, "{}") })
                    .await;
            let keys =
                "after_partial = ['native_resume', 'continuation']\nprefill = 'trailing'\nretry = { attempts = 1 }\n";
            let proxy = Proxy::before(&llm, &routed(keys)).await;
            let ask = post(&proxy, wire.path, &wire.ask).header("accept", "text/event-stream");
            let mut reply = ask.events().await;
            let events = reply.until_end().await;
            let (error, before) = events.split_last().unwrap();
            let pieces: Vec<Value> = before.iter().skip(wire.start.len()).map(Event::json).collect();
            assert_eq!(pieces, (1..=cut).map(|n| (wire.piece)(n).1).collect::<Vec<_>>(), "{} after {cut}", wire.path);
            assert!(error.data.contains("upstream_reset"), "{} after {cut}: {}", wire.path, error.data);
            assert_eq!(before.iter().filter(|event| event.data.contains("upstream_reset")).count(), 0);
            assert_eq!(llm.requests(), 1, "{}", wire.path);
        }
    }
}

#[tokio::test]
async fn a_message_of_anthropics_cut_after_any_token_is_continued_by_the_model_itself() {
    const WORDS: usize = 50;
    let words: Vec<String> = (1..=WORDS).map(|n| format!("word{n} ")).collect();
    for cut in 1..=WORDS {
        let all = words.clone();
        let llm = Upstream::by(move |seen| {
            let (said, rest) = if seen.number == 1 { (0, cut) } else { (cut, WORDS) };
            let message = json!({ "id": format!("m{}", seen.number), "type": "message", "role": "assistant", "content": [], "model": "m",
                "stop_reason": null, "usage": { "input_tokens": 1, "output_tokens": 1 } });
            let start = [
                anthropic("message_start", json!({ "message": message })),
                anthropic("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } })),
            ];
            let tokens = all[said..rest].iter().map(|word| {
                anthropic("content_block_delta", json!({ "index": 0, "delta": { "type": "text_delta", "text": word } }))
            });
            let script = told(upstream(), start.into_iter().chain(tokens));
            if seen.number == 1 {
                return script.half_event().cut();
            }
            let end = [
                anthropic("content_block_stop", json!({ "index": 0 })),
                anthropic("message_delta", json!({ "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 9 } })),
                anthropic("message_stop", json!({})),
            ];
            told(script, end).end()
        })
        .await;
        let keys = "after_partial = ['continuation']\nprefill = 'trailing'\nfallback = { mode = 'off' }\n";
        let proxy = Proxy::before(&llm, &routed(keys)).await;
        let body = json!({ "stream": true, "max_tokens": 99, "messages": [{ "role": "user", "content": "count" }] });
        let events = post(&proxy, "/v1/messages", &body).events().await.rest().await;
        let text: String =
            events.iter().filter_map(|event| event.json()["delta"]["text"].as_str().map(str::to_owned)).collect();
        assert_eq!(text, words.concat(), "cut after {cut}");
        for once in ["message_start", "content_block_start", "content_block_stop", "message_stop"] {
            assert_eq!(events.iter().filter(|event| event.name == once).count(), 1, "{once}, cut after {cut}");
        }
    }
}
