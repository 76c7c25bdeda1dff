use super::*;
use crate::scenario::all;

const PEERS: [&str; 3] = ["direct", "nginx", "streamkeeper"];

fn results(scenarios: &[Scenario], peers: Vec<&'static str>, figures: Vec<(usize, u32, Sample)>) -> String {
    let measured = figures.into_iter().map(|(peer, block, sample)| Measured { scenario: 0, peer, block, sample });
    Results { scenarios, peers, blocks: 3, seed: 1, measured: measured.collect() }.table(0)
}

fn one(metric: Metric, figures: &[(usize, u32, f64)]) -> String {
    let figures = figures.iter().map(|(peer, block, value)| (*peer, *block, vec![(metric, *value)]));
    results(&all(true)[..1], PEERS.into(), figures.collect())
}

#[test]
fn ratios_are_taken_within_each_block() {
    let table = one(Metric::Cpu, &[(1, 0, 10.0), (2, 0, 20.0), (1, 1, 20.0), (2, 1, 20.0)]);
    assert!(table.contains("| 15.0 (10.0 to 20.0) | 20.0 (20.0 to 20.0) |"), "{table}");
    assert!(table.ends_with("| CPU of the proxy, µs per event | **1.50** |\n"), "two have no interval: {table}");
}

#[test]
fn with_three_blocks_or_more_a_ratio_has_an_interval() {
    let figures = [(1, 0, 10.0), (2, 0, 20.0), (1, 1, 10.0), (2, 1, 30.0), (1, 2, 10.0), (2, 2, 40.0)];
    let table = one(Metric::Cpu, &figures);
    assert!(table.ends_with("| **3.00** [2.00, 4.00] |\n"), "{table}");
}

#[test]
fn added_latency_is_what_exceeds_the_direct_run_of_the_same_block() {
    let first = [(0, 0, 100.0), (1, 0, 150.0), (2, 0, 200.0)];
    let second = [(0, 1, 300.0), (1, 1, 290.0), (2, 1, 310.0)];
    let table = one(Metric::P50, &[first, second].concat());
    let mut rows = table.lines().filter(|line| line.starts_with("| added latency p50"));
    let figures = rows.next().expect("a row of figures");
    assert!(figures.contains("| – | 20.0 (-10.0 to 50.0) | 55.0 (10.0 to 100) |"), "{figures}");
    let ratio = rows.next().expect("a row of ratios");
    assert!(ratio.contains("| **2.00**, 1 of 2 blocks |"), "{ratio}");
}

#[test]
fn rows_without_figures_are_left_out() {
    let table = one(Metric::Cpu, &[(1, 0, 1.0)]);
    assert_eq!(table.lines().count(), 3, "{table}");
}

#[test]
fn without_nginx_there_is_no_ratio_to_it() {
    let figures = vec![(1, 0, vec![(Metric::Cpu, 2.0)])];
    let table = results(&all(true)[..1], vec!["direct", "streamkeeper"], figures);
    assert_eq!(table, "| | streamkeeper |\n|---|---|\n| CPU of the proxy, µs per event | 2.00 |\n");
}

#[test]
fn each_ratio_has_a_column_of_its_own_once_both_of_its_peers_were_measured() {
    let peers = vec!["nginx", "haproxy", "streamkeeper", "streamkeeper+redis"];
    let cpu = |peer, value| (peer, 0, vec![(Metric::Cpu, value)]);
    let table = results(&all(true)[..1], peers, vec![cpu(0, 10.0), cpu(2, 20.0), cpu(3, 50.0)]);
    assert!(table.starts_with("| | nginx | streamkeeper | streamkeeper+redis |\n"), "{table}");
    assert!(table.contains("\n| | streamkeeper / nginx | streamkeeper+redis / streamkeeper |\n"), "{table}");
    assert!(table.ends_with("| **2.00** | **2.50** |\n"), "{table}");
}

fn growth() -> (Vec<Scenario>, Vec<Measured>) {
    let scenarios: Vec<Scenario> = all(false).into_iter().filter(|scenario| scenario.name == "growth").collect();
    let measured = scenarios.iter().enumerate().flat_map(|(scenario, point)| {
        [1, 2].map(|peer| {
            let held = 5.0 + f64::from(point.at.expect("a point")) * peer as f64 / 100.0;
            Measured { scenario, peer, block: 0, sample: vec![(Metric::Held, held)] }
        })
    });
    let measured = measured.collect();
    (scenarios, measured)
}

#[test]
fn the_points_of_a_curve_share_a_table_and_a_line() {
    let (scenarios, measured) = growth();
    let results = Results { scenarios: &scenarios, peers: PEERS.into(), blocks: 1, seed: 1, measured };
    let text = results.tables();
    assert_eq!(text.matches("###").count(), 1, "{text}");
    assert!(text.contains("| 9000 | 95.0 | 185 |"), "{text}");
    assert!(text.contains("streamkeeper: 5.00 MiB + 20.5 KiB per stream, off by at most 0.0 %"), "{text}");
}

#[test]
fn there_is_a_picture_for_every_curve_that_was_measured_and_it_names_its_lines() {
    let (scenarios, measured) = growth();
    let results = Results { scenarios: &scenarios, peers: PEERS.into(), blocks: 1, seed: 1, measured };
    let pictures = results.pictures();
    let names: Vec<&str> = pictures.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["growth-memory.svg"]);
    let svg = &pictures[0].1;
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(svg.contains(">streamkeeper<") && svg.contains(">nginx<"), "{svg}");
}
