//! Hours in small: rounds of paced streams, new ones in every round, while the proxy's memory is watched. What is kept
//! of ended streams goes after seconds, so that a level is reached soon; memory that still grows then is a leak.

use std::time::Duration;

use crate::Played;
use crate::clock::nanos;
use crate::failure::Failure;
use crate::peer::{Ground, Peer};
use crate::proc;
use crate::report::{Axes, Line, line_plot};
use crate::scenario::{Bench, Run, Scenario, soaked};
use crate::stats::{Spread, digits, slope, slope_interval};

/// What is added to Streamkeeper's configuration.
pub(crate) const SETTINGS: &str = "[session]\nretention = \"5s\"\n";
/// Between two looks at its memory.
const LOOK: Duration = Duration::from_millis(200);
/// The part of the time before which nothing counts.
const LEFT_OUT: f64 = 0.2;

/// The report, and a picture of the memory's course.
///
/// # Errors
///
/// A stream was not what it had to be, or the proxy is gone.
pub(crate) fn run(bench: &Bench<'_>, peer: &dyn Peer, minutes: u32, seed: u64) -> Result<Played, Failure> {
    let ground = Ground { settings: SETTINGS, ..bench.ground };
    let started = peer.start(&ground)?;
    let scenario: Scenario = soaked();
    let run = Run { scenario: &scenario, bench, peer, started: &started };
    let pids = started.pids()?;
    let begun = bench.clock.now();
    let until = begun + nanos(Duration::from_secs(60) * minutes);
    let (mut course, mut rounds, mut events) = (Vec::new(), Vec::new(), 0);
    while bench.clock.now() < until {
        let mut seen = Vec::new();
        events += run.soaked(LOOK, || {
            let memory = proc::resident(&pids)? as f64 / 1024.0;
            let minute = (bench.clock.now() - begun) as f64 / 60e9;
            seen.push(memory);
            course.push((minute, memory));
            Ok(())
        })?;
        let minute = (bench.clock.now() - begun) as f64 / 60e9;
        // Memory falls and rises within a round, as rings are filled and the last round's are let go.
        if !seen.is_empty() {
            rounds.push((minute, seen.iter().sum::<f64>() / seen.len() as f64));
        }
    }
    rounds.retain(|(minute, _)| *minute >= f64::from(minutes) * LEFT_OUT);
    let levels: Vec<f64> = rounds.iter().map(|(_, memory)| *memory).collect();
    let interval = slope_interval(&rounds, seed)
        .map_or(String::new(), |(low, high)| format!(" [{}, {}]", digits(low * 1024.0), digits(high * 1024.0)));
    let level = Spread::of(&levels).map_or(String::new(), |level| {
        format!("{} MiB ({} to {})", digits(level.median), digits(level.min), digits(level.max))
    });
    let slope = slope(&rounds).map_or("–".into(), |slope| digits(slope * 1024.0));
    let text = format!(
        "\n### {}, for {minutes} min\n\n\
         - {events} events, all of them checked; retention 5 s\n\
         - resident memory: {level}, the mean of each of {} rounds, the first fifth of the time left out\n\
         - slope: **{slope}**{interval} KiB per minute (least squares; 95 % by bootstrap over rounds)\n",
        scenario.title(),
        rounds.len(),
    );
    let axes = Axes { title: "Resident memory over time", x: "minutes", y: "MiB", log: false };
    let picture = line_plot(&axes, &[Line { name: peer.name(), points: course }]);
    let how = format!("one run; the interval's draws by --seed {seed}");
    Ok(Played { how, tables: text, pictures: vec![("soak.svg", picture)] })
}
