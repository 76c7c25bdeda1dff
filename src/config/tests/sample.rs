//! The sample at the repository's root is a promise: valid, complete, and equal to the defaults.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::super::reader::Context;
use super::super::{file, problem::Problems};
use super::*;

const SAMPLE: &str = include_str!("../../../config.toml");

/// What the sample's optional lines point to.
fn world() -> Fake {
    let mut env = Fake::default();
    env.vars.insert("STREAMKEEPER_ADMIN_TOKEN", "hunter2");
    env.files.insert("/run/secrets/streamkeeper-admin-token", "hunter2\n");
    env.vars.insert("LLM_API_KEY", "hunter3");
    env.files.insert("/run/secrets/llm-api-key", "hunter3\n");
    env.files.insert("/etc/streamkeeper/ca.pem", "-----BEGIN CERTIFICATE-----\n");
    env.vars.insert("REDIS_URL", "redis://:hunter4@redis.example.com");
    env.files.insert("/run/secrets/redis-url", "redis://:hunter4@redis.example.com\n");
    env.vars.insert("REDIS_PASSWORD", "hunter4");
    env.files.insert("/run/secrets/redis-password", "hunter4\n");
    for (cert, key) in [
        ("/etc/streamkeeper/cert.pem", "/etc/streamkeeper/key.pem"),
        ("/etc/streamkeeper/client.pem", "/etc/streamkeeper/client-key.pem"),
    ] {
        env.files.insert(cert, "-----BEGIN CERTIFICATE-----\n");
        env.files.insert(key, "-----BEGIN PRIVATE KEY-----\n");
    }
    env.files.insert("/etc/streamkeeper/redis-cert.pem", "-----BEGIN CERTIFICATE-----\n");
    env.files.insert("/etc/streamkeeper/redis-key.pem", "-----BEGIN PRIVATE KEY-----\n");
    env.vars.insert("STREAMKEEPER_SECRET", "hunter5");
    env.files.insert("/run/secrets/streamkeeper-secret", "hunter5\n");
    env.vars.insert("OTLP_API_KEY", "hunter6");
    env
}

/// `hosts` in `hosts = []`; `None` for anything but a key and its value.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

/// The sample as it stands, and with its Redis block in place of the memory store: one `#` taken from each line.
fn samples() -> [String; 2] {
    let memory = "[store]\nkind = \"memory\"\n";
    let start = SAMPLE.find("\n#[store]\n").expect("a block for Redis") + 1;
    let block = &SAMPLE[start..];
    let block = &block[..block.find("\n\n").expect("an empty line after it") + 1];
    let uncommented: String =
        block.lines().map(|line| format!("{}\n", line.strip_prefix('#').expect("a # before each line"))).collect();
    let without = SAMPLE.replacen(block, "", 1);
    assert!(without.contains(memory), "the memory store is gone");
    [without.clone(), without.replacen(memory, &uncommented, 1)]
}

/// Runs of optional lines, by their places: lines that follow each other go together until a key comes again, which is
/// then the other choice.
fn optional(lines: &[&str]) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let key_at = |index: usize| lines.get(index)?.strip_prefix('#').and_then(key);
    for index in 0..lines.len() {
        let Some(name) = key_at(index) else { continue };
        match runs.last_mut() {
            Some(run) if run.last() == Some(&(index - 1)) && run.iter().all(|at| key_at(*at) != Some(name)) => {
                run.push(index);
            }
            _ => runs.push(vec![index]),
        }
    }
    runs
}

/// The sample with one run of optional lines switched on, and the lines it stands in for switched off; once for each.
fn variants(sample: &str) -> Vec<String> {
    let lines: Vec<&str> = sample.lines().collect();
    let header = |line: &&str| line.starts_with('[');
    let variant = |run: Vec<usize>| {
        let section = lines[..run[0]].iter().rposition(header).unwrap_or(0);
        let end = lines[run[0]..].iter().position(header).map_or(lines.len(), |more| run[0] + more);
        let on = |at: usize| lines[at].strip_prefix('#').expect("an optional line");
        let replaced = |line: &str| key(line).is_some_and(|name| run.iter().any(|at| key(on(*at)) == Some(name)));
        let kept = lines.iter().enumerate().filter_map(|(at, line)| match run.contains(&at) {
            true => Some(on(at)),
            false => (!((section..end).contains(&at) && replaced(line))).then_some(*line),
        });
        kept.map(|line| format!("{line}\n")).collect()
    };
    optional(&lines).into_iter().map(variant).collect()
}

/// Every key in the text, as patterns such as `routes[].timeouts.idle`.
fn written(table: &Table, path: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => written(inner, &path, keys),
            Value::Array(items) => {
                items.iter().filter_map(Value::as_table).for_each(|inner| written(inner, &format!("{path}[]"), keys));
            }
            _ => {}
        }
        keys.insert(path);
    }
}

/// Whether the keys below are names of the writer's own choice.
fn is_free(key: &str) -> bool {
    ["upstreams[].headers.", "upstreams[].models.", "telemetry.otlp.headers."]
        .iter()
        .any(|table| key.starts_with(table))
}

#[test]
fn the_sample_is_valid_as_it_stands() {
    let settings = parse(SAMPLE, &Empty).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(settings.upstreams[0].endpoints[0].authority, "127.0.0.1:8000");
}

#[test]
fn the_sample_spells_out_the_defaults() {
    let required = ["", "[store]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:6379/0\"\n"];
    for (sample, required) in samples().iter().zip(required) {
        let settings = parse(sample, &Empty).unwrap_or_else(|problems| panic!("{problems}\n{sample}"));
        assert_eq!(format!("{settings:#?}"), format!("{:#?}", good(required)));
        // Debug shows no secret, so neither a URL.
        assert_eq!(settings.store, good(required).store);
    }
}
#[test]
fn every_optional_line_of_the_sample_is_valid() {
    let counts = samples().map(|sample| {
        let default = parse(&sample, &Empty).expect("valid");
        let variants = variants(&sample);
        for text in &variants {
            let settings = parse(text, &world()).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
            // A URL is a secret and does not show, but it can be compared.
            let changed = format!("{settings:?}") != format!("{default:?}") || settings.store != default.store;
            assert!(changed, "switching it on changes nothing\n{text}");
        }
        variants.len()
    });
    assert_eq!(counts, [25, 34], "optional lines were added or lost; is each of the form `#key = value`?");
}

#[test]
fn the_sample_shows_every_key_that_is_read_and_no_other() {
    let env = world();
    let (mut shown, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for text in samples().iter().flat_map(|sample| variants(sample)) {
        let table = file::table(&text).expect("TOML");
        written(&table, "", &mut shown);
        let context = Context::new(&env);
        context.read(table, file::root);
        asked.extend(context.asked.take());
        assert_eq!(Problems::or(context.finish().0, ()), Ok(()));
    }
    assert!(asked.contains("routes[].timeouts.first_event") && asked.contains("store.url.file"), "{asked:?}");
    shown.retain(|key| !is_free(key));
    asked.retain(|key| !is_free(key));
    assert_eq!(shown, asked);
}
