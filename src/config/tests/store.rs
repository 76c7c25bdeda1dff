//! `[store]`: where Redis is, who logs in how, and what it is trusted with.

use super::*;

const URL: &str = "url = \"redis://127.0.0.1:6379/0\"";

/// Variables and files whose secrets are all called hunter-something.
fn world() -> Fake {
    let mut env = Fake::default();
    env.vars.extend([
        ("URL", "rediss://app:hunter2@redis.example.com:6380/3"),
        ("URLS", "redis://:hunter2@a:1, redis://:hunter2@b:2\nredis://:hunter2@c"),
        ("TORN", "redis://app:hunter2,hunter3@h"),
        ("MIXED", "redis://:hunter2@a redis://:hunter3@b"),
        ("BLANK", " , "),
        ("PASSWORD", "hunter4"),
    ]);
    env.files.extend([
        ("ca.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("key.pem", "-----BEGIN EC PRIVATE KEY-----\n"),
        ("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
    ]);
    env
}

fn read(store: &str) -> Result<Settings, Problems> {
    parse(&format!("{LLM}[store]\nkind = \"redis\"\n{store}\n"), &world())
}

fn redis(store: &str) -> Redis {
    match read(store) {
        Ok(Settings { store: Store::Redis(redis), .. }) => *redis,
        other => panic!("{store}\n{other:?}"),
    }
}

/// All problems, one a line; none may show a secret.
fn problems(store: &str) -> String {
    let problems = read(store).expect_err(store).to_string();
    assert!(!problems.contains("hunter"), "{store}: {problems}");
    problems
}

fn urls(redis: &Redis) -> Vec<&str> {
    redis.urls.iter().map(Secret::expose).collect()
}

#[test]
fn one_url_is_enough() {
    let expected = Redis {
        urls: vec![Secret::new("redis://127.0.0.1:6379/0".to_owned())],
        topology: Topology::Single,
        username: None,
        password: None,
        ca: None,
        client: None,
        prefix: "sk".to_owned(),
        secret: None,
        lease: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        acknowledged: false,
        on_failure: OnFailure::Memory,
    };
    assert_eq!(redis(URL), expected);
    assert_eq!(good("").store, Store::Memory);
}

#[test]
fn every_key_arrives_where_it_is_used() {
    let all = redis(
        "url = [\"rediss://app@a/1\", \"rediss://app@b:1/1\"]\nmode = \"sentinel\"\nmaster = \"mymaster\"\n\
         username = \"app\"\npassword = { env = \"PASSWORD\" }\nca = \"ca.pem\"\ncert = \"ca.pem\"\nkey = \"key.pem\"\n\
         prefix = \"team:chat_1-\"\nsecret = { env = \"PASSWORD\" }\nlease = \"3s\"\ntimeout = \"2s\"\n\
         acknowledged = true\non_failure = \"refuse\"",
    );
    assert_eq!(urls(&all), ["rediss://app@a/1", "rediss://app@b:1/1"]);
    assert_eq!(all.topology, Topology::Sentinel { master: "mymaster".to_owned() });
    assert_eq!(all.username.as_deref(), Some("app"));
    assert_eq!([&all.password, &all.secret].map(|one| one.as_ref().map(Secret::expose)), [Some("hunter4"); 2]);
    assert_eq!(all.ca.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(all.client, Some(("ca.pem".into(), "key.pem".into())));
    assert_eq!(all.prefix, "team:chat_1-");
    assert_eq!((all.lease, all.timeout), (Duration::from_secs(3), Duration::from_secs(2)));
    assert!(all.acknowledged);
    assert_eq!(all.on_failure, OnFailure::Refuse);
}

#[test]
fn with_the_memory_store_each_key_of_redis_says_so() {
    let keys = "url mode master username password ca cert key prefix secret lease timeout acknowledged on_failure";
    for kind in ["", "kind = \"memory\"\n"] {
        let table: String = keys.split(' ').map(|key| format!("{key} = 1\n")).collect();
        let problems = bad(&format!("[store]\n{kind}{table}"));
        let expected = keys
            .split(' ')
            .map(|key| format!("store.{key}: belongs to the redis store; write kind = \"redis\", or remove it"));
        assert_eq!(problems.lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
    assert_eq!(bad("[store]\nurll = 1"), "store.urll: unknown key; did you mean `url`?");
    assert_eq!(
        bad("[store]\nkind = \"rediss\"\nurl = 1"),
        "store.kind: \"rediss\" is not known here; did you mean \"redis\"?"
    );
}

#[test]
fn urls_name_servers_and_nothing_more() {
    for url in ["redis://h", "redis://h/", "rediss://[::1]:6380/15", "redis://app@h:1"] {
        let store = format!("url = \"{url}\"\npassword = {{ env = \"PASSWORD\" }}");
        assert_eq!(urls(&redis(&store)), [url]);
    }
    for (url, reason) in [
        ("127.0.0.1:6379", "has no scheme"),
        ("http://h", "neither redis nor rediss"),
        ("REDIS://h", "neither redis nor rediss"),
        ("redis+unix:///hunter", "neither redis nor rediss"),
        ("redis://", "host or port is not valid"),
        ("redis://:1", "host or port is not valid"),
        ("redis://h:0", "host or port is not valid"),
        ("redis://h:", "host or port is not valid"),
        ("redis://hunter h", "host or port is not valid"),
        ("redis://a:1,b:2", "write a list of URLs"),
        ("redis://h/one", "not a database number"),
        ("redis://h/-1", "not a database number"),
        ("redis://h/1/2", "not a database number"),
        ("redis://h/99999999999", "not a database number"),
        ("redis://h?hunter=1", "query"),
        ("rediss://h#insecure", "fragment"),
        ("redis://app:hunter2@h", "a password does not belong in this file"),
        ("redis://:hunter2@h", "a password does not belong in this file"),
        ("redis://app:hun/ter@h", "host or port is not valid"),
        ("redis://app:hunter@2@h", "percent-encoded"),
        ("redis://app:hunter%4@h", "percent-encoded"),
        ("redis://app:hunter%é@h", "percent-encoded"),
    ] {
        for (written, place) in [(format!("{url:?}"), "store.url"), (format!("[{url:?}]"), "store.url[0]")] {
            let problems = problems(&format!("url = {written}"));
            assert!(problems.starts_with(&format!("{place}: ")) && problems.contains(reason), "{url}: {problems}");
            assert_eq!(problems.lines().count(), 1, "{url}: {problems}");
        }
    }
}

#[test]
fn a_url_is_a_string_a_list_or_a_secret() {
    assert_eq!(urls(&redis("url = { env = \"URL\" }")), [world().vars["URL"]]);
    let cluster = redis("url = { env = \"URLS\" }\nmode = \"cluster\"");
    assert_eq!(urls(&cluster), ["redis://:hunter2@a:1", "redis://:hunter2@b:2", "redis://:hunter2@c"]);
    assert_eq!(cluster.topology, Topology::Cluster);
    assert!(!format!("{cluster:?}").contains("hunter"));
    for (url, problem) in [
        ("", "store.url: missing; it has no default, write one such as \"redis://127.0.0.1:6379/0\""),
        ("url = []", "store.url: there is none; write at least one, such as \"redis://127.0.0.1:6379/0\""),
        ("url = { env = \"BLANK\" }", "store.url: there is none; write at least one"),
        ("url = 7", "store.url: expected a URL, a list of URLs, or a table that names a secret, found an integer"),
        ("url = [7]", "store.url[0]: expected a string, found an integer"),
        ("url = { env = \"hunter\" }", "store.url.env: no environment variable has this name"),
        ("url = {}", "store.url: needs exactly one of `env`, `file`"),
    ] {
        let problems = problems(url);
        assert!(problems.starts_with(problem) && problems.lines().count() == 1, "{url}: {problems}");
    }
    let torn = problems("url = { env = \"TORN\" }");
    assert!(torn.contains("URL 2 in the secret: has no scheme") && torn.contains("%2C"), "{torn}");
}

#[test]
fn several_urls_are_for_sentinels_and_nodes_that_are_alike() {
    let two = "url = [\"redis://a\", \"redis://b\"]";
    assert_eq!(problems(two), "store.url: there are several; write one, or mode = \"sentinel\" or \"cluster\"");
    assert_eq!(urls(&redis(&format!("{two}\nmode = \"cluster\""))).len(), 2);
    for other in ["rediss://b", "redis://b/1", "redis://app@b"] {
        let problems = problems(&format!("url = [\"redis://a\", \"{other}\"]\nmode = \"sentinel\"\nmaster = \"m\""));
        assert!(problems.starts_with("store.url[1]: differs from the first"), "{other}: {problems}");
    }
    assert!(problems("url = { env = \"MIXED\" }\nmode = \"cluster\"").starts_with("store.url: differs from the first"));
}

#[test]
fn a_master_is_what_sentinels_know_and_a_cluster_has_no_databases() {
    for (store, problem) in [
        ("mode = \"sentinel\"", "store.master: missing; write the name by which the sentinels know the master"),
        ("master = \"m\"", "store.master: is a name that sentinels know; write mode = \"sentinel\", or remove it"),
        ("mode = \"sentinel\"\nmaster = \"\"", "store.master: is empty"),
        ("mode = \"cluster\"", "store.url: has a database number, but a cluster has only one database; remove it"),
        (
            "mode = \"sentinal\"\nmaster = \"m\"",
            "store.mode: \"sentinal\" is not known here; did you mean \"sentinel\"?",
        ),
    ] {
        let problems = problems(&format!("{URL}\n{store}"));
        assert!(problems.starts_with(problem) && problems.lines().count() == 1, "{store}: {problems}");
    }
}

#[test]
fn tls_keys_need_tls_and_files_that_hold_what_they_should() {
    let tls = "url = \"rediss://h\"";
    for (store, problem) in [
        (format!("{URL}\nca = \"ca.pem\""), "store.ca: is for TLS; write rediss:// in the URL, or remove it"),
        (format!("{tls}\nca = \"none.pem\""), "store.ca: the file cannot be read"),
        (format!("{tls}\nca = \"key.pem\""), "store.ca: the file holds no PEM certificate"),
        (format!("{tls}\ncert = \"ca.pem\""), "store.cert: needs `key` beside it"),
        (format!("{tls}\nkey = \"key.pem\""), "store.key: needs `cert` beside it"),
        (
            format!("{tls}\ncert = \"ca.pem\"\nkey = \"locked.pem\""),
            "store.key: the file holds no PEM private key without a passphrase (-----BEGIN PRIVATE KEY-----)",
        ),
    ] {
        let problems = problems(&store);
        assert!(problems.starts_with(problem) && problems.lines().count() == 1, "{store}: {problems}");
    }
    let both = problems(&format!("{URL}\ncert = \"ca.pem\"\nkey = \"key.pem\""));
    assert_eq!(both.matches("is for TLS").count(), 2, "{both}");
}

#[test]
fn a_user_without_a_password_is_refused_because_no_one_would_log_in() {
    let reason = "a user needs a password; write password = { env = \"NAME\" }";
    assert_eq!(problems(&format!("{URL}\nusername = \"app\"")), format!("store.username: {reason}"));
    assert_eq!(problems("url = \"redis://app@h\""), format!("store.url: {reason}"));
    let both = redis("url = { env = \"URL\" }\nusername = \"other\"");
    assert_eq!((both.username.as_deref(), both.password), (Some("other"), None));
    assert_eq!(
        problems(&format!("{URL}\nusername = \"app\"\npassword = \"hunter2\"")),
        "store.password: a secret does not belong in this file; write { env = \"NAME\" } or { file = \"PATH\" }"
    );
}

#[test]
fn a_command_is_shorter_than_the_lease() {
    let times = |store: &str| {
        let redis = redis(&format!("{URL}\n{store}"));
        (redis.lease.as_millis(), redis.timeout.as_millis())
    };
    assert_eq!(times("lease = \"500ms\""), (500, 250));
    assert_eq!(times("lease = \"10s\"\ntimeout = \"9s\""), (10_000, 9_000));
    for (store, problem) in [
        ("lease = \"499ms\"", "store.lease: 499ms is out of range; it must be 500ms or more"),
        ("timeout = \"5s\"", "store.timeout: 5s is not less than `lease` (5s); lower it or raise `lease`"),
        ("timeout = \"0s\"", "store.timeout: must be longer than zero"),
    ] {
        assert_eq!(problems(&format!("{URL}\n{store}")), problem);
    }
}

#[test]
fn a_prefix_is_one_short_plain_word() {
    for prefix in ["a b", "a{b}", "", &"x".repeat(33)] {
        let problems = problems(&format!("{URL}\nprefix = \"{prefix}\""));
        assert!(problems.contains("is no prefix; write 1 to 32 letters"), "{prefix}: {problems}");
    }
    assert_eq!(redis(&format!("{URL}\nprefix = \"{}\"", "x".repeat(32))).prefix.len(), 32);
}
