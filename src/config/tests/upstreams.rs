//! `[[upstreams]]`: endpoints, breakers, retries, failover, and what requests carry.

use super::*;

/// Reads what must be valid, as it stands.
fn whole(text: &str, env: &Fake) -> Settings {
    parse(text, env).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The only upstream, with this text in it.
fn upstream(text: &str) -> Upstream {
    good(text).upstreams[0].as_ref().clone()
}

fn world() -> Fake {
    let mut env = Fake::default();
    env.vars.extend([("KEY", "hunter2"), ("BROKEN", "hunter2\nx: y")]);
    env
}

#[test]
fn an_endpoint_is_a_url_or_a_table_that_says_more() {
    let text = "[[upstreams]]\nname = \"llm\"\n\
        endpoints = [\"http://a\", { url = \"http://b/x/\", weight = 3, priority = 2 }, { url = \"https://c\" }]";
    let settings = whole(text, &world());
    let read = settings.upstreams[0].endpoints.iter();
    let read: Vec<_> = read.map(|one| (one.authority.as_str(), one.base.as_str(), one.weight, one.priority)).collect();
    assert_eq!(read, [("a", "", 1, 0), ("b", "/x", 3, 2), ("c", "", 1, 0)]);
}

#[test]
fn what_is_wrong_with_an_endpoint_is_said_where_it_stands() {
    for (endpoints, problem) in [
        ("[\"x\"]", "upstreams[0].endpoints[0]: has no scheme; write one such as \"http://127.0.0.1:8000\""),
        (
            "[{ url = \"x\" }]",
            "upstreams[0].endpoints[0].url: has no scheme; write one such as \"http://127.0.0.1:8000\"",
        ),
        ("[{}]", "upstreams[0].endpoints[0].url: missing; it has no default"),
        ("[7]", "upstreams[0].endpoints[0]: expected a string or a table, found an integer"),
        (
            "[{ url = \"http://a\", weight = 0 }]",
            "upstreams[0].endpoints[0].weight: 0 is out of range; it must be from 1 to 1000",
        ),
        (
            "[{ url = \"http://a\", wieght = 1 }]",
            "upstreams[0].endpoints[0].wieght: unknown key; did you mean `weight`?",
        ),
        (
            "[\"http://a\", { url = \"http://a/\", weight = 2 }]",
            "upstreams[0].endpoints[1]: stands in the list already; remove it",
        ),
    ] {
        let text = format!("[[upstreams]]\nname = \"llm\"\nendpoints = {endpoints}");
        assert_eq!(parse(&text, &Empty).expect_err(endpoints).to_string(), problem);
    }
}

#[test]
fn breaker_budget_and_health_have_defaults_part_by_part() {
    let plain = upstream("");
    let second = Duration::from_secs(1);
    assert_eq!(plain.breaker, BreakerPlan { failures: 5, window: 30 * second, cool_down: 10 * second });
    assert_eq!((plain.retry_budget, plain.health), (Budget { ratio: 0.2, floor: 10 }, None));
    let some = upstream("breaker = { cool_down = \"3s\" }\nretry_budget = { ratio = 0 }\nhealth = {}");
    assert_eq!(some.breaker, BreakerPlan { cool_down: 3 * second, ..plain.breaker });
    assert_eq!(some.retry_budget, Budget { ratio: 0.0, floor: 10 });
    assert_eq!(some.health, Some(Health { path: "/health".to_owned(), interval: 10 * second }));
    assert!(bad("breaker = { failures = 0 }").starts_with("upstreams[0].breaker.failures: 0 is out of range"));
    assert!(bad("health = { path = \"alive\" }").starts_with("upstreams[0].health.path: \"alive\" does not start"));
}

#[test]
fn a_route_fails_over_as_its_upstream_says_unless_it_says_otherwise() {
    let spare = LLM.replace("llm", "spare").replace("8000", "8001");
    let other = LLM.replace("llm", "other").replace("8000", "8002");
    let failover = |route: &str| {
        let text =
            format!("{LLM}failover = [\"spare\", \"other\"]\n{spare}{other}[[routes]]\nupstream = \"llm\"\n{route}");
        let settings = whole(&text, &world());
        settings.routes[0].failover.iter().map(|upstream| upstream.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(failover(""), ["spare", "other"]);
    assert_eq!(failover("failover = [\"other\"]"), ["other"]);
    assert!(failover("failover = []").is_empty());
}

#[test]
fn a_failover_that_leads_nowhere_is_refused() {
    for (names, problem) in [
        ("[\"lm\"]", "failover[0]: no upstream is named \"lm\"; known: llm"),
        ("[\"llm\"]", "failover[0]: \"llm\" is where the requests go first; name another"),
    ] {
        assert_eq!(bad(&format!("failover = {names}")), format!("upstreams[0].{problem}"));
        assert_eq!(bad(&route(&format!("failover = {names}"))), format!("routes[0].{problem}"));
    }
    let spare = LLM.replace("llm", "spare").replace("8000", "8001");
    let twice = format!("failover = [\"spare\", \"spare\"]\n{spare}[[routes]]\nupstream = \"llm\"\n");
    assert_eq!(bad(&twice), "upstreams[0].failover[1]: \"spare\" stands in the list already; remove it");
}

#[test]
fn a_credential_is_a_bearer_token_unless_it_goes_elsewhere_and_never_prints() {
    let credential = |more: &str| {
        let settings = whole(&format!("{LLM}credential = {{ env = \"KEY\" }}\n{more}"), &world());
        assert!(!format!("{settings:?}").contains("hunter2"));
        let credential = settings.upstreams[0].credential.clone().expect("there is one");
        (credential.header.to_string(), credential.value.to_str().expect("ASCII").to_owned())
    };
    assert_eq!(credential(""), ("authorization".to_owned(), "Bearer hunter2".to_owned()));
    let elsewhere = credential("credential_header = \"X-Api-Key\"");
    assert_eq!(elsewhere, ("x-api-key".to_owned(), "hunter2".to_owned()));
}

#[test]
fn headers_are_text_or_secrets_and_secrets_never_print() {
    let text = format!("{LLM}headers = {{ x-team = \"search\", X-Key = {{ env = \"KEY\" }} }}");
    let settings = whole(&text, &world());
    let headers = settings.upstreams[0].headers.iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII"))).collect();
    assert_eq!(headers, [("x-key", "hunter2"), ("x-team", "search")]);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_value_that_cannot_be_sent_is_refused_without_being_shown() {
    for (text, problem) in [
        ("credential = { env = \"BROKEN\" }", "credential: the secret is not a header's value"),
        ("headers = { x-key = { env = \"BROKEN\" } }", "headers.x-key: is not a header's value"),
        ("headers = { x-key = { env = \"NOBODY\" } }", "headers.x-key.env: no environment variable has this name"),
        ("headers = { x-key = 7 }", "headers.x-key: expected a string, or a table that names a secret"),
        ("headers = { \"a b\" = \"c\" }", "headers.\"a b\": \"a b\" is not a header's name"),
        ("headers = { Host = \"c\" }", "headers.Host: \"Host\" belongs to the connection"),
        ("headers = { x = \"1\", X = \"2\" }", "headers.x: stands in the table already"),
        ("credential = \"hunter2\"", "credential: a secret does not belong in this file"),
        ("credential_header = \"content-length\"", "credential_header: \"content-length\" belongs to the connection"),
    ] {
        let problems = parse(&format!("{LLM}{text}"), &world()).expect_err(text).to_string();
        assert!(problems.starts_with(&format!("upstreams[0].{problem}")), "{text}: {problems}");
        assert!(!problems.contains("hunter2") && problems.lines().count() == 1, "{problems}");
    }
}

#[test]
fn models_have_the_upstreams_names() {
    let models = upstream("model = \"small\"\nmodels = { \"gpt-4o\" = \"large\" }").models;
    assert_eq!((models.any.as_deref(), models.named), (Some("small"), vec![("gpt-4o".to_owned(), "large".to_owned())]));
    assert_eq!(
        bad("models = { \"gpt 4\" = 7 }"),
        "upstreams[0].models.\"gpt 4\": expected a model's name, found an integer"
    );
}
