//! Curves: for each figure a table with a row per point, and how far totals are from a straight line.

use std::fmt::Write as _;

use super::{Results, Row, head, rows, written};
use crate::scenario::{Metric, Scenario};
use crate::stats::{Spread, digits, line};

impl Results<'_> {
    /// The tables of all points of this name.
    pub(super) fn curve(&self, name: &str) -> String {
        let points = self.points(name);
        let played = |peer: &usize| points.iter().any(|(scenario, _)| self.played(*scenario, *peer));
        let peers: Vec<usize> = (0..self.peers.len()).filter(played).collect();
        let names: Vec<&str> = peers.iter().filter_map(|peer| self.peers.get(*peer).copied()).collect();
        let mut text = String::new();
        for (row, title) in rows() {
            let cell = |scenario: usize, peer: &usize| Spread::of(&self.values(scenario, *peer, row)).map(written);
            let mut lines = String::new();
            for (scenario, at) in &points {
                let cells: Vec<Option<String>> = peers.iter().map(|peer| cell(*scenario, peer)).collect();
                if cells.iter().any(Option::is_some) {
                    let cells: Vec<String> = cells.into_iter().map(|cell| cell.unwrap_or("–".into())).collect();
                    let _ = writeln!(lines, "| {at} | {} |", cells.join(" | "));
                }
            }
            if !lines.is_empty() {
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = write!(text, "{gap}{title}:\n\n{}{lines}", head(&names));
            }
            if row == Row::Plain(Metric::Held) && name.starts_with("growth") {
                text.push_str(&self.straightness(&peers, &points));
            }
        }
        text
    }

    /// Index and place of each point of this name.
    pub(super) fn points(&self, name: &str) -> Vec<(usize, u32)> {
        let of = |(index, scenario): (usize, &Scenario)| (scenario.name == name).then_some((index, scenario.at?));
        self.scenarios.iter().enumerate().filter_map(of).collect()
    }

    /// Place and median of each point where this peer has one.
    pub(super) fn medians(&self, points: &[(usize, u32)], peer: usize, metric: Metric) -> Vec<(f64, f64)> {
        let median = |(scenario, at): &(usize, u32)| {
            let spread = Spread::of(&self.values(*scenario, peer, Row::Plain(metric)))?;
            Some((f64::from(*at), spread.median))
        };
        points.iter().filter_map(median).collect()
    }

    fn straightness(&self, peers: &[usize], points: &[(usize, u32)]) -> String {
        let mut text = String::new();
        for peer in peers {
            let medians = self.medians(points, *peer, Metric::Held);
            let (Some((start, slope)), Some(name)) = (line(&medians), self.peers.get(*peer)) else { continue };
            let off = medians.iter().map(|(x, y)| ((y - start - slope * x) / y).abs() * 100.0).fold(0.0, f64::max);
            let (start, slope) = (digits(start), digits(slope * 1024.0));
            let _ = writeln!(text, "- {name}: {start} MiB + {slope} KiB per stream, off by at most {off:.1} %");
        }
        if text.is_empty() { text } else { format!("\nAs a straight line (least squares):\n\n{text}") }
    }
}
