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

/// Whose figure is divided by whose.
const RATIOS: [(&str, &str); 3] =
    [("streamkeeper", "nginx"), ("streamkeeper", "haproxy"), ("streamkeeper+redis", "streamkeeper")];

const ROWS: [(Row, &str); 19] = [
    (Row::Plain(Metric::Cpu), "CPU of the proxy, µs per event"),
    (Row::Plain(Metric::Slices), "runs of a proxy thread per event"),
    (Row::Plain(Metric::StoreCpu), "CPU of redis-server, µs per event"),
    (Row::Plain(Metric::P50), "latency p50, µs"),
    (Row::Plain(Metric::P99), "latency p99, µs"),
    (Row::Added(Metric::P50), "added latency p50, µs"),
    (Row::Added(Metric::P99), "added latency p99, µs"),
    (Row::Plain(Metric::Lateness), "lateness of the upstream itself p99, µs"),
    (Row::Plain(Metric::Wall), "seconds per burst"),
    (Row::Plain(Metric::Stored), "events per second until Redis has all"),
    (Row::Plain(Metric::Empty), "user memory per stream before its first event, KiB"),
    (Row::Plain(Metric::Opened), "user memory per stream after its first event, KiB"),
    (Row::Plain(Metric::Replayed), "seconds until all have what they missed"),
    (Row::Plain(Metric::ReplayCpu), "CPU of the proxies, µs per client"),
    (Row::Plain(Metric::ReplayStoreCpu), "CPU of redis-server, µs per client"),
    (Row::Plain(Metric::KeptOne), "Redis memory of a session of one event, KiB"),
    (Row::Plain(Metric::KeptAll), "Redis memory of a session of all its events, KiB"),
    (Row::Plain(Metric::KeptUsed), "the same by growth of the whole server, KiB"),
    (Row::Plain(Metric::KeptEvent), "Redis memory of each further event, bytes"),
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
    /// A heading and a table for every scenario that was played to anybody.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            if !self.measured.iter().any(|m| m.scenario == index) {
                continue;
            }
            let _ = write!(text, "\n### {}\n\n{}", scenario.title(), self.table(index));
        }
        text
    }

    /// Columns of peers and ratios without any figure are left out.
    fn table(&self, scenario: usize) -> String {
        let played = |peer: usize| self.measured.iter().any(|m| (m.scenario, m.peer) == (scenario, peer));
        let peers: Vec<usize> = (0..self.peers.len()).filter(|peer| played(*peer)).collect();
        let ratios: Vec<(usize, usize, String)> = RATIOS
            .into_iter()
            .filter_map(|(above, below)| Some((self.peer(above)?, self.peer(below)?, format!("{above} / {below}"))))
            .filter(|(above, below, _)| played(*above) && played(*below))
            .collect();
        let names = peers.iter().filter_map(|peer| self.peers.get(*peer).copied());
        let names: Vec<&str> = names.chain(ratios.iter().map(|(.., name)| name.as_str())).collect();
        let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for (row, name) in ROWS {
            let cells: Vec<Option<Spread>> =
                peers.iter().map(|peer| Spread::of(&self.values(scenario, *peer, row))).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let cells = cells.into_iter().map(|cell| cell.map_or("–".into(), written));
            let ratios = ratios.iter().map(|(above, below, _)| self.ratio(scenario, row, *above, *below));
            let _ = writeln!(text, "| {name} | {} |", cells.chain(ratios).collect::<Vec<String>>().join(" | "));
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

    /// Of the two measurements of each block. A block where the figure below the line is not above zero (latency less
    /// than the direct run's) has no ratio, and the cell says so.
    fn ratio(&self, scenario: usize, row: Row, above: usize, below: usize) -> String {
        if row == Row::Plain(Metric::Lateness) {
            return "–".into();
        }
        let ratios: Vec<f64> = (0..self.blocks)
            .filter_map(|block| {
                let below = self.value(scenario, below, row, block).filter(|below| *below > 0.0)?;
                Some(self.value(scenario, above, row, block)? / below)
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
        assert!(table.contains("| 15.0 (10.0 to 20.0) | 20.0 (20.0 to 20.0) | **1.50 (1.00 to 2.00)** |"), "{table}");
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
    fn without_nginx_there_is_no_ratio_to_it() {
        let scenarios = all(true);
        let sample = |value| vec![(Metric::Cpu, value)];
        let measured = vec![Measured { scenario: 0, peer: 1, block: 0, sample: sample(2.0) }];
        let results = Results { scenarios: &scenarios, peers: vec!["direct", "streamkeeper"], blocks: 1, measured };
        let table = results.table(0);
        assert!(table.starts_with("| | streamkeeper |\n|---|---|\n"), "{table}");
        assert!(table.ends_with("| 2.00 |\n"), "{table}");
    }

    #[test]
    fn each_ratio_has_a_column_of_its_own_once_both_of_its_peers_were_measured() {
        let scenarios = all(true);
        let one = |peer, value| Measured { scenario: 0, peer, block: 0, sample: vec![(Metric::Cpu, value)] };
        let peers = vec!["nginx", "haproxy", "streamkeeper", "streamkeeper+redis"];
        let measured = vec![one(0, 10.0), one(2, 20.0), one(3, 50.0)];
        let table = Results { scenarios: &scenarios, peers, blocks: 1, measured }.table(0);
        let head = "| | nginx | streamkeeper | streamkeeper+redis | streamkeeper / nginx | \
                    streamkeeper+redis / streamkeeper |\n";
        assert!(table.starts_with(head), "{table}");
        assert!(table.ends_with("| 10.0 | 20.0 | 50.0 | **2.00** | **2.50** |\n"), "{table}");
    }
}
