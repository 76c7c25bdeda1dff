//! Which figures are drawn, and as what.

use super::plot::{Axes, Bar, Line, bars, lines};
use super::{Results, Row};
use crate::scenario::Metric;
use crate::stats::Spread;

/// One that is drawn as bars: file, scenario, metric, title.
const BARS: [(&str, &str, Metric, &str); 4] = [
    ("cpu-paced.svg", "paced", Metric::Cpu, "CPU of the proxy per event, one event per write (µs)"),
    ("cpu-burst.svg", "burst", Metric::Cpu, "CPU of the proxy per event, bursts (µs)"),
    ("latency-paced.svg", "paced", Metric::P50, "Latency from due to received, median (µs)"),
    ("memory-silent.svg", "silent", Metric::Empty, "User memory per silent stream (KiB)"),
];

/// One that is drawn as lines: file, scenario, metric, axes.
const LINES: [(&str, &str, Metric, Axes); 6] = [
    (
        "growth-memory.svg",
        "growth",
        Metric::Held,
        Axes { title: "User memory by number of silent streams", x: "streams", y: "MiB", log: false },
    ),
    (
        "growth-cpu.svg",
        "growth-paced",
        Metric::Cpu,
        Axes {
            title: "CPU of the proxy per event at 10,000 events/s in all",
            x: "streams",
            y: "µs per event",
            log: false,
        },
    ),
    (
        "size-burst.svg",
        "size",
        Metric::Cpu,
        Axes {
            title: "CPU of the proxy per event by its size, bursts",
            x: "bytes per event",
            y: "µs per event",
            log: true,
        },
    ),
    (
        "size-paced.svg",
        "size-paced",
        Metric::Cpu,
        Axes {
            title: "CPU of the proxy per event by its size, paced",
            x: "bytes per event",
            y: "µs per event",
            log: true,
        },
    ),
    (
        "fan-out.svg",
        "fan-out",
        Metric::Cpu,
        Axes { title: "CPU per delivered event", x: "clients per stream", y: "µs per delivered event", log: false },
    ),
    (
        "ring.svg",
        "ring",
        Metric::Kept,
        Axes { title: "User memory per kept byte", x: "events kept per session", y: "bytes per byte", log: true },
    ),
];

impl Results<'_> {
    /// Names and contents of all pictures for which there are figures.
    pub(crate) fn pictures(&self) -> Vec<(&'static str, String)> {
        let bars = BARS.into_iter().filter_map(|(file, scenario, metric, title)| {
            let bars = self.bars(scenario, metric);
            (!bars.is_empty()).then(|| (file, self::bars(title, &bars)))
        });
        let lines = LINES.into_iter().filter_map(|(file, scenario, metric, axes)| {
            let lines = self.lines(scenario, metric);
            (!lines.is_empty()).then(|| (file, self::lines(&axes, &lines)))
        });
        bars.chain(lines).collect()
    }

    fn bars(&self, scenario: &str, metric: Metric) -> Vec<Bar> {
        let Some(index) = self.scenarios.iter().position(|s| s.name == scenario) else { return Vec::new() };
        let bar = |(peer, name): (usize, &&'static str)| {
            Some(Bar { name, spread: Spread::of(&self.values(index, peer, Row::Plain(metric)))? })
        };
        self.peers.iter().enumerate().filter_map(bar).collect()
    }

    fn lines(&self, scenario: &str, metric: Metric) -> Vec<Line> {
        let points = self.points(scenario);
        let line = |(peer, name): (usize, &&'static str)| {
            let points = self.medians(&points, peer, metric);
            // One point makes no line.
            (points.len() > 1).then_some(Line { name, points })
        };
        self.peers.iter().enumerate().filter_map(line).collect()
    }
}
