//! Histograms for what happens all the time: recording is two additions to atomics, and what was recorded takes no more
//! room however much it is. The exporter's own keep each sample, behind locks, until somebody scrapes.
//!
//! Not here: their names (`metrics`). Source of the text: Prometheus' exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One metric: a histogram for each route.
#[derive(Debug)]
pub(super) struct Histograms {
    name: &'static str,
    help: &'static str,
    /// Upper bounds of all buckets but the last, in seconds, ascending.
    bounds: &'static [f64],
    routes: Mutex<BTreeMap<String, Arc<Histogram>>>,
}

/// What was recorded of one route.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    buckets: Box<[AtomicU64]>,
    /// Nanoseconds: enough for 500 years.
    sum: AtomicU64,
}

impl Histograms {
    pub(super) const fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self { name, help, bounds, routes: Mutex::new(BTreeMap::new()) }
    }

    /// The one of this route, which is shown from now on.
    pub(super) fn of(&self, route: &str) -> Arc<Histogram> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(route) {
            return Arc::clone(known);
        }
        let new = Arc::new(Histogram::new(self.bounds));
        routes.insert(route.to_owned(), Arc::clone(&new));
        new
    }

    /// Appends all of it as Prometheus reads it.
    pub(super) fn render(&self, out: &mut String) {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.is_empty() {
            return;
        }
        let name = self.name;
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} histogram", self.help);
        for (route, histogram) in routes.iter() {
            histogram.render(name, &escaped(route), out);
        }
        out.push('\n');
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// It took so long this time.
    pub(super) fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn render(&self, name: &str, route: &str, out: &mut String) {
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {count}");
        }
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_sum{{route=\"{route}\"}} {sum}\n{name}_count{{route=\"{route}\"}} {count}");
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [0.001, 0.5, 1.0];

    #[test]
    fn each_bucket_holds_what_is_at_most_its_bound_and_all_below() {
        let histograms = Histograms::new("some_seconds", "How long", &BOUNDS);
        histograms.of("b");
        let one = histograms.of("a\"\\");
        for micros in [0, 1000, 1001, 500_000, 999_999, 1_000_001, 4_000_000] {
            one.record(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histograms.render(&mut text);
        let route = "route=\"a\\\"\\\\\"";
        let expected = format!(
            "# HELP some_seconds How long\n# TYPE some_seconds histogram\n\
             some_seconds_bucket{{{route},le=\"0.001\"}} 2\nsome_seconds_bucket{{{route},le=\"0.5\"}} 4\n\
             some_seconds_bucket{{{route},le=\"1\"}} 5\nsome_seconds_bucket{{{route},le=\"+Inf\"}} 7\n\
             some_seconds_sum{{{route}}} 6.502001\nsome_seconds_count{{{route}}} 7\n"
        );
        let (shown, nothing) = text.split_at(expected.len());
        assert_eq!(shown, expected);
        assert_eq!(nothing.matches(" 0\n").count(), BOUNDS.len() + 3, "{nothing}");
    }

    #[test]
    fn who_records_on_one_route_records_in_the_same_and_what_has_no_route_says_nothing() {
        let histograms = Histograms::new("some_seconds", "How long", &BOUNDS);
        let mut text = String::new();
        histograms.render(&mut text);
        assert_eq!(text, "");
        assert!(Arc::ptr_eq(&histograms.of("a"), &histograms.of("a")));
        assert!(!Arc::ptr_eq(&histograms.of("a"), &histograms.of("b")));
    }
}
