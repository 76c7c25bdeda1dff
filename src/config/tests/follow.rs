//! Which values are in use, what differs between two configurations, and what a running process can follow.

use super::*;

fn shown(settings: &Settings, path: &str) -> Option<String> {
    settings.effective.iter().find(|(known, _)| *known == path).map(|(_, value)| value.to_owned())
}

/// What a process with `from` says about `to`: what changed, then what waits.
fn told(from: &str, to: &str) -> (Vec<String>, Vec<String>) {
    let Followed { changed, waiting, .. } = follow(&good(from), good(to));
    let lines = |changes: Vec<Change>| changes.iter().map(Change::to_string).collect();
    (lines(changed), lines(waiting))
}

#[test]
fn every_key_is_shown_with_the_value_in_use_written_or_not() {
    let settings = good(&route("timeouts = { total = \"20s\" }\nmatch = { path = \"/v1\" }"));
    for (path, value) in [
        ("listen.address", "\"127.0.0.1:8080\""),
        ("listen.proxy_protocol", "false"),
        ("upstreams[0].endpoints[0]", "\"http://127.0.0.1:8000\""),
        ("routes[0].match.path", "\"/v1\""),
        ("routes[0].timeouts.total", "\"20s\""),
        // Brought down by what is written above.
        ("routes[0].timeouts.idle", "\"20s\""),
        ("routes[0].after_partial", "[\"native_resume\", \"fallback\"]"),
        ("session.max_bytes", "\"4MiB\""),
        ("retry_hint.jitter", "0.5"),
        ("limits.sessions", "10000"),
    ] {
        assert_eq!(shown(&settings, path).as_deref(), Some(value), "{path}");
    }
    assert_eq!(shown(&settings, "listen.trusted_proxies"), None);
}

#[test]
fn no_path_is_shown_twice() {
    let settings = good(&route("session_key = { header = \"x-s\" }"));
    let mut paths: Vec<_> = settings.effective.iter().map(|(path, _)| path).collect();
    let count = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), count);
}

#[test]
fn what_changed_is_named_by_its_path_with_both_values() {
    let (changed, waiting) = told(
        "[limits]\nsessions = 10\n[heartbeat]\ninterval = \"15s\"",
        "[limits]\nsessions = 20\n[listen]\nhosts = [\"a.example\"]\ntrusted_proxies = []",
    );
    assert_eq!(
        changed,
        ["listen.hosts: [] → [\"a.example\"]", "listen.trusted_proxies: (none) → []", "limits.sessions: 10 → 20",]
    );
    assert!(waiting.is_empty());
    assert_eq!(told("", ""), Default::default());
}

#[test]
fn secrets_are_stars_and_still_show_that_they_changed() {
    let (mut before, mut after) = (Fake::default(), Fake::default());
    before.files.extend([("token", "hunter1"), ("ca.pem", "-----BEGIN CERTIFICATE-----\n1")]);
    after.files.extend([("token", "hunter2"), ("ca.pem", "-----BEGIN CERTIFICATE-----\n2")]);
    let text = format!(
        "{LLM}ca = \"ca.pem\"\ncredential = {{ file = \"token\" }}\n\
         headers = {{ x-api-key = {{ file = \"token\" }}, authorization = \"hunter3\", x-team = \"a\" }}\n"
    );
    let read = |text: &str, env: &Fake| parse(text, env).unwrap_or_else(|problems| panic!("{problems}"));
    let old = read(&text, &before);
    let new = read(&text.replace("hunter3", "hunter4").replace("\"a\"", "\"b\""), &after);
    let changes: Vec<_> = follow(&old, new).changed.iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "upstreams[0].ca: \"ca.pem\" → \"ca.pem\" (new content)",
            "upstreams[0].credential: *** → *** (new content)",
            "upstreams[0].headers.authorization: *** → *** (new content)",
            "upstreams[0].headers.x-api-key: *** → *** (new content)",
            "upstreams[0].headers.x-team: \"a\" → \"b\"",
        ]
    );
    assert!(follow(&old, read(&text, &before)).changed.is_empty());
}

#[test]
fn what_needs_a_restart_keeps_its_value_and_says_so() {
    let from = "[limits]\nsessions = 10";
    let to = "[limits]\nsessions = 20\n[listen]\naddress = \"127.0.0.1:9000\"\n[telemetry]\nlog = \"debug\"\ndevelopment = true\n\
              [store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1\"\n[http1]\ndirect = false";
    let followed = follow(&good(from), good(to));
    assert_eq!(followed.settings.listen.address.port(), 8080);
    assert_eq!(followed.settings.store, Store::Memory);
    assert!(followed.settings.http1.direct);
    assert_eq!((followed.settings.telemetry.log.as_str(), followed.settings.telemetry.development), ("info", true));
    let (changed, waiting) = told(from, to);
    assert_eq!(changed, ["limits.sessions: 10 → 20", "telemetry.development: false → true"]);
    assert!(waiting.contains(&"listen.address: \"127.0.0.1:8080\" → \"127.0.0.1:9000\"".to_owned()), "{waiting:?}");
    assert!(waiting.contains(&"http1.direct: true → false".to_owned()), "{waiting:?}");
    assert!(waiting.contains(&"store.kind: \"memory\" → \"redis\"".to_owned()), "{waiting:?}");
    assert!(waiting.contains(&"telemetry.log: \"info\" → \"debug\"".to_owned()), "{waiting:?}");
    // Asked again for the same, it still waits.
    let again = follow(&followed.settings, good(to));
    assert_eq!((again.changed.len(), again.waiting.len()), (0, waiting.len()));
}

#[test]
fn an_admin_port_that_stays_open_keeps_its_token() {
    let mut env = Fake::default();
    env.vars.insert("TOKEN", "hunter2");
    let guarded = format!("{LLM}[admin]\naddress = \"0.0.0.0:9000\"\ntoken = {{ env = \"TOKEN\" }}\n");
    let followed = follow(&parse(&guarded, &env).expect("valid"), good(""));
    assert_eq!(followed.settings.admin.token.as_ref().map(Secret::expose), Some("hunter2"));
    let waiting: Vec<_> = followed.waiting.iter().map(Change::to_string).collect();
    assert_eq!(waiting, ["admin.address: \"0.0.0.0:9000\" → \"127.0.0.1:8081\"", "admin.token: *** → (none)"]);
    // At the same address the token follows.
    let rotated = guarded.replace("TOKEN", "NEXT");
    env.vars.insert("NEXT", "hunter3");
    let followed = follow(&parse(&guarded, &env).expect("valid"), parse(&rotated, &env).expect("valid"));
    assert_eq!(followed.settings.admin.token.as_ref().map(Secret::expose), Some("hunter3"));
}
