//! `[[routes]]`: which requests, in which order, and what happens to them.

use http::Method;

use super::*;

#[test]
fn the_most_specific_route_comes_first() {
    let one = |matches: &str| route(&format!("match = {{ {matches} }}"));
    let settings = good(
        &[
            one("path = \"/\""),
            one("path = \"/v1\""),
            one("path = \"/v1/\", methods = [\"post\", \"GET\"]"),
            one("path = \"/v1\", host = \"Chat.Example.com\""),
            one("path = \"/v1/chat\""),
        ]
        .concat(),
    );
    let names: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/v1/chat", "chat.example.com/v1", "POST,GET /v1", "/v1", "/"]);
    assert_eq!(settings.routes[2].methods, [Method::POST, Method::GET]);
}

#[test]
fn routes_that_match_the_same_are_refused() {
    let two = |first: &str, second: &str| {
        route(&format!("match = {{ {first} }}")) + &route(&format!("match = {{ {second} }}"))
    };
    let problems = bad(&two("path = \"/a/\"", "path = \"/a\""));
    assert_eq!(problems, "routes[1].match: some requests match routes[0] just as well; make them differ");
    bad(&two("methods = [\"GET\", \"POST\"]", "methods = [\"GET\"]"));
    bad(&two("host = \"A\"", "host = \"a\""));
    good(&two("methods = [\"GET\"]", "methods = [\"POST\"]"));
    good(&two("methods = [\"GET\"]", ""));
    good(&two("host = \"a\"", "host = \"b\""));
}

#[test]
fn a_match_is_written_as_it_can_be_met() {
    for (text, reason) in [
        ("path = \"v1\"", "match.path: \"v1\" does not start with /"),
        ("path = \"/v1?x=1\"", "match.path: \"/v1?x=1\" is more than a path"),
        ("path = \"/a/../b\"", "segment"),
        ("path = \"//\"", "segment"),
        ("path = \"/_streamkeeper/x\"", "reserved"),
        ("host = \"a:80\"", "match.host: \"a:80\" has a port"),
        ("host = \"a/b\"", "is not a host name"),
        ("host = \"\"", "is not a host name"),
        ("methods = [\"GE T\"]", "match.methods[0]: \"GE T\" is not a method"),
    ] {
        let problems = bad(&route(&format!("match = {{ {text} }}")));
        assert!(problems.starts_with("routes[0].") && problems.contains(reason), "{text}: {problems}");
    }
    assert_eq!(only_route("match = { host = \"[::1]\" }").host.as_deref(), Some("[::1]"));
}

#[test]
fn without_routes_everything_goes_to_the_only_upstream() {
    let settings = good("");
    let names: Vec<_> =
        settings.routes.iter().map(|route| (route.name.as_str(), route.upstream.name.as_str())).collect();
    assert_eq!(names, [("/", "llm")]);
    assert!(bad(&LLM.replace("llm", "other")).starts_with("routes: there is none"));
}

#[test]
fn a_session_key_stands_in_exactly_one_place() {
    let key = |text: &str| only_route(&format!("session_key = {text}")).session_key;
    assert_eq!(key("{ query = \"s\" }"), Some(SessionKey::Query("s".to_owned())));
    assert_eq!(key("{ header = \"X-Session\" }"), Some(SessionKey::Header(http::HeaderName::from_static("x-session"))));
    assert_eq!(key("{ cookie = \"s\" }"), Some(SessionKey::Cookie("s".to_owned())));
    for text in ["{}", "{ query = \"s\", cookie = \"s\" }"] {
        assert_eq!(
            bad(&route(&format!("session_key = {text}"))),
            "routes[0].session_key: needs exactly one of `query`, `header`, `cookie`"
        );
    }
    assert!(
        bad(&route("session_key = { header = \"a b\" }"))
            .contains("session_key.header: \"a b\" is not a header's name")
    );
}

#[test]
fn the_ladder_has_known_rungs_once() {
    assert_eq!(only_route("after_partial = []").after_partial, []);
    assert_eq!(
        bad(&route("after_partial = [\"continuation\"]")),
        "routes[0].after_partial: has \"continuation\", but `prefill` does not say how the upstream is asked to go on"
    );
    let continued = only_route("after_partial = [\"continuation\"]\nprefill = \"trailing\"");
    assert_eq!((continued.after_partial, continued.prefill), (vec![Rung::Continuation], Some(Prefill::Trailing)));
    assert!(bad(&route("after_partial = [\"fallback\", \"fallback\"]")).contains("has a rung twice"));
    assert!(
        bad(&route("after_partial = [\"native\"]"))
            .contains("write one of `native_resume`, `continuation`, `fallback`")
    );
    assert!(
        bad(&route("after_partial = [\"fallback\"]\nfallback = { mode = \"off\" }")).contains("remove one of them")
    );
    let without = only_route("fallback = { mode = \"off\" }");
    assert_eq!((without.fallback, without.after_partial), (None, vec![Rung::NativeResume]));
}

#[test]
fn detaching_has_three_modes() {
    let detach = |text: &str| only_route(&format!("detach = {text}")).detach;
    assert_eq!(detach("{ mode = \"cancel\", grace = \"5s\" }"), Detach::Cancel);
    assert_eq!(detach("{ grace = \"5s\" }"), Detach::Grace(Duration::from_secs(5)));
    assert_eq!(detach("{ mode = \"continue\" }"), Detach::Continue);
}

#[test]
fn an_event_cannot_both_end_a_stream_and_report_an_error() {
    assert!(
        bad(&route("generic = { done_events = [\"error\"] }")).starts_with("routes[0].generic.done_events: \"error\"")
    );
    assert!(bad(&route("generic = { done_events = [\"a\\nb\"] }")).contains("one line"));
    assert!(bad(&route("generic = { done_data = [\"\"] }")).contains("is empty"));
}
