//! All scenarios with their sizes, for a whole run or for a look.

use std::time::Duration;

use super::{Kind, Scenario};
use crate::event::Shape;

/// What the bytes of a burst of sized events come to per stream.
const SIZED_BYTES: u32 = 2 << 20;
/// Events of such a burst at most: twice as many as a ring keeps by default.
const SIZED_EVENTS: u32 = 20_000;

/// How large a run is.
struct Size {
    warm: Duration,
    measured: Duration,
    burst: u32,
    rounds: u32,
    silent: u32,
    storm: u32,
    kept: u32,
    setups: u32,
    curve: &'static [u32],
    paced_curve: &'static [u32],
}

const WHOLE: Size = Size {
    warm: Duration::from_millis(1_000),
    measured: Duration::from_millis(3_000),
    burst: 10_000,
    rounds: 2,
    silent: 2_000,
    storm: 5_000,
    kept: 200,
    setups: 6_000,
    curve: &[500, 2_000, 5_000, 9_000],
    paced_curve: &[100, 500, 2_000, 5_000],
};

const QUICK: Size = Size {
    warm: Duration::from_millis(500),
    measured: Duration::from_millis(1_000),
    burst: 2_000,
    rounds: 1,
    silent: 500,
    storm: 500,
    kept: 50,
    setups: 1_000,
    curve: &[250, 1_000],
    paced_curve: &[100, 500],
};

/// The scenarios of a run.
pub(crate) fn all(quick: bool) -> Vec<Scenario> {
    let size = if quick { QUICK } else { WHOLE };
    let paced =
        |rate: u32| Kind::Paced { interval: Duration::from_secs(1) / rate, warm: size.warm, measured: size.measured };
    let burst = Kind::Burst { events: size.burst, rounds: size.rounds };
    let mut list = vec![
        Scenario::new("paced", 200, paced(50)),
        Scenario {
            shape: Shape::OpenAi,
            only: &["direct", "nginx", "streamkeeper"],
            ..Scenario::new("paced-openai", 200, paced(50))
        },
        Scenario::new("burst", 32, burst),
        Scenario {
            shape: Shape::OpenAi,
            only: &["direct", "nginx", "streamkeeper"],
            ..Scenario::new("burst-openai", 32, burst)
        },
        Scenario::new("silent", size.silent, Kind::Silent),
        Scenario::new("storm", size.storm, Kind::Storm { missed: 64 }),
        Scenario { shape: Shape::OpenAi, ..Scenario::new("kept", size.kept, Kind::Kept { events: 500 }) },
        Scenario::new("setup", size.setups, Kind::Setup { reuse: false }),
        Scenario::new("setup-reused", size.setups, Kind::Setup { reuse: true }),
        Scenario::new("startup", 1, Kind::Startup),
    ];
    list.extend(curves(&size));
    list
}

/// One scenario for each point of a curve.
fn curves(size: &Size) -> Vec<Scenario> {
    let point = |name, at, streams, kind, only| Scenario {
        at: Some(at),
        blocks: 2,
        only,
        ..Scenario::new(name, streams, kind)
    };
    let (warm, measured) = (size.warm / 2, size.measured * 2 / 3);
    let mut list = Vec::new();
    for readers in [1, 4, 16] {
        let kind = Kind::FanOut { readers, rate: 100, warm, measured };
        list.push(point("fan-out", readers, 10, kind, &["streamkeeper", "streamkeeper-hyper"]));
    }
    for bytes in [20, 200, 2_048, 16_384, 65_536] {
        let shape = Shape::Sized(bytes);
        let kind = Kind::Burst { events: (SIZED_BYTES / bytes).min(SIZED_EVENTS), rounds: size.rounds };
        let only = &["nginx", "haproxy", "hyper", "streamkeeper"];
        list.push(Scenario { shape, ..point("size", bytes, 32, kind, only) });
        let kind = Kind::Paced { interval: Duration::from_millis(50), warm, measured };
        list.push(Scenario { shape, ..point("size-paced", bytes, 50, kind, &["nginx", "hyper", "streamkeeper"]) });
    }
    for events in [16, 128, 2_000] {
        list.push(point("ring", events, 200, Kind::Ring { events }, &["streamkeeper"]));
    }
    let three = &["nginx", "haproxy", "streamkeeper"];
    for &streams in size.curve {
        list.push(point("growth", streams, streams, Kind::Silent, three));
    }
    for &streams in size.paced_curve {
        // The same number of events per second, whatever the number of streams.
        let interval = Duration::from_micros(u64::from(streams) * 100);
        list.push(point("growth-paced", streams, streams, Kind::Paced { interval, warm, measured }, three));
    }
    list
}

/// What is counted and not timed: `--count`.
pub(crate) fn counted(quick: bool) -> Vec<Scenario> {
    let (rate, seconds) = if quick { (20, 2) } else { (20, 5) };
    let only = &["nginx", "haproxy", "hyper", "streamkeeper", "streamkeeper-hyper"];
    let burst = Kind::CallsBurst { events: if quick { 500 } else { 2_000 } };
    vec![
        Scenario { only, ..Scenario::new("calls", 100, Kind::Calls { rate, measured: Duration::from_secs(seconds) }) },
        Scenario { only, ..Scenario::new("calls-burst", 32, burst) },
    ]
}

/// One round of what `--soak` plays.
pub(crate) fn soaked() -> Scenario {
    let kind =
        Kind::Paced { interval: Duration::from_millis(20), warm: Duration::ZERO, measured: Duration::from_secs(10) };
    Scenario::new("soak", 200, kind)
}
