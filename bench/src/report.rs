//! The report: one Markdown table per scenario. Figures as they were measured; what they mean is said elsewhere.

use std::fmt::Write as _;

use crate::scenario::{Metric, Sample, Scenario};
use crate::stats::{Spread, digits};

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

const ROWS: [(Row, &str); 10] = [
    (Row::Plain(Metric::Cpu), "CPU of the proxy, µs per event"),
    (Row::Plain(Metric::Slices), "runs of a proxy thread per event"),
    (Row::Plain(Metric::P50), "latency p50, µs"),
    (Row::Plain(Metric::P99), "latency p99, µs"),
    (Row::Added(Metric::P50), "added latency p50, µs"),
    (Row::Added(Metric::P99), "added latency p99, µs"),
    (Row::Plain(Metric::Lateness), "lateness of the upstream itself p99, µs"),
    (Row::Plain(Metric::Wall), "seconds per burst"),
    (Row::Plain(Metric::Empty), "user memory per stream before its first event, KiB"),
    (Row::Plain(Metric::Opened), "user memory per stream after its first event, KiB"),
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
    /// Everything that was measured.
    pub(crate) measured: Vec<Measured>,
}

impl Results<'_> {
    /// A heading and a table for every scenario.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            let _ = write!(text, "\n### {}\n\n{}", scenario.title(), self.table(index));
        }
        text
    }

    fn table(&self, scenario: usize) -> String {
        let names = self.peers.join(" | ");
        let mut text = format!("| | {names} | streamkeeper / nginx |\n|---|{}---|\n", "---|".repeat(self.peers.len()));
        for (row, name) in ROWS {
            let cells: Vec<Option<Spread>> =
                (0..self.peers.len()).map(|peer| Spread::of(&self.values(scenario, peer, row))).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let cells: Vec<String> = cells.into_iter().map(|cell| cell.map_or("–".into(), written)).collect();
            let ratio = if row == Row::Plain(Metric::Lateness) { "–".into() } else { self.ratio(scenario, row) };
            let _ = writeln!(text, "| {name} | {} | {ratio} |", cells.join(" | "));
        }
        text
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

    /// Of the two measurements of each block. A block where nginx's figure is not above zero (latency below the direct
    /// run's) has no ratio, and the cell says so.
    fn ratio(&self, scenario: usize, row: Row) -> String {
        let (Some(own), Some(nginx)) = (self.peer("streamkeeper"), self.peer("nginx")) else { return "–".into() };
        let ratios: Vec<f64> = (0..self.blocks)
            .filter_map(|block| {
                let below = self.value(scenario, nginx, row, block).filter(|below| *below > 0.0)?;
                Some(self.value(scenario, own, row, block)? / below)
            })
            .collect();
        let missing = self.blocks as usize - ratios.len();
        let note = if missing > 0 { format!(", {} of {} blocks", ratios.len(), self.blocks) } else { String::new() };
        Spread::of(&ratios).map_or("–".into(), |spread| format!("**{}**{note}", written(spread)))
    }
}

fn written(spread: Spread) -> String {
    let Spread { median, min, max, count } = spread;
    if count == 1 { digits(median) } else { format!("{} ({} to {})", digits(median), digits(min), digits(max)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::all;

    fn results(scenarios: &[Scenario], figures: &[(usize, u32, Sample)]) -> String {
        let measured = figures
            .iter()
            .map(|(peer, block, sample)| Measured { scenario: 0, peer: *peer, block: *block, sample: sample.clone() })
            .collect();
        let peers = vec!["direct", "nginx", "streamkeeper"];
        Results { scenarios, peers, blocks: 2, measured }.table(0)
    }

    #[test]
    fn ratios_are_taken_within_each_block() {
        let cpu = |value| vec![(Metric::Cpu, value)];
        let table =
            results(&all(true)[..1], &[(1, 0, cpu(10.0)), (2, 0, cpu(20.0)), (1, 1, cpu(20.0)), (2, 1, cpu(20.0))]);
        assert!(
            table.contains("| – | 15.0 (10.0 to 20.0) | 20.0 (20.0 to 20.0) | **1.50 (1.00 to 2.00)** |"),
            "{table}"
        );
    }

    #[test]
    fn added_latency_is_what_exceeds_the_direct_run_of_the_same_block() {
        let p50 = |value| vec![(Metric::P50, value)];
        let table = results(
            &all(true)[..1],
            &[
                (0, 0, p50(100.0)),
                (1, 0, p50(150.0)),
                (2, 0, p50(200.0)),
                (0, 1, p50(300.0)),
                (1, 1, p50(290.0)),
                (2, 1, p50(310.0)),
            ],
        );
        let row = table.lines().find(|line| line.starts_with("| added latency p50")).expect("a row");
        assert!(row.contains("| – | 20.0 (-10.0 to 50.0) | 55.0 (10.0 to 100) | **2.00**, 1 of 2 blocks |"), "{row}");
    }

    #[test]
    fn rows_without_figures_are_left_out() {
        let table = results(&all(true)[..1], &[(1, 0, vec![(Metric::Cpu, 1.0)])]);
        assert_eq!(table.lines().count(), 3, "{table}");
    }

    #[test]
    fn without_nginx_there_is_no_ratio() {
        let scenarios = all(true);
        let sample = |value| vec![(Metric::Cpu, value)];
        let measured = vec![Measured { scenario: 0, peer: 1, block: 0, sample: sample(2.0) }];
        let results = Results { scenarios: &scenarios, peers: vec!["direct", "streamkeeper"], blocks: 1, measured };
        assert!(results.table(0).ends_with("| – | 2.00 | – |\n"), "{}", results.table(0));
    }
}
