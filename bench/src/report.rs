//! The report: for each scenario a table of figures and one of ratios, in Markdown; curves and pictures stand beside.
//! Figures as they were measured; what they mean is said elsewhere.

mod curve;
mod pictures;
mod plot;

use std::fmt::Write as _;

pub(crate) use plot::lines as line_plot;
pub(crate) use plot::{Axes, Line};

use crate::scenario::{Metric, Sample, Scenario};
use crate::stats::{Spread, digits, median_interval};

/// One measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Index of the scenario.
    pub(crate) scenario: usize,
    /// Index of the peer.
    pub(crate) peer: usize,
    /// Which block it belongs to.
    pub(crate) block: u32,
    /// Its figures.
    pub(crate) sample: Sample,
}

/// A row of a table: a metric, or what it is more than in the direct run of the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Plain(Metric),
    Added(Metric),
}

/// Whose figure is divided by whose.
const RATIOS: [(&str, &str); 6] = [
    ("streamkeeper", "nginx"),
    ("streamkeeper", "haproxy"),
    ("streamkeeper", "envoy"),
    ("streamkeeper", "hyper"),
    ("streamkeeper", "streamkeeper-hyper"),
    ("streamkeeper+redis", "streamkeeper"),
];

/// Metrics of which the direct run has its part, and what the rest is called.
const ADDED: [(Metric, &str); 4] = [
    (Metric::P50, "added latency p50, µs"),
    (Metric::P99, "added latency p99, µs"),
    (Metric::Slab, "kernel objects of the proxy per stream, KiB"),
    (Metric::Buffers, "socket buffers of the proxy per stream, KiB"),
];

/// All measurements of a run.
#[derive(Debug)]
pub(crate) struct Results<'a> {
    /// The scenarios that were played.
    pub(crate) scenarios: &'a [Scenario],
    /// The peers' names.
    pub(crate) peers: Vec<&'static str>,
    /// Blocks.
    pub(crate) blocks: u32,
    /// Decides the draws of confidence intervals.
    pub(crate) seed: u64,
    /// Everything that was measured.
    pub(crate) measured: Vec<Measured>,
}

impl Results<'_> {
    /// A heading and tables for every scenario that was played to anybody, a curve's points together.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            if !self.measured.iter().any(|m| m.scenario == index) {
                continue;
            }
            if scenario.at.is_none() {
                let _ = write!(text, "\n### {}\n\n{}", scenario.title(), self.table(index));
            } else if self.scenarios.iter().position(|other| other.name == scenario.name) == Some(index) {
                let _ = write!(text, "\n### {}\n\n{}", scenario.title(), self.curve(scenario.name));
            }
        }
        text
    }

    /// Figures, and ratios if there are any. Columns and rows without a figure are left out.
    fn table(&self, scenario: usize) -> String {
        let peers: Vec<usize> = (0..self.peers.len()).filter(|peer| self.played(scenario, *peer)).collect();
        let names: Vec<&str> = peers.iter().filter_map(|peer| self.peers.get(*peer).copied()).collect();
        let mut text = head(&names);
        for (row, name) in rows() {
            let cells: Vec<Option<Spread>> =
                peers.iter().map(|peer| Spread::of(&self.values(scenario, *peer, row))).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(|cell| cell.map_or("–".into(), written));
                let _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<String>>().join(" | "));
            }
        }
        text + &self.ratios(scenario)
    }

    fn ratios(&self, scenario: usize) -> String {
        let pairs: Vec<(usize, usize, String)> = RATIOS
            .into_iter()
            .filter_map(|(above, below)| Some((self.peer(above)?, self.peer(below)?, format!("{above} / {below}"))))
            .filter(|(above, below, _)| self.played(scenario, *above) && self.played(scenario, *below))
            .collect();
        if pairs.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = pairs.iter().map(|(.., name)| name.as_str()).collect();
        let mut text = format!("\n{}", head(&names));
        for (row, name) in rows().filter(|(row, _)| !matches!(row, Row::Plain(of) if !of.compares())) {
            let cells: Vec<Option<String>> =
                pairs.iter().map(|(above, below, _)| self.ratio(scenario, row, *above, *below)).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(|cell| cell.unwrap_or("–".into()));
                let _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<String>>().join(" | "));
            }
        }
        text
    }

    fn played(&self, scenario: usize, peer: usize) -> bool {
        self.measured.iter().any(|m| (m.scenario, m.peer) == (scenario, peer))
    }

    fn values(&self, scenario: usize, peer: usize, row: Row) -> Vec<f64> {
        (0..self.blocks).filter_map(|block| self.value(scenario, peer, row, block)).collect()
    }

    fn value(&self, scenario: usize, peer: usize, row: Row, block: u32) -> Option<f64> {
        let plain = |peer: usize, metric: Metric| {
            let one = self.measured.iter().find(|m| (m.scenario, m.peer, m.block) == (scenario, peer, block))?;
            one.sample.iter().find(|(of, _)| *of == metric).map(|(_, value)| *value)
        };
        match row {
            Row::Plain(metric) => plain(peer, metric),
            Row::Added(metric) => {
                let direct = self.peer("direct").filter(|direct| *direct != peer)?;
                Some(plain(peer, metric)? - plain(direct, metric)?)
            }
        }
    }

    fn peer(&self, name: &str) -> Option<usize> {
        self.peers.iter().position(|peer| *peer == name)
    }

    /// Of the two measurements of each block. A block where the figure below the line is not above zero (latency less
    /// than the direct run's) has no ratio, and the cell says so.
    fn ratio(&self, scenario: usize, row: Row, above: usize, below: usize) -> Option<String> {
        let pairs: Vec<(f64, f64)> = (0..self.blocks)
            .filter_map(|block| {
                Some((self.value(scenario, above, row, block)?, self.value(scenario, below, row, block)?))
            })
            .collect();
        let ratios: Vec<f64> =
            pairs.iter().filter(|(_, below)| *below > 0.0).map(|(above, below)| above / below).collect();
        let median = digits(Spread::of(&ratios)?.median);
        let interval = median_interval(&ratios, self.seed)
            .map_or(String::new(), |(low, high)| format!(" [{}, {}]", digits(low), digits(high)));
        let missing = ratios.len() < pairs.len();
        let note = if missing { format!(", {} of {} blocks", ratios.len(), pairs.len()) } else { String::new() };
        Some(format!("**{median}**{interval}{note}"))
    }
}

/// Plain rows, and behind each what is added to the direct run.
fn rows() -> impl Iterator<Item = (Row, &'static str)> {
    Metric::ALL.into_iter().flat_map(|metric| {
        let added = ADDED.into_iter().find(|(of, _)| *of == metric);
        [Some((Row::Plain(metric), metric.name())), added.map(|(of, name)| (Row::Added(of), name))]
            .into_iter()
            .flatten()
    })
}

fn head(names: &[&str]) -> String {
    format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()))
}

fn written(spread: Spread) -> String {
    let Spread { median, min, max, count } = spread;
    if count == 1 { digits(median) } else { format!("{} ({} to {})", digits(median), digits(min), digits(max)) }
}

#[cfg(test)]
mod tests;
