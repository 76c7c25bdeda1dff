//! Coming back: where a client stood, what it gets then, and what it never gets twice.

mod support;

use support::{Proxy, upstream};

#[tokio::test]
async fn a_client_that_was_cut_gets_the_rest_on_the_apps_own_path() {
    let llm = upstream().events(["a", "b", "c"]).end().start().await;
    let proxy = Proxy::before(&llm, "").await;
    let mut first = proxy.get("/chat").events().await;
    let seen = first.take(2).await;
    drop(first);
    let rest = proxy.get("/chat").after(seen[1].id()).events().await.rest().await;
    assert_eq!(support::events::data(&rest), ["c"]);
    assert_eq!(llm.requests(), 1);
}
