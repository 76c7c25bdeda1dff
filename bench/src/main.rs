//! Streamkeeper beside other proxies, whole processes on one machine in one run. Starts an upstream, clients and each
//! proxy on loopback ports of its own choice, checks every event, and ends what it started.
//!
//! What it is not: a gate. Absolute figures depend on the machine and the hour; only ratios within one run say
//! something, and no figure makes it fail. It fails when a stream is not what it had to be.

mod check;
mod chunked;
mod clock;
mod event;
mod failure;
mod load;
mod peer;
mod proc;
mod report;
mod scenario;
mod soak;
mod stats;
mod store;
mod strace;
mod upstream;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use clock::Clock;
use failure::Failure;
use load::Clients;
use peer::{Ground, Named, Peer, Peers};
use report::{Measured, Results};
use scenario::{Bench, Scenario};
use upstream::Upstream;

/// Measures Streamkeeper, with and without Redis, beside nginx, HAProxy and no proxy at all; prints Markdown
#[derive(Debug, Parser)]
#[command(name = "streamkeeper-bench", version)]
struct Arguments {
    /// Smaller scenarios and one block: a few minutes, only to see that all works
    #[arg(long)]
    quick: bool,
    /// Only this scenario; may be given several times
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Only this peer; may be given several times
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// How often every scenario is played to every peer [default: 5; 1 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    blocks: Option<u32>,
    /// Counts system calls, with strace, instead of taking times
    #[arg(long, conflicts_with = "soak")]
    count: bool,
    /// Instead of all scenarios: paced streams through one peer (the first named) [default: streamkeeper] for so long, and its memory
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
    soak: Option<u32>,
    /// Writes the report to DIR/NAME.md, the pictures beside it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the report is called, as a file
    #[arg(long, default_value = "report", requires = "out")]
    name: String,
    /// Decides the order of the measurements [default: the time of day]
    #[arg(long)]
    seed: Option<u64>,
    /// Threads or processes that serve, of each proxy [default: one per core]
    #[arg(long)]
    workers: Option<usize>,
    /// The proxy [default: `streamkeeper` beside this program]
    #[arg(long, value_name = "PATH")]
    streamkeeper: Option<PathBuf>,
    /// nginx [default: the installed one]
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// HAProxy [default: the installed one]
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
    /// Envoy [default: the installed one, or bench/out/envoy]
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// redis-server for the Redis store [default: the installed one]
    #[arg(long, value_name = "PATH")]
    redis_server: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut text = failure.to_string();
            let mut cause = failure.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            tell(&format!("streamkeeper-bench: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let all = if arguments.count { scenario::counted(arguments.quick) } else { scenario::all(arguments.quick) };
    let scenarios = chosen(all, &arguments.scenario)?;
    let blocks = arguments.blocks.unwrap_or(if arguments.quick || arguments.count { 1 } else { 5 });
    let seed = arguments.seed.unwrap_or_else(time_of_day);
    let workers = arguments.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let Arguments { streamkeeper, nginx, haproxy, envoy, redis_server, mut peer, .. } = arguments;
    if arguments.soak.is_some() && peer.is_empty() {
        peer.push("streamkeeper".into());
    }
    let Peers { found: peers, missing } =
        peer::available(Named { streamkeeper, nginx, haproxy, envoy, redis_server })?.only(&peer)?;
    raise_descriptor_limit()?;

    let load_before = proc::load();
    let directory = Scratch::new()?;
    let clock = Clock::start();
    let upstream = Upstream::start(clock)?;
    let ground = Ground { upstream: upstream.address(), directory: &directory.0, workers, settings: "" };
    let bench = Bench { clock, upstream, clients: Clients::start(clock)?, ground };
    let Played { how, tables, pictures } = match (arguments.soak, peers.first()) {
        (Some(minutes), Some(peer)) => soak::run(&bench, peer.as_ref(), minutes, seed)?,
        _ => play(&bench, &scenarios, &peers, blocks, seed)?,
    };

    let versions: Vec<String> = peers.iter().map(|p| format!("{}: {}", p.name(), p.version())).collect();
    let mut text = format!(
        "- machine: {}; load average {load_before} before, {} after\n\
         - {}; {workers} workers each\n\
         - {how}\n",
        proc::machine(),
        proc::load(),
        versions.join("; "),
    );
    for line in &missing {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&tables);
    say(&text);
    let Some(directory) = arguments.out else { return Ok(()) };
    let drawn: String = pictures.iter().map(|(name, _)| format!("\n![{name}]({name})\n")).collect();
    let page = format!("# Performance: {}\n\nWritten by `streamkeeper-bench`.\n\n{text}{drawn}", arguments.name);
    write_report(&directory, &format!("{}.md", arguments.name), &page)?;
    pictures.iter().try_for_each(|(name, picture)| write_report(&directory, name, picture))
}

/// What was played: how it is to be read, its tables, and its pictures by their names.
pub(crate) struct Played {
    pub(crate) how: String,
    pub(crate) tables: String,
    pub(crate) pictures: Vec<(&'static str, String)>,
}

fn play(
    bench: &Bench<'_>,
    scenarios: &[Scenario],
    peers: &[Box<dyn Peer>],
    blocks: u32,
    seed: u64,
) -> Result<Played, Failure> {
    let measured = measure_all(bench, scenarios, peers, blocks, seed)?;
    let names = peers.iter().map(|p| p.name()).collect();
    let results = Results { scenarios, peers: names, blocks, seed, measured };
    let how = format!(
        "blocks: {blocks} (of curves at most 2), their order shuffled with --seed {seed}; figures: median (min to max) over \
         blocks; ratios: of the two figures of each block, median [95 % confidence interval of it, by bootstrap]; with 5 \
         blocks that is their whole range"
    );
    Ok(Played { how, tables: results.tables(), pictures: results.pictures() })
}

/// Every block plays every scenario to every peer once, in an order of its own. Peers of one scenario follow each other,
/// so that a ratio compares neighbours.
fn measure_all(
    bench: &Bench<'_>,
    scenarios: &[Scenario],
    peers: &[Box<dyn Peer>],
    blocks: u32,
    mut seed: u64,
) -> Result<Vec<Measured>, Failure> {
    let mut measured = Vec::new();
    for block in 0..blocks {
        let mut order: Vec<(usize, &Scenario)> = scenarios.iter().enumerate().collect();
        stats::shuffle(&mut order, &mut seed);
        for (index, scenario) in order.into_iter().filter(|(_, scenario)| block < scenario.blocks) {
            let mut order: Vec<(usize, &Box<dyn Peer>)> = peers.iter().enumerate().collect();
            stats::shuffle(&mut order, &mut seed);
            for (number, peer) in order.into_iter().filter(|(_, peer)| scenario.concerns(peer.as_ref())) {
                let started = peer.start(&bench.ground)?;
                let sample = scenario.measure(bench, peer.as_ref(), &started)?;
                let figures: Vec<String> =
                    sample.iter().map(|(metric, value)| format!("{metric:?} {}", stats::digits(*value))).collect();
                let (name, peer_name) = (scenario.name, peer.name());
                let at = scenario.at.map_or(String::new(), |at| format!(" {at}"));
                tell(&format!("block {}/{blocks}  {name}{at}  {peer_name}  {}", block + 1, figures.join("  ")));
                measured.push(Measured { scenario: index, peer: number, block, sample });
            }
        }
    }
    Ok(measured)
}

fn chosen(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let known: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::NoScenario(unknown.clone(), known.join(", ")));
    }
    Ok(all.into_iter().filter(|s| names.is_empty() || names.iter().any(|name| name == s.name)).collect())
}

fn time_of_day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Children inherit it: a proxy holds two descriptors per stream, and so does this process.
fn raise_descriptor_limit() -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| Failure::io("raise the descriptor limit")(error.into()))
}

fn write_report(directory: &Path, name: &str, text: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(Failure::io(format!("create {}", directory.display())))?;
    let file = directory.join(name);
    std::fs::write(&file, text).map_err(Failure::io(format!("write {}", file.display())))
}

/// A directory for configurations and logs; gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = Self::path();
        std::fs::create_dir_all(&path).map_err(Failure::io(format!("create {}", path.display())))?;
        Ok(Self(path))
    }

    fn path() -> PathBuf {
        std::env::temp_dir().join(format!("streamkeeper-bench-{}", std::process::id()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A runtime for one thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::io("start a runtime"))
}

/// Never ends; a signal ends the program, and what it started before it.
pub(crate) async fn stop_on_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
    peer::stop_all();
    let _ = std::fs::remove_dir_all(Scratch::path());
    std::process::exit(130);
}

#[allow(clippy::print_stdout, reason = "the report")]
fn say(text: &str) {
    print!("{text}");
}

#[allow(clippy::print_stderr, reason = "progress, beside the report")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_and_a_misspelt_one_is_refused() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            chosen(scenario::all(false), &wanted).map(|found| found.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["silent", "paced"]).expect("known"), ["paced", "silent"]);
        assert_eq!(names(&["ring"]).expect("known"), ["ring"; 3], "all points of a curve");
        assert_eq!(names(&[]).expect("all").len(), scenario::all(false).len());
        assert!(matches!(names(&["pased"]), Err(Failure::NoScenario(..))));
    }
}
