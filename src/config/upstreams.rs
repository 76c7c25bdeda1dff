//! `[[upstreams]]`: the named groups of endpoints, and what requests to them look like.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use toml::Value;

use super::file::SECOND;
use super::reader::{Reader, expected, quoted, text};
use super::settings::{BreakerPlan, Budget, Credential, Endpoint, Health, Models, Protocol, Upstream};
use super::values;

/// Headers that carry credentials.
pub const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Headers that framing and routing make anew; setting them would break the request or be undone.
const OURS: [&str; 8] =
    ["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// Reads all upstreams. One whose endpoints are wrong still counts, so that routes to it are not called wrong as well.
pub(super) fn read(r: &mut Reader<'_>) -> Vec<Arc<Upstream>> {
    let mut seen: Vec<(String, String)> = Vec::new();
    let upstreams = r.tables("upstreams", Vec::new(), |r| {
        let upstream = upstream(r)?;
        match seen.iter().find(|(name, _)| *name == upstream.name) {
            Some((name, place)) => {
                r.problem("name", format!("{name:?} is the name of {place} already; names are unique"))
            }
            None => seen.push((upstream.name.clone(), r.path().to_owned())),
        }
        Some(Arc::new(upstream))
    });
    if upstreams.is_empty() && r.sound("upstreams") {
        r.problem("upstreams", "there is none; write [[upstreams]] or give --upstream URL");
    }
    for upstream in &upstreams {
        if let Some((_, place)) = seen.iter().find(|(name, _)| *name == upstream.name) {
            chain(r, &format!("{place}.failover"), upstream, &upstream.failover, &upstreams);
        }
    }
    upstreams
}

/// The upstreams that `first` fails over to, by their names at `key`; each problem is noted there.
pub(super) fn chain(
    r: &Reader<'_>,
    key: &str,
    first: &Upstream,
    names: &[String],
    upstreams: &[Arc<Upstream>],
) -> Vec<Arc<Upstream>> {
    let mut chain: Vec<Arc<Upstream>> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let problem = |message: String| r.problem(&format!("{key}[{index}]"), message);
        match upstream_of(name, upstreams) {
            Err(message) => problem(message),
            Ok(_) if *name == first.name => problem(format!("{name:?} is where the requests go first; name another")),
            Ok(upstream) if chain.iter().any(|earlier| earlier.name == upstream.name) => {
                problem(format!("{name:?} stands in the list already; remove it"));
            }
            Ok(upstream) => chain.push(upstream),
        }
    }
    chain
}

/// The upstream of this name.
pub(super) fn upstream_of(name: &str, upstreams: &[Arc<Upstream>]) -> Result<Arc<Upstream>, String> {
    let known = || upstreams.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = upstreams.iter().find(|upstream| upstream.name == name);
    found.cloned().ok_or_else(|| format!("no upstream is named {name:?}; known: {}", known()))
}

fn upstream(r: &mut Reader<'_>) -> Option<Upstream> {
    const PROTOCOLS: [(&str, Protocol); 3] =
        [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let name = r.required("name", values::label);
    let upstream = Upstream {
        name: name.clone().unwrap_or_default(),
        endpoints: endpoints(r),
        protocol: r.choice("protocol", Protocol::Auto, &PROTOCOLS),
        ca: r.certificates("ca"),
        client_cert: r.optional_table("client_cert", Reader::identity).flatten(),
        breaker: r.table("breaker", breaker),
        retry_budget: r.table("retry_budget", |r| Budget {
            ratio: r.ratio("ratio", 0.2),
            floor: r.count("floor", 10, 0..=1_000_000),
        }),
        failover: r.list("failover", &[], values::label),
        credential: credential(r),
        headers: headers(r),
        models: models(r),
        health: r.optional_table("health", |r| Health {
            path: r.word("path", "/health".to_owned(), values::path_prefix),
            interval: r.duration("interval", 10 * SECOND),
        }),
    };
    name.map(|_| upstream)
}

/// Stands in where an upstream is unknown, so that other keys are checked too.
pub(super) fn nowhere() -> Arc<Upstream> {
    let second = SECOND;
    Arc::new(Upstream {
        name: String::new(),
        endpoints: Vec::new(),
        protocol: Protocol::Auto,
        ca: None,
        client_cert: None,
        breaker: BreakerPlan { failures: 1, window: second, cool_down: second },
        retry_budget: Budget { ratio: 0.0, floor: 0 },
        failover: Vec::new(),
        credential: None,
        headers: Vec::new(),
        models: Models::default(),
        health: None,
    })
}

fn endpoints(r: &mut Reader<'_>) -> Vec<Endpoint> {
    let endpoints = r.strings_or_tables("endpoints", values::endpoint, |r| {
        let endpoint = r.required("url", values::endpoint);
        let (weight, priority) = (r.count("weight", 1, 1..=1_000), r.count("priority", 0, 0..=1_000));
        endpoint.map(|endpoint| Endpoint { weight, priority, ..endpoint })
    });
    if endpoints.is_empty() && r.sound("endpoints") {
        r.problem("endpoints", "there is none; write at least one, such as [\"http://127.0.0.1:8000\"]");
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints.iter().take(index).any(|earlier| earlier.is_at(endpoint)) && r.sound("endpoints") {
            r.problem(&format!("endpoints[{index}]"), "stands in the list already; remove it");
        }
    }
    endpoints
}

fn breaker(r: &mut Reader<'_>) -> BreakerPlan {
    BreakerPlan {
        failures: r.count("failures", 5, 1..=1_000_000),
        window: r.duration("window", 30 * SECOND),
        cool_down: r.duration("cool_down", 10 * SECOND),
    }
}

fn credential(r: &mut Reader<'_>) -> Option<Credential> {
    let header = r.word("credential_header", AUTHORIZATION, sent_header);
    let secret = r.secret("credential")?;
    let text = secret.expose();
    let text = if header == AUTHORIZATION { format!("Bearer {text}") } else { text.to_owned() };
    match values::header_value(&text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Some(Credential { header, value })
        }
        Err(message) => {
            r.problem("credential", format!("the secret {message}"));
            None
        }
    }
}

/// Header names on the left; on the right text, or where a secret is.
pub(super) fn headers(r: &mut Reader<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in r.names("headers") {
        let place = format!("headers.{}", quoted(&name));
        let header = match sent_header(&name) {
            Ok(header) if headers.iter().all(|(earlier, _)| *earlier != header) => header,
            Ok(_) => {
                r.problem(&place, "stands in the table already, in other letters; remove it");
                continue;
            }
            Err(message) => {
                r.problem(&place, message);
                continue;
            }
        };
        let (string, secret) = match value {
            Value::String(string) => (string, false),
            Value::Table(_) => match r.secret_of(&place, value) {
                Some(secret) => (secret.expose().to_owned(), true),
                None => continue,
            },
            other => {
                r.problem(&place, expected("a string, or a table that names a secret", &other));
                continue;
            }
        };
        // Whoever writes a key in plain does not want to read it in a log.
        match secret {
            true => {}
            false if CREDENTIAL_HEADERS.contains(&header.as_str()) => r.note_secret(&place, &string),
            false => r.note(&place, text(&string)),
        }
        match values::header_value(&string) {
            Ok(mut value) => {
                value.set_sensitive(secret);
                headers.push((header, value));
            }
            Err(message) => r.problem(&place, message),
        }
    }
    headers
}

/// A header that a configuration may set.
fn sent_header(name: &str) -> Result<HeaderName, String> {
    let header = values::header_name(name)?;
    if OURS.contains(&header.as_str()) {
        return Err(format!("{name:?} belongs to the connection, not to the request; remove it"));
    }
    Ok(header)
}

fn models(r: &mut Reader<'_>) -> Models {
    let any = r.optional("model", values::some_text);
    let mut named = Vec::new();
    for (from, to) in r.names("models") {
        let to = to.as_str().ok_or_else(|| expected("a model's name", &to)).and_then(values::some_text);
        match to {
            Ok(to) => {
                r.note(&format!("models.{}", quoted(&from)), text(&to));
                named.push((from, to));
            }
            Err(message) => r.problem(&format!("models.{}", quoted(&from)), message),
        }
    }
    Models { named, any }
}
