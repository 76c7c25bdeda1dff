//! No text makes the reader panic, and what it accepts keeps the promises of `Settings`.

use proptest::prelude::*;
use proptest::sample::select;
use toml::Value;

use super::*;

/// Lines that are near to a configuration, so that the walk goes deep.
fn line() -> impl Strategy<Value = String> {
    let headers = "[listen] [admin] [[upstreams]] [[routes]] [routes.match] [routes.timeouts] \
        [routes.retry] [routes.generic] [routes.fallback] [routes.detach] [session] [store] \
        [limits] [retry_hint] [heartbeat] [http1] [drain] [telemetry] [telemetry.otlp] [listen.match]";
    let keys = "address hosts prefix token name endpoints protocol ca path methods host upstream \
        dialect ids session_key after_partial idle total connect attempts base max mode grace \
        max_bytes kind event line jitter interval timeout log frist_event \"\" tls breaker retry_budget failover \
        credential credential_header headers model models health url weight priority failures ratio \
        master username password ca cert key client_cert trusted_proxies proxy_protocol prefix secret lease acknowledged on_failure spread otlp endpoint sample direct workers";
    let words = "auto llm memory redis off / /v1 127.0.0.1:1 http://h:1/a GET POST fallback \
        redis://h:1/2 rediss://u:p@h sentinel cluster refuse";
    let quoted = |text: String| Value::from(text).to_string();
    let value = prop_oneof![
        Just("[[], {}]".to_owned()),
        Just("{ env = \"HOME\" }".to_owned()),
        Just("{ query = \"a\", header = 1 }".to_owned()),
        Just("[{ url = \"http://h\", weight = 2 }, 7]".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(quoted),
        "[a-z0-9:/.@?#-]{0,12}".prop_map(quoted),
        "[0-9]{1,20}(ms|s|m|h|KiB|MiB|GB)".prop_map(quoted),
        one_word(words).prop_map(quoted),
        prop::collection::vec(one_word(words), 0..3).prop_map(|words| format!("{words:?}")),
    ];
    let pair = (one_word(keys), value).prop_map(|(key, value)| format!("{key} = {value}"));
    prop_oneof![1 => one_word(headers), 4 => pair]
}

fn one_word(words: &'static str) -> impl Strategy<Value = String> {
    select(words.split_whitespace().collect::<Vec<_>>()).prop_map(str::to_owned)
}

/// `key = "value"` lines for some of the keys, each in its range.
fn some_of(keys: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let count = keys.split_whitespace().count();
    prop::collection::vec(prop::option::of(value), count).prop_map(|values| {
        let pairs = keys.split_whitespace().zip(values);
        pairs.filter_map(|(key, value)| Some(format!("{key} = {:?}\n", value?))).collect()
    })
}

fn sizes(keys: &'static str) -> impl Strategy<Value = String> {
    some_of(keys, (1..9_u32).prop_map(|size| format!("{size}MiB")))
}

fn durations(keys: &'static str) -> impl Strategy<Value = String> {
    some_of(keys, (1..99_u32).prop_map(|time| format!("{time}s")))
}

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in any::<String>()) {
        if let Err(problems) = parse(&text, &Empty) {
            prop_assert!(problems.iter().count() > 0);
        }
    }

    #[test]
    fn every_near_miss_is_settings_or_problems(
        lines in prop::collection::vec(line(), 0..12),
        start in select(vec!["", LLM]),
    ) {
        match parse(&format!("{start}{}", lines.join("\n")), &Empty) {
            Ok(settings) => keeps_its_promises(&settings)?,
            Err(problems) => for problem in &problems {
                prop_assert!(!problem.path.is_empty() && !problem.message.is_empty());
            },
        }
    }

    #[test]
    fn bounds_in_range_are_ordered_or_refused_for_their_order(
        session in sizes("max_bytes"),
        limits in sizes("ring_bytes event line"),
        timeouts in durations("connect head first_event idle total"),
        retry in durations("base max"),
        hint in durations("base ill"),
        drain in durations("timeout spread"),
    ) {
        let text = format!(
            "{LLM}[session]\n{session}[limits]\n{limits}[retry_hint]\n{hint}[drain]\n{drain}{}\
             [routes.timeouts]\n{timeouts}[routes.retry]\n{retry}",
            route("")
        );
        match parse(&text, &Empty) {
            Ok(settings) => keeps_its_promises(&settings)?,
            Err(problems) => for problem in &problems {
                prop_assert!(problem.message.contains("is more than"), "{problem}");
            },
        }
    }
}

/// What the code behind the configuration takes for granted.
fn keeps_its_promises(settings: &Settings) -> Result<(), TestCaseError> {
    let Settings { upstreams, routes, session, limits, retry_hint, drain, .. } = settings;
    prop_assert!(upstreams.iter().all(|one| !one.endpoints.is_empty() && !one.name.is_empty()));
    let endpoints = || upstreams.iter().flat_map(|one| &one.endpoints);
    prop_assert!(endpoints().all(|endpoint| endpoint.weight >= 1));
    prop_assert!(!routes.is_empty());
    prop_assert!(routes.is_sorted_by(|one, next| one.path.len() >= next.path.len()));
    for Route { path, timeouts, retry, upstream, failover, .. } in routes.iter().map(|route| route.as_ref()) {
        prop_assert!(failover.iter().all(|other| other.name != upstream.name));
        prop_assert!(path.starts_with('/'));
        prop_assert!(retry.attempts >= 1 && retry.base <= retry.max && !retry.base.is_zero());
        let parts = [timeouts.head, timeouts.first_event, timeouts.idle];
        prop_assert!(parts.iter().all(|part| !part.is_zero() && *part <= timeouts.total));
        prop_assert!(timeouts.connect <= timeouts.head && !timeouts.connect.is_zero());
    }
    prop_assert!(limits.line <= limits.event && limits.event <= session.max_bytes);
    prop_assert!(session.max_bytes <= limits.ring_bytes);
    prop_assert!((0.0..=1.0).contains(&retry_hint.jitter) && retry_hint.base <= retry_hint.ill);
    prop_assert!(drain.spread <= drain.timeout);
    if let Store::Redis(redis) = &settings.store {
        prop_assert!(!redis.urls.is_empty() && (redis.urls.len() == 1 || redis.topology != Topology::Single));
        prop_assert!(redis.timeout < redis.lease && !redis.timeout.is_zero());
        prop_assert!((1..=32).contains(&redis.prefix.len()));
    }
    Ok(())
}
