//! Where connections come in and go out: addresses, endpoints, and the secrets that guard them.

use super::*;

#[test]
fn endpoints_are_base_urls_and_nothing_more() {
    let upstream = |endpoints: &str| {
        format!("[[upstreams]]\nname = \"a\"\nendpoints = [{endpoints}]\n[[routes]]\nupstream = \"a\"")
    };
    let settings = good(&upstream(r#""https://llm.example.com:8443/team-a/", "http://[::1]:80""#));
    let endpoints = &settings.upstreams.last().expect("two upstreams").endpoints;
    let shown: Vec<_> = endpoints.iter().map(|e| format!("{}|{}|{}", e.scheme, e.authority, e.base)).collect();
    assert_eq!(shown, ["https|llm.example.com:8443|/team-a", "http|[::1]:80|"]);

    for (url, reason) in [
        ("127.0.0.1:8000", "has no scheme"),
        ("unix:///run/llm.sock", "not a URL"),
        ("ws://h", "neither http nor https"),
        ("http://u:hunter2@h", "user information"),
        ("http://h/?key=hunter2", "query"),
        ("http://h/#hunter2", "fragment"),
        ("http://h:0", "port is not valid"),
        ("http://h:99999", "valid"),
        ("http://h:", "port is not valid"),
        ("http://", "not a URL"),
        ("http://h/a//b", "segment"),
        ("http://h/../b", "segment"),
        ("http://u:hunter2 @h", "not a URL"),
    ] {
        let problems = bad(&upstream(&format!("\"{url}\"")));
        assert!(problems.starts_with("upstreams[1].endpoints[0]: ") && problems.contains(reason), "{url}: {problems}");
        assert!(!problems.contains("hunter2"), "{url}: {problems}");
    }
    assert!(bad(&upstream("")).starts_with("upstreams[1].endpoints: there is none"));
    assert!(
        bad(&upstream("\"http://h\", \"http://h/\""))
            .starts_with("upstreams[1].endpoints[1]: stands in the list already")
    );
}

#[test]
fn upstreams_have_unique_names_and_there_is_one() {
    assert_eq!(bad(LLM), "upstreams[1].name: \"llm\" is the name of upstreams[0] already; names are unique");
    let none = parse("", &Empty).expect_err("no upstream").to_string();
    assert_eq!(none, "upstreams: there is none; write [[upstreams]] or give --upstream URL");
    let nameless = parse("[[upstreams]]\nendpoints = [\"http://h\"]", &Empty).expect_err("no name").to_string();
    assert_eq!(nameless, "upstreams[0].name: missing; it has no default");
    assert!(bad(&LLM.replace("llm", "a b")).contains("upstreams[1].name: \"a b\" is not a name"));
}

#[test]
fn an_authority_file_is_opened_when_the_file_is_read() {
    let text = LLM.to_owned() + "ca = \"ca.pem\"\n";
    assert!(
        parse(&text, &Empty).expect_err("no file").to_string().starts_with("upstreams[0].ca: the file cannot be read")
    );
    let mut env = Fake::default();
    env.files.insert("ca.pem", "nonsense");
    assert!(parse(&text, &env).expect_err("no PEM").to_string().contains("no PEM certificate"));
    env.files.insert("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let settings = parse(&text, &env).expect("valid");
    let ca = settings.upstreams[0].ca.as_ref().expect("an authority");
    assert_eq!((ca.path.as_path(), &*ca.text), (Path::new("ca.pem"), "-----BEGIN CERTIFICATE-----\n"));
}

#[test]
fn a_certificate_and_its_key_go_together_and_the_key_is_never_shown() {
    let mut env = Fake::default();
    env.files.insert("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    env.files.insert("key.pem", "-----BEGIN EC PRIVATE KEY-----\nhunter2\n");
    let read = |tls: &str| parse(&format!("{LLM}[listen]\ntls = {tls}\n"), &env);
    let settings = read("{ cert = \"cert.pem\", key = \"key.pem\" }").expect("valid");
    let shown = format!("{settings:?}");
    assert!(shown.contains("key.pem") && !shown.contains("hunter2"), "{shown}");
    assert!(settings.listen.tls.is_some_and(|tls| tls.key.text.contains("hunter2")));
    for (tls, reason) in [
        ("{ cert = \"cert.pem\" }", "listen.tls.key: missing; a certificate and its key go together"),
        ("{ key = \"key.pem\" }", "listen.tls.cert: missing"),
        ("{ cert = \"key.pem\", key = \"key.pem\" }", "listen.tls.cert: the file holds no PEM certificate"),
        ("{ cert = \"cert.pem\", key = \"cert.pem\" }", "listen.tls.key: the file holds no PEM private key"),
        ("{ cert = \"cert.pem\", key = \"nowhere.pem\" }", "listen.tls.key: the file cannot be read"),
        ("\"cert.pem\"", "listen.tls: expected a table, found a string"),
    ] {
        let problems = read(tls).expect_err(tls).to_string();
        assert!(problems.starts_with(reason) && problems.lines().count() == 1, "{tls}: {problems}");
    }
}

#[test]
fn proxies_are_trusted_by_address_or_network() {
    assert_eq!(good("").listen.believes([10, 0, 0, 1].into()), None, "nobody was named");
    let listen = good("[listen]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]").listen;
    for (peer, believed) in [("10.9.8.7", true), ("::1", true), ("::2", false), ("127.0.0.1", false)] {
        assert_eq!(listen.believes(peer.parse().expect("an address")), Some(believed), "{peer}");
    }
    assert_eq!(good("[listen]\ntrusted_proxies = []").listen.believes([10, 0, 0, 1].into()), Some(false));
    for wrong in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::1/129", "proxy.example", ""] {
        let problems = bad(&format!("[listen]\ntrusted_proxies = [\"{wrong}\"]"));
        assert!(
            problems.starts_with("listen.trusted_proxies[0]: ") && problems.contains("no IP address"),
            "{problems}"
        );
    }
}

#[test]
fn an_admin_port_off_loopback_needs_a_token() {
    let problems = bad("[admin]\naddress = \"0.0.0.0:9000\"");
    assert!(problems.starts_with("admin.token: missing; 0.0.0.0:9000 is not loopback"), "{problems}");
    good("[admin]\naddress = \"[::1]:9000\"");
    good("[admin]\naddress = \"127.8.8.8:9000\"");
}

#[test]
fn the_two_ports_differ() {
    let problems = bad("[listen]\naddress = \"0.0.0.0:8081\"");
    assert!(problems.starts_with("admin.address: 127.0.0.1:8081 collides"), "{problems}");
    good("[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"");
}

#[test]
fn a_secret_comes_from_outside_and_is_never_shown() {
    let mut env = Fake::default();
    env.vars.insert("TOKEN", "hunter2");
    env.vars.insert("EMPTY", "");
    env.vars.insert("TWO_WORDS", "hunter2 hunter2");
    env.files.insert("token", "hunter2\n");
    let read = |token: &str| parse(&format!("{LLM}[admin]\naddress = \"0.0.0.0:1\"\ntoken = {token}\n"), &env);

    for token in ["{ env = \"TOKEN\" }", "{ file = \"token\" }"] {
        let settings = read(token).expect(token);
        assert_eq!(settings.admin.token.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    for (token, reason) in [
        ("\"hunter2\"", "admin.token: a secret does not belong in this file; write { env = \"NAME\" }"),
        ("{ env = \"hunter2\" }", "admin.token.env: no environment variable has this name"),
        ("{ env = \"EMPTY\" }", "admin.token: the secret is empty"),
        ("{ env = \"TWO_WORDS\" }", "make it one word"),
        ("{ file = \"hunter2\" }", "admin.token.file: the file cannot be read"),
        ("{ env = \"TOKEN\", file = \"token\" }", "admin.token: needs exactly one of `env`, `file`"),
        ("[\"hunter2\"]", "admin.token: expected a table, found an array"),
    ] {
        let problems = read(token).expect_err(token).to_string();
        assert!(problems.contains(reason) && problems.lines().count() == 1, "{token}: {problems}");
        assert!(!problems.contains("hunter2"), "{token}: {problems}");
    }
}
