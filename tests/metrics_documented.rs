//! docs/metrics.md against the code: every documented metric exists, no undocumented one does, and a running proxy shows
//! the types, labels and label values that the page promises. Dashboard and rules use documented metrics only, and every
//! alert has its section in the runbook.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use streamkeeper_session::{Code, Kind};
use support::{Proxy, upstream};

const METRICS: &str = include_str!("../src/telemetry/metrics.rs");
const DOCUMENT: &str = include_str!("../docs/metrics.md");
const RUNBOOK: &str = include_str!("../docs/runbook.md");
const BOARD: &str = include_str!("../deploy/grafana/streamkeeper.json");
const RULES: &str = include_str!("../deploy/prometheus/rules.yaml");

/// A metric's name → type and the names of its labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The cells of each row of the tables whose head begins with `head`.
fn rows(head: &str) -> Vec<Vec<&'static str>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        inside = line.starts_with('|') && (inside || line.starts_with(head));
        if inside && line.starts_with("| `") {
            rows.push(cells);
        }
    }
    rows
}

/// What stands in backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn documented() -> Metrics {
    let metrics = rows("| name |").into_iter().map(|cells| {
        let [name, kind, labels, unit, meaning, move_] = cells[..] else { panic!("six cells: {cells:?}") };
        assert!(![unit, meaning, move_].contains(&""), "{name} says everything");
        (name.trim_matches('`').to_owned(), (kind.to_owned(), quoted(labels)))
    });
    let count = metrics.len();
    let metrics: Metrics = metrics.collect();
    assert_eq!(metrics.len(), count, "none stands there twice");
    metrics
}

/// What metrics.rs describes: name → type. Each description names its metric by a constant, as a histogram of our own
/// does.
fn described() -> BTreeMap<String, String> {
    let constants: BTreeMap<_, _> = METRICS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("const ")?.split_once(": &str = \""))
        .map(|(constant, rest)| (constant, rest.trim_end_matches("\";")))
        .collect();
    let calls = METRICS.split("describe_").skip(1).filter_map(|call| call.split_once("!("));
    let calls = calls.filter(|(kind, _)| ["counter", "gauge", "histogram"].contains(kind)); // not the imports
    let own = METRICS.split("Histograms::new(").skip(1).map(|rest| ("histogram", rest));
    let described: BTreeMap<_, _> = calls
        .chain(own)
        .map(|(kind, rest)| {
            let constant = rest.split([',', ')']).next().unwrap_or_default().trim();
            let name = constants.get(constant).unwrap_or_else(|| panic!("{constant} is a constant with a name"));
            ((*name).to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(described.len(), constants.len(), "each constant is described: {constants:?}");
    described
}

#[test]
fn every_documented_metric_exists_and_no_undocumented_one_does() {
    let documented: BTreeMap<_, _> = documented().into_iter().map(|(name, (kind, _))| (name, kind)).collect();
    let described = described();
    let missing: Vec<_> = documented.keys().filter(|name| !described.contains_key(*name)).collect();
    let unsaid: Vec<_> = described.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(missing.is_empty() && unsaid.is_empty(), "not in metrics.rs: {missing:?}; not in metrics.md: {unsaid:?}");
    assert_eq!(documented, described);
}

#[test]
fn metrics_are_made_in_one_file() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("telemetry/metrics.rs") {
                let text = fs::read_to_string(&path).unwrap();
                for make in ["counter!(", "gauge!(", "histogram!("] {
                    assert!(!text.contains(make), "{} makes a metric", path.display());
                }
            }
        }
    }
}

#[test]
fn the_codes_are_those_of_the_code() {
    let documented: Vec<_> =
        rows("| code |").iter().map(|cells| (cells[0].trim_matches('`'), cells[1].trim_matches('`'))).collect();
    let codes: Vec<_> = Code::ALL.iter().map(|code| (code.as_str(), code.kind().as_str())).collect();
    assert_eq!(documented, codes);
    let kinds = closed_sets().remove(&("stream_errors_total".to_owned(), "error_type".to_owned())).unwrap();
    assert!(kinds.iter().all(|kind| Kind::from_wire(kind).is_some()), "{kinds:?}");
    assert!(codes.iter().all(|(_, kind)| kinds.contains(*kind)), "{kinds:?}");
}

/// (metric, label) → its values. What is configured or of the build is not in it.
fn closed_sets() -> BTreeMap<(String, String), BTreeSet<String>> {
    let codes = || Code::ALL.iter().map(|code| code.as_str().to_owned());
    let mut sets = BTreeMap::new();
    for cells in rows("| label |") {
        let mut values = quoted(cells[2]);
        if cells[2].contains("codes below") {
            values.extend(codes());
        }
        for metric in quoted(cells[1]) {
            for label in quoted(cells[0]) {
                sets.insert((metric.clone(), label), values.clone());
            }
        }
    }
    sets
}

#[test]
fn every_label_is_explained() {
    let open: BTreeSet<_> =
        rows("| label |").iter().filter(|cells| cells[1] == "all").flat_map(|cells| quoted(cells[0])).collect();
    let sets = closed_sets();
    let metrics = documented();
    for (name, (_, labels)) in &metrics {
        for label in labels {
            let closed = sets.get(&(name.clone(), label.clone())).is_some_and(|values| !values.is_empty());
            assert!(closed != open.contains(label), "{name}: {label} is one of a closed set, or configured");
        }
    }
    for (name, label) in sets.keys() {
        assert!(metrics.get(name).is_some_and(|(_, labels)| labels.contains(label)), "{name} has no {label}");
    }
}

/// `name{label="value",…} number` in its parts.
fn sample(line: &str) -> (&str, Vec<(&str, &str)>) {
    let Some((name, rest)) = line.split_once('{') else { return (line.split(' ').next().unwrap(), Vec::new()) };
    let (labels, _) = rest.rsplit_once("\"} ").expect("labels and a number");
    (name, labels.split("\",").filter_map(|pair| pair.split_once("=\"")).collect())
}

/// The family that a sample belongs to.
fn family<'a>(name: &'a str, metrics: &Metrics) -> &'a str {
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    part.filter(|family| metrics.get(*family).is_some_and(|(kind, _)| kind == "histogram")).unwrap_or(name)
}

#[tokio::test]
async fn a_running_proxy_shows_what_the_page_says() {
    let llm = upstream().event("a").event("b").end().start().await;
    // What is counted before the first proxy of a test process serves has nobody to count it.
    let _first = Proxy::before(&llm, "").await;
    let proxy = Proxy::before(&llm, "").await;
    proxy.get("/chat").events().await.rest().await;
    let text = proxy.admin_get("/metrics").await.text().await;
    let (metrics, sets) = (documented(), closed_sets());
    let mut shown = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(metrics.get(name).map(|(kind, _)| kind.as_str()), Some(kind), "{name}");
            continue;
        }
        let (name, labels) = sample(line);
        let name = family(name, &metrics);
        let said = &metrics.get(name).unwrap_or_else(|| panic!("{name} is documented")).1;
        let labels: Vec<_> = labels.into_iter().filter(|(label, _)| *label != "le").collect();
        assert_eq!(labels.iter().map(|(label, _)| (*label).to_owned()).collect::<BTreeSet<_>>(), *said, "{line}");
        for (label, value) in labels {
            if let Some(values) = sets.get(&(name.to_owned(), label.to_owned())) {
                assert!(values.contains(value), "{name}: {label} is never {value:?}");
            }
            shown.insert((name.to_owned(), label.to_owned(), value.to_owned()));
        }
    }
    // The first of a kind must be an increase, so it cannot be the first sample: the whole set is there with 0. What
    // belongs to Redis is there when Redis is.
    for ((name, label), values) in &sets {
        let of_redis = name.starts_with("stream_store_") || name == "stream_takeovers_total";
        for value in values.iter().filter(|_| !of_redis) {
            let sample = (name.clone(), label.clone(), value.clone());
            assert!(shown.contains(&sample), "{sample:?} is there before it happens");
        }
    }
}

/// The names of metrics in `text`, as families.
fn used(text: &str, metrics: &Metrics) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words
        .filter(|word| word.starts_with("stream_") || word.starts_with("process_"))
        .map(|word| family(word, metrics).to_owned())
        .collect()
}

#[test]
fn dashboard_and_rules_use_documented_metrics_only() {
    let metrics = documented();
    for (place, text) in [("the dashboard", BOARD), ("the rules", RULES)] {
        let used = used(text, &metrics);
        assert!(used.len() > 10, "{place} was read: {used:?}");
        for name in used {
            assert!(metrics.contains_key(&name), "{name} in {place} is documented");
        }
    }
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() {
    let alerts: Vec<_> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: Vec<_> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections.iter().collect::<BTreeSet<_>>(), alerts.iter().collect::<BTreeSet<_>>());
    assert_eq!(alerts.len(), sections.len(), "each once");
    for (alert, text) in alerts.iter().zip(RULES.split("- alert: ").skip(1)) {
        let link = format!("runbook: docs/runbook.md#{}\n", alert.to_lowercase());
        assert!(text.contains(&link), "{alert} links to {link:?}");
        assert!(text.contains("severity: "), "{alert} has a severity");
    }
    for section in RUNBOOK.split("\n## ").skip(1) {
        assert!(section.contains("**Whose fault.**") && section.contains("**Do.**"), "{section}");
    }
}
