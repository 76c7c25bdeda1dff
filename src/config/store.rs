//! `[store]`: which store keeps the sessions, and for Redis where it is and how it is treated.
//!
//! Not here: connecting, and what is kept under which key. No message shows a URL: a password may stand in it.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::file::SECOND;
use super::reader::{Reader, expected, list, text};
use super::secret::Secret;
use super::settings::{OnFailure, Redis, Store, Topology};
use super::units::show_duration;
use super::values::{self, RedisUrl};

/// A shorter lease would be lost to an ordinary pause of the machine.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);

/// All keys that only Redis has.
const REDIS: [&str; 14] = [
    "url",
    "mode",
    "master",
    "username",
    "password",
    "ca",
    "cert",
    "key",
    "prefix",
    "secret",
    "lease",
    "timeout",
    "acknowledged",
    "on_failure",
];

/// The word for what the URLs lead to; the settings hold it with what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Single,
    Sentinel,
    Cluster,
}

/// One URL: the key to blame, the text, and what the text says.
struct Server {
    place: String,
    text: Secret,
    url: RedisUrl,
}

/// The whole table.
pub(super) fn read(r: &mut Reader<'_>) -> Store {
    let is_redis = r.choice("kind", false, &[("memory", false), ("redis", true)]);
    if !r.sound("kind") {
        r.ignore_the_rest();
    }
    if is_redis {
        return Store::Redis(Box::new(redis(r)));
    }
    for key in REDIS {
        r.take(key, |_| Err::<(), _>("belongs to the redis store; write kind = \"redis\", or remove it".to_owned()));
    }
    Store::Memory
}

fn redis(r: &mut Reader<'_>) -> Redis {
    let servers = urls(r);
    let topology = topology(r, &servers);
    let (ca, client) = tls(r, &servers);
    let lease = r.duration("lease", 5 * SECOND);
    let redis = Redis {
        topology,
        username: r.optional("username", values::some_text),
        password: r.secret("password"),
        ca,
        client,
        prefix: r.word("prefix", "sk".to_owned(), prefix),
        secret: r.secret("secret"),
        lease,
        timeout: r.duration("timeout", SECOND.min(lease / 2)),
        acknowledged: r.flag("acknowledged", false),
        on_failure: r.choice(
            "on_failure",
            OnFailure::Memory,
            &[("memory", OnFailure::Memory), ("refuse", OnFailure::Refuse)],
        ),
        urls: servers.iter().map(|server| server.text.clone()).collect(),
    };
    check_login(r, &servers, &redis);
    check_times(r, &redis);
    redis
}

/// Where the servers are; those with a problem are left out.
fn urls(r: &mut Reader<'_>) -> Vec<Server> {
    if !r.has("url") {
        r.problem("url", "missing; it has no default, write one such as \"redis://127.0.0.1:6379/0\"");
    }
    let mut servers = Vec::new();
    match r.take("url", Ok) {
        None => {}
        Some(Value::String(url)) => {
            servers.extend(written(r, "url".to_owned(), &url));
            r.note("url", text(&url));
        }
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("url[{index}]");
                match item.as_str() {
                    Some(text) => servers.extend(written(r, place, text)),
                    None => r.problem(&place, expected("a string", item)),
                }
            }
            r.note("url", list(&items.iter().filter_map(Value::as_str).collect::<Vec<_>>()));
        }
        Some(table @ Value::Table(_)) => {
            if let Some(secret) = r.secret_of("url", table) {
                servers.extend(secret_urls(r, &secret));
            }
        }
        Some(other) => r.problem("url", expected("a URL, a list of URLs, or a table that names a secret", &other)),
    }
    if servers.is_empty() && r.sound("url") {
        r.problem("url", "there is none; write at least one, such as \"redis://127.0.0.1:6379/0\"");
    }
    servers
}

/// A URL that stands in the file, where a password must not.
fn written(r: &Reader<'_>, place: String, text: &str) -> Option<Server> {
    let read = values::redis_url(text).and_then(|url| match url.login {
        (_, None) => Ok(url),
        (_, Some(_)) => Err("a password does not belong in this file; take it out and write \
             password = { env = \"NAME\" }, or the whole as url = { env = \"NAME\" }"
            .to_owned()),
    });
    match read {
        Ok(url) => Some(Server { place, text: Secret::new(text.to_owned()), url }),
        Err(message) => {
            r.problem(&place, message);
            None
        }
    }
}

/// The URLs in a secret, with commas or white space between them.
fn secret_urls(r: &Reader<'_>, secret: &Secret) -> Vec<Server> {
    let texts = secret.expose().split(|c: char| c == ',' || c.is_whitespace()).filter(|text| !text.is_empty());
    let mut servers = Vec::new();
    for (index, text) in texts.enumerate() {
        match values::redis_url(text) {
            Ok(url) => servers.push(Server { place: "url".to_owned(), text: Secret::new(text.to_owned()), url }),
            Err(message) => {
                let number = index + 1;
                r.problem("url", format!("URL {number} in the secret: {message} (a comma in a password is %2C)"));
            }
        }
    }
    servers
}

/// What the URLs lead to, and whether they can.
fn topology(r: &mut Reader<'_>, servers: &[Server]) -> Topology {
    const MODES: [(&str, Mode); 3] =
        [("single", Mode::Single), ("sentinel", Mode::Sentinel), ("cluster", Mode::Cluster)];
    let mode = r.choice("mode", Mode::Single, &MODES);
    let master = r.optional("master", values::some_text);
    if !r.sound("mode") {
        return Topology::Single;
    }
    if mode == Mode::Single && servers.len() > 1 {
        r.problem("url", "there are several; write one, or mode = \"sentinel\" or \"cluster\"");
    }
    if mode == Mode::Cluster {
        for server in servers.iter().filter(|server| server.url.database.is_some()) {
            r.problem(&server.place, "has a database number, but a cluster has only one database; remove it");
        }
    }
    if mode != Mode::Sentinel && master.is_some() {
        r.problem("master", "is a name that sentinels know; write mode = \"sentinel\", or remove it");
    }
    if mode == Mode::Sentinel && master.is_none() && r.sound("master") {
        r.problem("master", "missing; write the name by which the sentinels know the master, such as \"mymaster\"");
    }
    match mode {
        Mode::Single => Topology::Single,
        Mode::Sentinel => Topology::Sentinel { master: master.unwrap_or_default() },
        Mode::Cluster => Topology::Cluster,
    }
}

/// What TLS trusts and shows: authorities, and a certificate with its key.
fn tls(r: &mut Reader<'_>, servers: &[Server]) -> (Option<PathBuf>, Option<(PathBuf, PathBuf)>) {
    let written = ["ca", "cert", "key"].map(|key| (key, r.has(key)));
    let (ca, cert, key) = (r.certificates("ca"), r.certificates("cert"), r.private_key("key"));
    if servers.first().is_some_and(|server| !server.url.tls) {
        for (key, _) in written.into_iter().filter(|(_, written)| *written) {
            r.problem(key, "is for TLS; write rediss:// in the URL, or remove it");
        }
    }
    let [_, (_, has_cert), (_, has_key)] = written;
    if has_cert != has_key {
        let (present, absent) = if has_cert { ("cert", "key") } else { ("key", "cert") };
        r.problem(present, format!("needs `{absent}` beside it: a certificate and its key go together"));
    }
    (ca.map(|ca| ca.path), cert.zip(key).map(|(cert, key)| (cert.path, key.path)))
}

/// Checks between the URLs, and between them and the login.
fn check_login(r: &Reader<'_>, servers: &[Server], redis: &Redis) {
    let Some(first) = servers.first() else { return };
    if let Some(other) = servers.iter().find(|other| other.url != first.url) {
        let message = "differs from the first in more than host and port; \
            all URLs have the same scheme, user, password and database";
        r.problem(&other.place, message);
    }
    let (name, password) = &first.url.login;
    let place = if redis.username.is_some() { "username" } else { &first.place };
    if (redis.username.is_some() || name.is_some()) && password.is_none() && redis.password.is_none() {
        // A client that has no password to send does not log in at all, and would be another user than it says.
        if r.sound("password") {
            r.problem(place, "a user needs a password; write password = { env = \"NAME\" }");
        }
    }
}

/// Checks between the lease and one command.
fn check_times(r: &Reader<'_>, redis: &Redis) {
    let (lease, timeout) = (redis.lease, redis.timeout);
    if lease < SHORTEST_LEASE && r.sound("lease") {
        let (lease, shortest) = (show_duration(lease), show_duration(SHORTEST_LEASE));
        r.problem("lease", format!("{lease} is out of range; it must be {shortest} or more"));
    } else if timeout >= lease && r.sound("lease") && r.sound("timeout") {
        let (lease, timeout) = (show_duration(lease), show_duration(timeout));
        r.problem("timeout", format!("{timeout} is not less than `lease` ({lease}); lower it or raise `lease`"));
    }
}

/// What all keys and channels begin with.
fn prefix(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":_-".contains(&b);
    if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no prefix; write 1 to 32 letters, digits, \":\", \"_\" or \"-\""))
    }
}
