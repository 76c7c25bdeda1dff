//! `[[routes]]`: what happens to which requests.

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use toml::Table;

use super::file::SECOND;
use super::keys::one_of_words;
use super::reader::{Reader, list, text};
use super::settings::{
    Detach, DialectChoice, Fallback, Generic, Ids, Prefill, Retry, Route, Rung, SessionKey, Timeouts, Upstream,
};
use super::upstreams::{chain, nowhere, upstream_of};
use super::values;

const MINUTE: Duration = Duration::from_secs(60);

/// Reads all routes and puts the most specific first: longer paths, then those with a host, then those with methods.
/// Without any, everything goes to the only upstream.
pub(super) fn read(r: &mut Reader<'_>, upstreams: &[Arc<Upstream>], prefix: &str) -> Vec<Arc<Route>> {
    let default = match upstreams {
        [only] => vec![Table::from_iter([("upstream".to_owned(), only.name.as_str().into())])],
        _ => Vec::new(),
    };
    let mut seen: Vec<(String, Match)> = Vec::new();
    let mut routes = r.tables("routes", default, |r| {
        let matches = r.table("match", |r| read_match(r, prefix));
        if let Some((place, _)) = seen.iter().find(|(_, earlier)| earlier.overlaps(&matches))
            && r.sound("match")
        {
            r.problem("match", format!("some requests match {place} just as well; make them differ"));
        }
        seen.push((r.path().to_owned(), matches.clone()));
        Some(Arc::new(route(r, matches, upstreams)))
    });
    if seen.is_empty() && r.sound("routes") && r.sound("upstreams") {
        r.problem("routes", "there is none, so nothing would be passed on; write [[routes]] with an `upstream`");
    }
    routes.sort_by_key(|route| (Reverse(route.path.len()), route.host.is_none(), route.methods.is_empty()));
    routes
}

fn route(r: &mut Reader<'_>, matches: Match, upstreams: &[Arc<Upstream>]) -> Route {
    const DIALECTS: [(&str, DialectChoice); 11] = [
        ("auto", DialectChoice::Auto),
        ("openai", DialectChoice::OpenAi),
        ("responses", DialectChoice::Responses),
        ("anthropic", DialectChoice::Anthropic),
        ("gemini", DialectChoice::Gemini),
        ("cohere", DialectChoice::Cohere),
        ("mcp", DialectChoice::Mcp),
        ("langgraph", DialectChoice::LangGraph),
        ("langserve", DialectChoice::LangServe),
        ("ai_sdk", DialectChoice::AiSdk),
        ("generic", DialectChoice::Generic),
    ];
    const PREFILLS: [(&str, Prefill); 3] = [
        ("prefix", Prefill::Prefix),
        ("continue_final_message", Prefill::ContinueFinalMessage),
        ("trailing", Prefill::Trailing),
    ];
    const IDS: [(&str, Ids); 4] = [("auto", Ids::Auto), ("issue", Ids::Issue), ("keep", Ids::Keep), ("off", Ids::Off)];

    let fallback = r.table("fallback", fallback);
    let prefill = r.optional("prefill", |word| one_of_words(word, &PREFILLS));
    let upstream = r.required("upstream", |name| upstream_of(name, upstreams)).unwrap_or_else(nowhere);
    let failover = failover(r, &upstream, upstreams);
    Route {
        name: matches.label(),
        path: matches.path,
        methods: matches.methods,
        host: matches.host,
        upstream,
        failover,
        dialect: r.choice("dialect", DialectChoice::Auto, &DIALECTS),
        generic: r.table("generic", generic),
        ids: r.choice("ids", Ids::Auto, &IDS),
        session_key: r.optional_table("session_key", session_key).flatten(),
        credential_cookies: r.list("credential_cookies", &[], values::cookie_name),
        timeouts: r.table("timeouts", timeouts),
        idle_on_content: r.choice("idle_on", false, &[("events", false), ("content", true)]),
        retry: r.table("retry", retry),
        fallback,
        after_partial: after_partial(r, fallback, prefill),
        prefill,
        detach: r.table("detach", detach),
        commit_after: r.duration_or_zero("commit_after", 15 * SECOND),
        strict_resume: r.flag("strict_resume", false),
        upgrade: r.flag("upgrade", true),
        plans: OnceLock::new(),
    }
}

/// The upstream's own list, unless the route has one.
fn failover(r: &mut Reader<'_>, upstream: &Upstream, upstreams: &[Arc<Upstream>]) -> Vec<Arc<Upstream>> {
    if let Some(names) = r.optional_list("failover", values::label) {
        return chain(r, "failover", upstream, &names, upstreams);
    }
    r.note("failover", list(&upstream.failover));
    // What is wrong with the upstream's own list was noted there.
    upstream.failover.iter().filter_map(|name| upstream_of(name, upstreams).ok()).collect()
}

/// Which requests a route takes.
#[derive(Debug, Clone)]
struct Match {
    path: String,
    methods: Vec<Method>,
    host: Option<String>,
}

impl Match {
    /// Whether a request could match both, with nothing to say which is more specific.
    fn overlaps(&self, other: &Self) -> bool {
        let methods = if self.methods.is_empty() || other.methods.is_empty() {
            self.methods.is_empty() && other.methods.is_empty()
        } else {
            self.methods.iter().any(|method| other.methods.contains(method))
        };
        self.path == other.path && self.host == other.host && methods
    }

    /// `POST chat.example.com/v1`: unique among routes that do not overlap.
    fn label(&self) -> String {
        let mut label = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
        if !label.is_empty() {
            label.push(' ');
        }
        label + self.host.as_deref().unwrap_or_default() + &self.path
    }
}

fn read_match(r: &mut Reader<'_>, prefix: &str) -> Match {
    let matches = Match {
        path: r.word("path", "/".to_owned(), values::path_prefix),
        methods: r.list("methods", &[], values::method),
        host: r.optional("host", values::host),
    };
    if matches.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        r.problem("path", format!("is never reached under the reserved `listen.prefix` ({prefix}); change one"));
    }
    matches
}

fn generic(r: &mut Reader<'_>) -> Generic {
    let generic = Generic {
        done_events: r.list("done_events", &[], values::event_name),
        done_data: r.list("done_data", &[], values::some_text),
        error_events: r.list("error_events", &["error"], values::event_name),
    };
    if let Some(name) = generic.done_events.iter().find(|name| generic.error_events.contains(name)) {
        r.problem("done_events", format!("{name:?} is one of `error_events` too; an event is one or the other"));
    }
    generic
}

fn session_key(r: &mut Reader<'_>) -> Option<SessionKey> {
    let session_key = r.one_of(&[
        ("query", &|name| values::some_text(name).map(SessionKey::Query)),
        ("header", &|name| values::header_name(name).map(SessionKey::Header)),
        ("cookie", &|name| values::cookie_name(name).map(SessionKey::Cookie)),
    ]);
    match &session_key {
        Some(SessionKey::Query(name)) => r.note("query", text(name)),
        Some(SessionKey::Header(name)) => r.note("header", text(name.as_str())),
        Some(SessionKey::Cookie(name)) => r.note("cookie", text(name)),
        None => {}
    }
    session_key
}

/// A bound that is set below a default brings that default down with it; only what is written can contradict.
fn timeouts(r: &mut Reader<'_>) -> Timeouts {
    let total = r.duration("total", 15 * MINUTE);
    let head = r.duration("head", total.min(30 * SECOND));
    let connect = r.duration("connect", head.min(5 * SECOND));
    let first_event = r.duration("first_event", total.min(MINUTE));
    let idle = r.duration("idle", total.min(MINUTE));
    r.at_most(("connect", connect), ("head", head));
    for part in [("head", head), ("first_event", first_event), ("idle", idle)] {
        r.at_most(part, ("total", total));
    }
    Timeouts { connect, head, first_event, idle, total }
}

fn retry(r: &mut Reader<'_>) -> Retry {
    let max = r.duration("max", 10 * SECOND);
    let retry = Retry {
        attempts: r.count("attempts", 3, 1..=100),
        base: r.duration("base", max.min(SECOND / 4)),
        max,
        after_send: r.flag("after_send", true),
    };
    r.at_most(("base", retry.base), ("max", retry.max));
    retry
}

fn fallback(r: &mut Reader<'_>) -> Option<Fallback> {
    let wanted = r.choice("mode", true, &[("non_stream", true), ("off", false)]);
    let fallback = Fallback { timeout: r.duration("timeout", 2 * MINUTE) };
    wanted.then_some(fallback)
}

fn after_partial(r: &mut Reader<'_>, fallback: Option<Fallback>, prefill: Option<Prefill>) -> Vec<Rung> {
    const RUNGS: [(&str, Rung); 3] =
        [("native_resume", Rung::NativeResume), ("continuation", Rung::Continuation), ("fallback", Rung::Fallback)];
    let (written, possible) = (r.has("after_partial"), fallback.is_some());
    let rung = |word: &str| one_of_words(word, &RUNGS);
    let default: &[&str] = if possible { &["native_resume", "fallback"] } else { &["native_resume"] };
    let ladder = r.list("after_partial", default, rung);
    if (1..ladder.len()).any(|end| ladder.iter().take(end).any(|rung| ladder.get(end) == Some(rung))) {
        r.problem("after_partial", "has a rung twice; each is tried once");
    }
    if written && !possible && ladder.contains(&Rung::Fallback) {
        r.problem("after_partial", "has \"fallback\" while `fallback.mode` is \"off\"; remove one of them");
    }
    if ladder.contains(&Rung::Continuation) && prefill.is_none() && r.sound("prefill") {
        r.problem(
            "after_partial",
            "has \"continuation\", but `prefill` does not say how the upstream is asked to go on",
        );
    }
    ladder
}

fn detach(r: &mut Reader<'_>) -> Detach {
    // Read in any mode, so that the mode can be changed with the rest left as it is.
    let grace = Detach::Grace(r.duration("grace", 30 * SECOND));
    r.choice("mode", grace, &[("cancel", Detach::Cancel), ("grace", grace), ("continue", Detach::Continue)])
}
