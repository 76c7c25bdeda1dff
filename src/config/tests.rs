//! What the configuration accepts, what it fills in and what it says about mistakes.

mod follow;
mod overrides;
mod ports;
mod routes;
mod sample;
mod store;
mod total;
mod upstreams;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::env::{Empty, Env};
use super::settings::*;
use super::*;

/// A world with a few variables and files.
#[derive(Default)]
struct Fake {
    vars: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Env for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| (*value).to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// One good upstream `llm`, to which the text under test is added.
const LLM: &str = "[[upstreams]]\nname = \"llm\"\nendpoints = [\"http://127.0.0.1:8000\"]\n";

/// Reads what must be valid.
fn good(text: &str) -> Settings {
    parse(&format!("{LLM}{text}"), &Empty).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// Reads what must not be valid: all problems, one a line.
fn bad(text: &str) -> String {
    match parse(&format!("{LLM}{text}"), &Empty) {
        Ok(settings) => panic!("accepted {text}\n{settings:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// One route with this text in it.
fn route(text: &str) -> String {
    format!("[[routes]]\nupstream = \"llm\"\n{text}\n")
}

fn only_route(text: &str) -> Route {
    let settings = good(&route(text));
    settings.routes.first().expect("a route").as_ref().clone()
}

#[test]
fn a_misspelt_key_is_named_with_the_likely_one() {
    assert_eq!(
        bad(&route("timeouts = { frist_event = \"1s\" }")),
        "routes[0].timeouts.frist_event: unknown key; did you mean `first_event`?"
    );
    assert_eq!(bad("[limit]\nevent = 1"), "limit: unknown key; did you mean `limits`?");
    assert_eq!(
        bad("[drain]\n\"what is this\" = 1"),
        "drain.\"what is this\": unknown key; known here: `timeout`, `spread`"
    );
}

#[test]
fn an_unknown_upstream_is_named_with_the_known_ones() {
    assert_eq!(bad("[[routes]]\nupstream = \"lm\"\n"), "routes[0].upstream: no upstream is named \"lm\"; known: llm");
}

#[test]
fn all_problems_are_found_in_one_run() {
    let text = r#"
        [listen]
        address = "localhost"
        [[upstreams]]
        name = "second"
        endpoints = ["ftp://x", "http://127.0.0.1:1"]
        [[routes]]
        upstream = "nobody"
        idz = "auto"
        timeouts = { idle = 30, total = "1 h" }
        retry = { attempts = 0 }
        [store]
        kind = "redis"
        url = "http://127.0.0.1"
        prefix = ""
        [drain]
        spread = "31s"
        [retry_hint]
        jitter = 1.5
    "#;
    let problems = bad(text);
    let paths: Vec<_> = problems.lines().map(|line| line.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        paths,
        [
            "listen.address",
            "upstreams[1].endpoints[0]",
            "routes[0].upstream",
            "routes[0].timeouts.total",
            "routes[0].timeouts.idle",
            "routes[0].retry.attempts",
            "routes[0].idz",
            "store.url",
            "store.prefix",
            "retry_hint.jitter",
            "drain.spread",
        ],
        "{problems}"
    );
}

#[test]
fn text_that_is_not_toml_is_shown_by_line_and_column() {
    let problems = parse("[listen]\nhosts = [é\n", &Empty).expect_err("no TOML");
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["line 2, column 11"], "{problems}");
    assert!(problems.to_string().contains("not valid TOML"), "{problems}");
}

#[test]
fn a_value_of_the_wrong_kind_is_answered_with_the_right_one() {
    for (text, message) in [
        ("listen = 1", "listen: expected a table, found an integer"),
        ("[session]\nmax_events = \"many\"", "session.max_events: expected a whole number, found a string"),
        ("[retry_hint]\nenabled = 1", "retry_hint.enabled: expected true or false, found an integer"),
        ("[listen]\nhosts = \"a\"", "listen.hosts: expected a list of strings, found a string"),
        ("[listen]\nhosts = [1]", "listen.hosts[0]: expected a string, found an integer"),
        ("[drain]\ntimeout = 30", "drain.timeout: a duration needs a unit and quotes, such as \"30s\""),
        ("[routes]\nupstream = \"llm\"", "routes: expected a list of tables; head each with [[routes]], found a table"),
    ] {
        // At the front, so that a bare key is not taken into the upstream's table.
        let problems = parse(&format!("{text}\n{LLM}"), &Empty).expect_err(text);
        assert_eq!(problems.to_string(), message, "{text}");
    }
}

#[test]
fn numbers_are_held_to_what_can_work() {
    for (text, message) in [
        ("[limits]\nevent = 1023", "limits.event: 1023B is out of range; it must be from 1KiB to 16MiB"),
        ("[limits]\nevent = \"17MiB\"", "limits.event: 17MiB is out of range; it must be from 1KiB to 16MiB"),
        ("[limits]\nring_bytes = -1", "limits.ring_bytes: -1 is out of range; it must be 1KiB or more"),
        (
            "[limits]\nheader_bytes = \"4KiB\"",
            "limits.header_bytes: 4KiB is out of range; it must be from 8KiB to 1MiB",
        ),
        (
            "[limits]\nh2_streams = 5000000000",
            "limits.h2_streams: 5000000000 is out of range; it must be from 1 to 100000",
        ),
        ("[retry_hint]\njitter = nan", "retry_hint.jitter: NaN is out of range; it must be from 0 to 1"),
        ("[retry_hint]\njitter = 2", "retry_hint.jitter: 2 is out of range; it must be from 0 to 1"),
        ("[retry_hint]\nbase = \"0s\"", "retry_hint.base: must be longer than zero"),
    ] {
        assert_eq!(bad(text), message, "{text}");
    }
    assert_eq!(good("[retry_hint]\njitter = 1").retry_hint.jitter, 1.0);
    assert_eq!(good("[heartbeat]\ninterval = \"0s\"").heartbeat.interval, Duration::ZERO);
    assert_eq!(good("[drain]\nspread = \"0s\"").drain.spread, Duration::ZERO);
}

#[test]
fn bounds_that_contradict_each_other_are_shown_with_both_values() {
    for (text, message) in [
        (
            "timeouts = { idle = \"20m\" }",
            "routes[0].timeouts.idle: 20m is more than `total` (15m); lower it or raise `total`",
        ),
        (
            "timeouts = { connect = \"31s\" }",
            "routes[0].timeouts.connect: 31s is more than `head` (30s); lower it or raise `head`",
        ),
        ("retry = { base = \"11s\" }", "routes[0].retry.base: 11s is more than `max` (10s); lower it or raise `max`"),
    ] {
        assert_eq!(bad(&route(text)), message, "{text}");
    }
    for (text, message) in [
        ("[limits]\nline = \"2MiB\"", "limits.line: 2MiB is more than `event` (1MiB); lower it or raise `event`"),
        (
            "[limits]\nevent = \"8MiB\"",
            "limits.event: 8MiB is more than `session.max_bytes` (4MiB); lower it or raise `session.max_bytes`",
        ),
        (
            "[session]\nmax_bytes = \"1GiB\"",
            "session.max_bytes: 1GiB is more than `limits.ring_bytes` (512MiB); lower it or raise `limits.ring_bytes`",
        ),
        (
            "[retry_hint]\nill = \"1s\"\nbase = \"2s\"",
            "retry_hint.base: 2s is more than `ill` (1s); lower it or raise `ill`",
        ),
        ("[drain]\nspread = \"31s\"", "drain.spread: 31s is more than `timeout` (30s); lower it or raise `timeout`"),
    ] {
        assert_eq!(bad(text), message, "{text}");
    }
}

#[test]
fn a_small_bound_brings_the_defaults_under_it_down() {
    let second = Duration::from_secs(1);
    let timeouts = only_route("timeouts = { total = \"1s\" }").timeouts;
    assert_eq!(timeouts, Timeouts { connect: second, head: second, first_event: second, idle: second, total: second });
    assert_eq!(only_route("retry = { max = \"100ms\" }").retry.base, Duration::from_millis(100));
    let limits = good("[session]\nmax_bytes = \"64KiB\"").limits;
    assert_eq!((limits.event, limits.line), (65_536, 65_536));
    assert_eq!(good("[drain]\ntimeout = \"1s\"").drain, Drain { timeout: second, spread: second });
}

#[test]
fn a_value_that_cannot_be_read_is_not_compared() {
    assert_eq!(bad(&route("timeouts = { total = \"?\", idle = \"1h\" }")).lines().count(), 1);
}
