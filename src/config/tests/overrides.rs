//! What flags do to a file, and what they give without one.

use super::*;

fn with_upstream(url: &str) -> Flags {
    Flags { upstream: Some(url.to_owned()), ..Flags::default() }
}

fn endpoints(settings: &Settings) -> Vec<String> {
    settings.upstreams.iter().flat_map(|u| &u.endpoints).map(|e| e.authority.to_string()).collect()
}

#[test]
fn an_upstream_alone_needs_no_file() {
    let settings = for_upstream("http://127.0.0.1:9").expect("valid");
    assert_eq!(endpoints(&settings), ["127.0.0.1:9"]);
    assert_eq!(settings.upstreams[0].name, "upstream");
    assert_eq!(settings.routes[0].name, "/");
    let by_flag = without_file(&with_upstream("http://127.0.0.1:9")).expect("valid");
    assert_eq!(format!("{by_flag:?}"), format!("{settings:?}"));

    let problem = for_upstream("127.0.0.1:9").expect_err("no scheme").to_string();
    assert!(problem.starts_with("upstreams[0].endpoints[0]: has no scheme"), "{problem}");
    let nothing = without_file(&Flags::default()).expect_err("no upstream");
    assert!(matches!(nothing, LoadError::Invalid(_)), "{nothing}");
}

#[test]
fn any_url_text_is_a_value_and_never_syntax() {
    for url in ["\"", "'''", "http://h\"]\n[admin]", "\u{0}"] {
        let problems = for_upstream(url).expect_err(url);
        assert!(problems.iter().all(|problem| problem.path == "upstreams[0].endpoints[0]"), "{problems}");
    }
}

#[test]
fn addresses_are_replaced_before_they_are_judged() {
    let text = format!("{LLM}[admin]\naddress = \"0.0.0.0:9000\"\n");
    let mut flags = Flags { admin: Some(([127, 0, 0, 1], 9001).into()), ..Flags::default() };
    flags.listen = Some(([127, 0, 0, 1], 9002).into());
    let settings = with_flags(&text, &flags, &Empty).expect("the flag is on loopback");
    assert_eq!(settings.admin.address.to_string(), "127.0.0.1:9001");
    assert_eq!(settings.listen.address.to_string(), "127.0.0.1:9002");

    flags.admin = Some(([0, 0, 0, 0], 9001).into());
    let error = with_flags(LLM, &flags, &Empty).expect_err("off loopback").to_string();
    assert!(error.starts_with("admin.token: missing"), "{error}");
}

#[test]
fn the_only_upstream_gets_new_endpoints_and_keeps_the_rest() {
    let text = format!("{LLM}protocol = \"http1\"\n[[routes]]\nupstream = \"llm\"\n");
    let settings = with_flags(&text, &with_upstream("http://127.0.0.1:9"), &Empty).expect("valid");
    assert_eq!(endpoints(&settings), ["127.0.0.1:9"]);
    assert_eq!(settings.upstreams[0].name, "llm");
    assert_eq!(settings.upstreams[0].protocol, Protocol::Http1);
}

#[test]
fn one_upstream_cannot_replace_several() {
    let text = LLM.to_owned() + &LLM.replace("llm", "other");
    let error = with_flags(&text, &with_upstream("http://127.0.0.1:9"), &Empty).expect_err("two");
    assert!(matches!(error, LoadError::SeveralUpstreams { .. }));
    assert_eq!(error.to_string(), "--upstream replaces one upstream, but the file has llm, other; edit it");
}

#[test]
fn flags_leave_a_wrong_shape_to_be_reported() {
    let flags = Flags { listen: Some(([127, 0, 0, 1], 1).into()), ..with_upstream("http://h") };
    let error = with_flags("listen = 1\nupstreams = 2\n", &flags, &Empty).expect_err("no tables").to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        error.contains("listen: expected a table") && error.contains("upstreams: expected a list of tables"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("no/such/file.toml"), &Flags::default()).expect_err("no file");
    assert_eq!(error.to_string(), "cannot read the configuration no/such/file.toml");
    assert!(std::error::Error::source(&error).is_some());
}
