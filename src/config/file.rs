//! The configuration file as it is written: its tables, keys, defaults and the checks between them.
//!
//! This file, `upstreams`, `routes` and `store` are the grammar: a key is known because it is read here, its default stands
//! beside it, and the sample at the repository's root must show it (a test compares). Not here: how a value is read
//! (`reader`).

use std::time::Duration;

use toml::Table;

use super::effective::Effective;
use super::env::Env;
use super::problem::{Problem, Problems};
use super::reader::{Context, Reader};
use super::settings::{
    Admin, Drain, Endpoint, Heartbeat, Http1, Limits, Listen, LogFormat, Otlp, RetryHint, Session, Settings, Telemetry,
};
use super::{routes, store, upstreams, values};

pub(super) const KIB: usize = 1 << 10;
pub(super) const MIB: usize = 1 << 20;

/// One second, to be multiplied.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Reads TOML's syntax.
///
/// # Errors
/// The first place where the text is not TOML, by line and column (counted from 1, in characters).
pub(super) fn table(text: &str) -> Result<Table, Problems> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let path = format!("line {line}, column {column}");
        Problem { path, message: format!("not valid TOML: {}", error.message().replace('\n', "; ")) }.into()
    })
}

/// Reads what the tables mean.
///
/// # Errors
/// Every problem there is, each with its TOML path.
pub(super) fn settings(table: Table, env: &dyn Env) -> Result<Settings, Problems> {
    let context = Context::new(env);
    let settings = context.read(table, root);
    let (problems, effective) = context.finish();
    Problems::or(problems, Settings { effective, ..settings })
}

/// The whole file.
pub(super) fn root(r: &mut Reader<'_>) -> Settings {
    let listen = r.table("listen", listen);
    let upstreams = upstreams::read(r);
    let session = r.table("session", session);
    let settings = Settings {
        admin: r.table("admin", admin),
        routes: routes::read(r, &upstreams, &listen.prefix),
        upstreams,
        listen,
        session,
        store: r.table("store", store::read),
        limits: r.table("limits", |r| limits(r, session)),
        retry_hint: r.table("retry_hint", retry_hint),
        http1: r.table("http1", |r| Http1 { direct: r.flag("direct", true) }),
        heartbeat: r.table("heartbeat", |r| Heartbeat { interval: r.duration_or_zero("interval", 15 * SECOND) }),
        drain: r.table("drain", drain),
        telemetry: r.table("telemetry", telemetry),
        effective: Effective::default(),
    };
    check_across(r, &settings);
    settings
}

/// Checks between tables.
fn check_across(r: &Reader<'_>, settings: &Settings) {
    let (session, limits) = (settings.session, settings.limits);
    r.at_most(("limits.event", limits.event), ("session.max_bytes", session.max_bytes));
    r.at_most(("session.max_bytes", session.max_bytes), ("limits.ring_bytes", limits.ring_bytes));

    let (data, admin) = (settings.listen.address, settings.admin.address);
    let same_ip = data.ip() == admin.ip() || data.ip().is_unspecified() || admin.ip().is_unspecified();
    if same_ip
        && data.port() == admin.port()
        && data.port() != 0
        && r.sound("listen.address")
        && r.sound("admin.address")
    {
        r.problem("admin.address", format!("{admin} collides with `listen.address` ({data}); choose another port"));
    }
}

fn listen(r: &mut Reader<'_>) -> Listen {
    Listen {
        address: r.word("address", ([127, 0, 0, 1], 8080).into(), values::address),
        hosts: r.list("hosts", &[], values::host),
        prefix: r.word("prefix", "/_streamkeeper".to_owned(), values::reserved_prefix),
        tls: r.optional_table("tls", Reader::identity).flatten(),
        trusted_proxies: r.optional_list("trusted_proxies", values::network),
        proxy_protocol: r.flag("proxy_protocol", false),
        workers: r.count("workers", 0, 0..=1024),
    }
}

fn admin(r: &mut Reader<'_>) -> Admin {
    let admin =
        Admin { address: r.word("address", ([127, 0, 0, 1], 8081).into(), values::address), token: r.secret("token") };
    match &admin.token {
        None if !admin.address.ip().to_canonical().is_loopback() && r.sound("token") => {
            let address = admin.address;
            r.problem(
                "token",
                format!(
                    "missing; {address} is not loopback, so write token = {{ env = \"NAME\" }} \
                     or take an address on 127.0.0.1"
                ),
            );
        }
        // Such a token could not be sent: a bearer token is one word of visible ASCII.
        Some(token) if r.sound("token") && !token.expose().bytes().all(|b| b.is_ascii_graphic()) => {
            r.problem("token", "the secret has spaces, line ends or letters outside ASCII; make it one word");
        }
        _ => {}
    }
    admin
}

fn session(r: &mut Reader<'_>) -> Session {
    Session {
        max_events: r.count("max_events", 10_000, 1..=10_000_000),
        max_bytes: r.size("max_bytes", 4 * MIB, KIB..),
        retention: r.duration_or_zero("retention", 5 * 60 * SECOND),
    }
}

fn limits(r: &mut Reader<'_>, session: Session) -> Limits {
    // No event is larger than its ring, no line than its event: a small bound brings the defaults under it down.
    let event = r.size("event", MIB.min(session.max_bytes), KIB..=16 * MIB);
    let limits = Limits {
        connections: r.count("connections", 10_000, 1..=1_000_000),
        sessions: r.count("sessions", 10_000, 1..=1_000_000),
        sessions_per_principal: r.count("sessions_per_principal", 500, 1..=1_000_000),
        readers_per_session: r.count("readers_per_session", 16, 1..=10_000),
        ring_bytes: r.size("ring_bytes", 512 * MIB, KIB..),
        request_body: r.size("request_body", 32 * MIB, KIB..=1024 * MIB),
        answer_body: r.size("answer_body", 16 * MIB, KIB..=1024 * MIB),
        line: r.size("line", MIB.min(event), KIB..=16 * MIB),
        event,
        headers: r.count("headers", 100, 10..=1_000),
        // Below 8 KiB the HTTP/1.1 parser has too little room to work in.
        header_bytes: r.size("header_bytes", 64 * KIB, 8 * KIB..=MIB),
        header_timeout: r.duration("header_timeout", 10 * SECOND),
        body_timeout: r.duration("body_timeout", 30 * SECOND),
        write_timeout: r.duration("write_timeout", 30 * SECOND),
        send_buffer: r.size("send_buffer", 64 * KIB, 4 * KIB..=64 * MIB),
        h2_streams: r.count("h2_streams", 100, 1..=100_000),
    };
    r.at_most(("line", limits.line), ("event", limits.event));
    limits
}

fn retry_hint(r: &mut Reader<'_>) -> RetryHint {
    let ill = r.duration("ill", 5 * SECOND);
    let hint = RetryHint {
        enabled: r.flag("enabled", true),
        base: r.duration("base", SECOND.min(ill)),
        ill,
        jitter: r.ratio("jitter", 0.5),
    };
    r.at_most(("base", hint.base), ("ill", hint.ill));
    hint
}

fn drain(r: &mut Reader<'_>) -> Drain {
    let timeout = r.duration_or_zero("timeout", 30 * SECOND);
    let drain = Drain { timeout, spread: r.duration_or_zero("spread", timeout.min(10 * SECOND)) };
    r.at_most(("spread", drain.spread), ("timeout", drain.timeout));
    drain
}

fn telemetry(r: &mut Reader<'_>) -> Telemetry {
    Telemetry {
        log: r.word("log", "info".to_owned(), values::some_text),
        format: r.choice(
            "format",
            LogFormat::Auto,
            &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
        development: r.flag("development", false),
        otlp: r.optional_table("otlp", otlp).flatten(),
    }
}

fn otlp(r: &mut Reader<'_>) -> Option<Otlp> {
    let endpoint = r.required("endpoint", |text| {
        let Endpoint { scheme, authority, base, .. } = values::endpoint(text)?;
        Ok(format!("{scheme}://{authority}{base}"))
    });
    let (headers, sample) = (upstreams::headers(r), r.ratio("sample", 1.0));
    endpoint.map(|endpoint| Otlp { endpoint, headers, sample })
}
