//! Calls that ask for no stream, on routes that know streams: tried again where a second try only costs money, turned to
//! another upstream, ended when their caller leaves.

mod support;

use support::{Proxy, Script, Upstream, upstream};

const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"object":"chat.completion","choices":[{"message":{"content":"hello"}}]}"#;

fn well() -> Script {
    upstream().json(200, ANSWER)
}

#[tokio::test]
async fn a_call_that_fails_at_first_is_tried_again_and_its_answer_passes_as_it_is() {
    for trouble in [
        upstream().json(500, "{}"),
        upstream().reset(),
        upstream().answer_with(429, &[("retry-after", "0")], "slow down"),
    ] {
        let llm = trouble.then(well()).start().await;
        let proxy = Proxy::before(&llm, "").await;
        let reply = proxy.post("/v1/chat/completions").json(ASK).send().await;
        assert_eq!((reply.status, reply.header("streamkeeper-session")), (200, None));
        assert_eq!(reply.text().await, ANSWER);
        assert_eq!((llm.requests(), llm.request(2).text()), (2, ASK.to_owned()));
    }
}

#[tokio::test]
async fn a_refusal_is_asked_for_once() {
    let llm = upstream().json(400, r#"{"error":{"message":"no"}}"#).start().await;
    let proxy = Proxy::before(&llm, "").await;
    let reply = proxy.post("/v1/chat/completions").json(ASK).send().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (400, r#"{"error":{"message":"no"}}"#));
    assert_eq!(llm.requests(), 1);
}

#[tokio::test]
async fn when_all_tries_fail_the_last_answer_of_the_upstream_passes() {
    let llm = Upstream::by(|seen| upstream().json(503, &format!("{{\"try\":{}}}", seen.number))).await;
    let proxy = Proxy::before(&llm, "[[routes]]\nretry = { attempts = 3, base = '1ms', max = '1ms' }").await;
    let reply = proxy.post("/v1/messages").json(ASK).send().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (503, "{\"try\":3}"));
}

#[tokio::test]
async fn another_upstream_answers_where_the_first_cannot() {
    let spare = well().start().await;
    let nobody = Upstream::nobody().await;
    let toml = format!(
        "[[upstreams]]\nname = 'llm'\nendpoints = ['http://{nobody}']\nfailover = ['spare']\n\
         [[upstreams]]\nname = 'spare'\nendpoints = ['http://{}']\n\
         [[routes]]\nupstream = 'llm'\nretry = {{ attempts = 1 }}",
        spare.address
    );
    let proxy = Proxy::at(&[nobody], &toml).await;
    let reply = proxy.post("/v1/chat/completions").json(ASK).send().await;
    assert_eq!((reply.status, reply.text().await.as_str()), (200, ANSWER));
}

#[tokio::test]
async fn what_may_do_more_than_generate_is_never_sent_twice() {
    let llm = upstream().json(500, "{}").start().await;
    let proxy = Proxy::before(&llm, "").await;
    let orders = proxy.post("/orders").json("{}").send().await;
    let tool = proxy.post("/mcp").json(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
    let tool = tool.header("accept", "application/json, text/event-stream").send().await;
    assert_eq!((orders.status, tool.status, llm.requests()), (500, 500, 2));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_call_along() {
    let llm = upstream().read_request().hang().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let asked = proxy.post("/v1/chat/completions").json(ASK).begin().await;
    llm.requested(1).await;
    drop(asked);
    llm.closed().await;
}
