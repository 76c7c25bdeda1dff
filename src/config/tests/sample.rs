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
    env
}

/// `hosts` in `hosts = []`; `None` for anything but a key and its value.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

/// The sample with one optional line switched on, and the line it stands in for switched off; once for each.
fn variants() -> Vec<String> {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    let optional = lines.iter().enumerate().filter_map(|(index, line)| {
        let switched_on = line.strip_prefix('#')?;
        Some((index, switched_on, key(switched_on)?))
    });
    let header = |line: &&&str| line.starts_with('[');
    optional
        .map(|(index, switched_on, name)| {
            let section = lines[..index].iter().rposition(|line| header(&line)).unwrap_or(0);
            let end = lines[index..].iter().position(|line| header(&line)).map_or(lines.len(), |more| index + more);
            let kept =
                lines.iter().enumerate().filter(|(at, line)| !(section..end).contains(at) || key(line) != Some(name));
            let mut text: String = kept.map(|(_, line)| format!("{line}\n")).collect();
            text = text.replacen(&format!("#{switched_on}\n"), &format!("{switched_on}\n"), 1);
            assert!(text.contains(&format!("\n{switched_on}\n")), "{switched_on}");
            text
        })
        .collect()
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
    ["upstreams[].headers.", "upstreams[].models."].iter().any(|table| key.starts_with(table))
}

#[test]
fn the_sample_is_valid_as_it_stands() {
    let settings = parse(SAMPLE, &Empty).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(settings.upstreams[0].endpoints[0].authority, "127.0.0.1:8000");
}

#[test]
fn the_sample_spells_out_the_defaults() {
    let sample = parse(SAMPLE, &Empty).expect("valid");
    assert_eq!(format!("{sample:#?}"), format!("{:#?}", good("")));
}

#[test]
fn every_optional_line_of_the_sample_is_valid() {
    let variants = variants();
    assert_eq!(variants.len(), 21, "optional lines were added or lost; is each of the form `#key = value`?");
    let default = format!("{:?}", parse(SAMPLE, &Empty).expect("valid"));
    for text in variants {
        let settings = parse(&text, &world()).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_ne!(format!("{settings:?}"), default, "switching it on changes nothing\n{text}");
    }
}

#[test]
fn the_sample_shows_every_key_that_is_read_and_no_other() {
    let env = world();
    let (mut shown, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for text in variants() {
        let table = file::table(&text).expect("TOML");
        written(&table, "", &mut shown);
        let context = Context::new(&env);
        context.read(table, file::root);
        asked.extend(context.asked.take());
        assert_eq!(Problems::or(context.into_problems(), ()), Ok(()));
    }
    assert!(asked.contains("routes[].timeouts.first_event") && asked.contains("admin.token.file"), "{asked:?}");
    shown.retain(|key| !is_free(key));
    asked.retain(|key| !is_free(key));
    assert_eq!(shown, asked);
}
