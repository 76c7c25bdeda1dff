//! What a single string may mean: an address, an endpoint, a host, a path, a name on the wire. Each function takes the
//! text and gives the value, or a message that says what is wrong and what to write instead.
//!
//! Not here: checks that need a second key (`file`, `routes`), numbers and units (`units`).
//! Sources: RFC 3986 (URLs), the registrations of `redis` and `rediss` at IANA, RFC 9110 §5.6.2 (tokens).

use std::net::SocketAddr;

use http::uri::{Authority, Scheme, Uri};
use http::{HeaderName, HeaderValue, Method};

use super::settings::{Endpoint, Network};

/// An IP address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address with a port; write one such as \"127.0.0.1:8080\""))
}

/// An IP address, or a network such as `10.0.0.0/8`.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let network = match text.split_once('/') {
        None => text.parse().ok().map(Network::only),
        Some((address, bits)) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
            address.parse().ok().zip(bits.parse().ok()).and_then(|(address, bits)| Network::new(address, bits))
        }
        Some(_) => None,
    };
    network.ok_or_else(|| format!("{text:?} is no IP address or network; write one such as \"10.0.0.0/8\""))
}

/// A base URL. No message repeats it: a password may stand where none is allowed.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    const ADVICE: &str = "write one such as \"http://127.0.0.1:8000\"";
    if !text.contains("://") {
        return Err(format!("has no scheme; {ADVICE}"));
    }
    if text.contains('#') {
        return Err("has a fragment (#…), which is never sent; remove it".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {ADVICE}"))?;
    let parts = uri.into_parts();
    let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let scheme = scheme.ok_or_else(|| "the scheme is neither http nor https; write one of these".to_owned())?;
    let authority = parts.authority.ok_or_else(|| format!("has no host; {ADVICE}"))?;
    if authority.as_str().contains('@') {
        return Err("has user information (…@); remove it, callers bring credentials".to_owned());
    }
    if authority.host().is_empty() || !has_sane_port(&authority) {
        return Err(format!("the host or port is not valid; {ADVICE}"));
    }
    let Some(target) = parts.path_and_query else {
        return Ok(Endpoint { scheme, authority, base: String::new(), weight: 1, priority: 0 });
    };
    if target.query().is_some() {
        return Err("has a query (?…); remove it, the caller's query is passed on".to_owned());
    }
    let base = target.path().trim_end_matches('/');
    if !base.is_empty() {
        plain_path(base)?;
    }
    Ok(Endpoint { scheme, authority, base: base.to_owned(), weight: 1, priority: 0 })
}

/// What the checks between keys want to know of a Redis URL. No `Debug`: a password is in it.
#[derive(PartialEq, Eq)]
pub(super) struct RedisUrl {
    /// `rediss`.
    pub(super) tls: bool,
    /// Name and password, each `None` where there is none; as written, so percent-encoded.
    pub(super) login: (Option<String>, Option<String>),
    /// The database number, where one is written.
    pub(super) database: Option<u32>,
}

/// Where a Redis server is. No message repeats it: it may hold a password.
pub(super) fn redis_url(text: &str) -> Result<RedisUrl, String> {
    const ADVICE: &str = "write one such as \"redis://127.0.0.1:6379/0\"";
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("has no scheme; {ADVICE}"))?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err("the scheme is neither redis nor rediss (TLS); write one of these".to_owned()),
    };
    if rest.contains(['?', '#']) {
        return Err("has a query (?…) or a fragment (#…); remove it, in a password write %3F and %23".to_owned());
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (name, password) = login.split_once(':').map_or((login, None), |(name, password)| (name, Some(password)));
    if ![name, password.unwrap_or_default()].into_iter().all(is_percent_encoded) {
        return Err(
            "the user name or password has characters that must be percent-encoded, such as %40 for @".to_owned()
        );
    }
    if host.contains(',') {
        return Err("names several hosts; write a list of URLs instead".to_owned());
    }
    let host: Authority = host.parse().map_err(|_| format!("the host or port is not valid; {ADVICE}"))?;
    if host.host().is_empty() || !has_sane_port(&host) {
        return Err(format!("the host or port is not valid; {ADVICE}"));
    }
    let database = match database {
        "" => None,
        number if number.bytes().all(|b| b.is_ascii_digit()) && number.len() < 6 => number.parse().ok(),
        _ => return Err(format!("what follows the host is not a database number; {ADVICE}")),
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(RedisUrl { tls, login: (some(name), password.and_then(some)), database })
}

/// Part of a URL's user information: RFC 3986 §3.2.1 without the colon, every `%` with its two digits.
fn is_percent_encoded(text: &str) -> bool {
    let mut parts = text.split('%');
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&b));
    parts.next().is_none_or(plain)
        && parts.all(|part| {
            part.get(..2).is_some_and(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
                && part.get(2..).is_some_and(plain)
        })
}

/// No port, or one from 1 to 65535.
fn has_sane_port(authority: &Authority) -> bool {
    let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    after_host.is_empty() || authority.port_u16().is_some_and(|port| port > 0)
}

/// A host name or an IP address, without a port; lower case in the end.
pub(super) fn host(text: &str) -> Result<String, String> {
    let authority: Option<Authority> = text.parse().ok();
    match authority {
        Some(authority) if authority.host() == text => Ok(text.to_ascii_lowercase()),
        Some(authority) if authority.port().is_some() => Err(format!("{text:?} has a port; write the name alone")),
        _ => Err(format!("{text:?} is not a host name; write one such as \"chat.example.com\"")),
    }
}

/// A path prefix, without a slash at its end unless it is `/` alone.
pub(super) fn path_prefix(text: &str) -> Result<String, String> {
    let path = if text.bytes().all(|b| b == b'/') { text } else { text.trim_end_matches('/') };
    plain_path(path)?;
    Ok(path.to_owned())
}

/// The prefix of the reserved paths: `/` alone would reserve everything.
pub(super) fn reserved_prefix(text: &str) -> Result<String, String> {
    let prefix = path_prefix(text)?;
    if prefix == "/" {
        return Err("\"/\" would hide every path of the upstream; write one such as \"/_streamkeeper\"".to_owned());
    }
    Ok(prefix)
}

/// A path that reads the same to every server: absolute, no empty or dot segments, no characters that need escaping.
fn plain_path(path: &str) -> Result<(), String> {
    let Some(segments) = path.strip_prefix('/') else {
        return Err(format!("{path:?} does not start with /; write one such as \"/v1\""));
    };
    if !path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b)) {
        return Err(format!("{path:?} is more than a path; write it percent-encoded and without a query or fragment"));
    }
    let vague = |segment: &str| segment.is_empty() || segment == "." || segment == "..";
    if path != "/" && segments.split('/').any(vague) {
        return Err(format!("{path:?} has an empty, \".\" or \"..\" segment; write the path it stands for"));
    }
    Ok(())
}

/// An HTTP method. Ours are upper case, as all registered ones are.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes());
    method.map_err(|_| format!("{text:?} is not a method; write one such as \"POST\""))
}

/// The name of a request header.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{text:?} is not a header's name; write one such as \"x-session-id\""))
}

/// The value of a header; no message repeats it, it may be a secret.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "is not a header's value; write visible characters on one line".to_owned())
}

/// The name of a cookie: a token.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    // A header's name is a token too, and any other case of it is as good.
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is not a cookie's name; write one such as \"session_id\"")),
    }
}

/// A name that can be a metric label without surprises.
pub(super) fn label(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a name; write 1 to 64 letters, digits, \"_\", \"-\" or \".\""))
    }
}

/// Any text but none.
pub(super) fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty; write something or remove the key".to_owned()) } else { Ok(text.to_owned()) }
}

/// An event's name: some text on one line.
pub(super) fn event_name(text: &str) -> Result<String, String> {
    if text.contains(['\r', '\n', '\0']) {
        return Err("an event's name is one line; no event can have this one".to_owned());
    }
    some_text(text)
}

/// What to say about a word that is not in a list: the likely slip, else the list.
pub(super) fn advice(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", list_of(known.iter().copied())),
    }
}

/// The known word that was probably meant, if one is near.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // One slip in short words, one more for every four letters; a swap of neighbours is one slip.
    let slips = 1 + word.len().min(64) / 4;
    let near = |name: &&&str| word.len() <= 2 * name.len();
    let ranked = known.iter().filter(near).map(|name| (strsim::osa_distance(word, name), *name));
    ranked.filter(|(distance, name)| *distance <= slips && *distance < name.len()).min().map(|(_, name)| name)
}

/// `a`, `b`, `c` for a message.
pub(super) fn list_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
