//! Pictures as SVG, written by hand: bars and lines, legible in light and dark, each labelled where it is.

use std::fmt::Write as _;

use crate::stats::{Spread, digits};

/// One bar: the median, with a whisker from the least to the greatest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub(super) name: &'static str,
    pub(super) spread: Spread,
}

/// One line, its points by ascending x.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What stands at its end.
    pub(crate) name: &'static str,
    /// Its points.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What the axes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axes {
    /// Above the picture.
    pub(crate) title: &'static str,
    /// Below the horizontal axis.
    pub(crate) x: &'static str,
    /// Above the vertical axis.
    pub(crate) y: &'static str,
    /// Whether equal distances are equal factors, on both axes.
    pub(crate) log: bool,
}

const WIDTH: f64 = 720.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:15px}\
    .quiet{fill:#57606a;font-size:12px}.grid{stroke:#d0d7de;stroke-width:1}.whisker{stroke:#24292f;stroke-width:1.5}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.grid{stroke:#3d444d}\
    .whisker{stroke:#e6edf3}}";

/// The colour of a peer: its own on every picture, and one that stands on white as on black.
fn colour(name: &str) -> &'static str {
    match name {
        "streamkeeper" => "#2f81f7",
        "streamkeeper-hyper" => "#8ab4f8",
        "streamkeeper+redis" => "#a371f7",
        "nginx" => "#2da44e",
        "haproxy" => "#d4762c",
        "envoy" => "#c94f9b",
        "hyper" => "#b08800",
        _ => "#8b949e",
    }
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n"
    )
}

fn text(x: f64, y: f64, anchor: &str, class: &str, words: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
}

/// Horizontal bars from zero. The unit belongs in the title.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    const LEFT: f64 = 160.0;
    const RIGHT: f64 = 150.0;
    const STEP: f64 = 30.0;
    let mut svg = open(56.0 + STEP * bars.len() as f64, title);
    let most = bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / most;
    for (row, Bar { name, spread }) in bars.iter().enumerate() {
        let Spread { median, min, max, .. } = *spread;
        let (y, end) = (44.0 + STEP * row as f64, LEFT + median.max(0.0) * scale);
        svg.push_str(&text(LEFT - 10.0, y + 14.0, "end", "", name));
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"20\" rx=\"2\" fill=\"{}\"/>",
            end - LEFT,
            colour(name)
        );
        let (from, to) = (LEFT + min.max(0.0) * scale, LEFT + max.max(0.0) * scale);
        let middle = y + 10.0;
        let _ = writeln!(
            svg,
            "<path class=\"whisker\" fill=\"none\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v8M{to:.1} {:.1}v8\"/>",
            middle - 4.0,
            middle - 4.0
        );
        svg.push_str(&text(to + 10.0, y + 14.0, "start", "", &digits(median)));
    }
    svg + "</svg>\n"
}

/// From values to places on one axis.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    /// From zero, or by factors of ten around the values.
    fn around(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, f64::MIN_POSITIVE);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if log {
            let least = low.max(1e-6).log10().floor();
            return Self {
                low: 10_f64.powf(least),
                high: 10_f64.powf(high.log10().ceil().max(least + 1.0)),
                log,
                from,
                to,
            };
        }
        let step = step(high);
        Self { low: 0.0, high: (high / step).ceil() * step, log, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (low, high) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
            return (low..=high).map(|power| 10_f64.powi(power)).collect();
        }
        let step = step(self.high);
        let count = (self.high / step).round() as u32;
        (0..=count).map(|tick| f64::from(tick) * step).collect()
    }
}

/// A round distance between ticks: about five of them up to `high`.
fn step(high: f64) -> f64 {
    let rough = high / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    factor * power
}

fn tick(value: f64) -> String {
    if value >= 1.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value}") }
}

/// Lines, each named at its end.
pub(crate) fn lines(axes: &Axes, lines: &[Line]) -> String {
    const HEIGHT: f64 = 380.0;
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = WIDTH - 170.0;
    const TOP: f64 = 64.0;
    const BOTTOM: f64 = HEIGHT - 48.0;
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Scale::around(all().map(|point| point.0), axes.log, LEFT, RIGHT);
    let y = Scale::around(all().map(|point| point.1), axes.log, BOTTOM, TOP);
    let mut svg = open(HEIGHT, axes.title);
    svg.push_str(&text(LEFT, TOP - 14.0, "start", "quiet", axes.y));
    svg.push_str(&text(f64::midpoint(LEFT, RIGHT), HEIGHT - 10.0, "middle", "quiet", axes.x));
    for value in y.ticks() {
        let at = y.place(value);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
        svg.push_str(&text(LEFT - 8.0, at + 4.0, "end", "quiet", &tick(value)));
    }
    for value in x.ticks() {
        svg.push_str(&text(x.place(value), BOTTOM + 18.0, "middle", "quiet", &tick(value)));
    }
    let mut labels = Vec::new();
    for line in lines {
        let places: Vec<(f64, f64)> = line.points.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let colour = colour(line.name);
        let path = path.join(" ");
        let _ = writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        // Many points are a course, and dots would only hide it.
        for (x, y) in places.iter().filter(|_| places.len() <= 20) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        if let (Some((x, y)), Some((_, value))) = (places.last(), line.points.last()) {
            labels.push((*y, *x, line.name, *value));
        }
    }
    svg.push_str(&named(labels));
    svg + "</svg>\n"
}

/// The names at the lines' ends, moved apart where they would cover each other.
fn named(mut labels: Vec<(f64, f64, &'static str, f64)>) -> String {
    const APART: f64 = 16.0;
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut last = f64::MIN;
    let mut svg = String::new();
    for (y, x, name, value) in labels {
        last = y.max(last + APART);
        let style = format!("style=\"fill:{}\"", colour(name));
        let value = digits(value);
        let (x, y) = (x + 10.0, last + 4.0);
        let _ = writeln!(
            svg,
            "<text {style} x=\"{x:.1}\" y=\"{y:.1}\">{name}<tspan class=\"quiet\"> {value}</tspan></text>"
        );
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_beyond_the_greatest_value() {
        let scale = Scale::around([37.0, 4.0].into_iter(), false, 0.0, 100.0);
        assert_eq!(scale.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!((scale.place(0.0), scale.place(40.0)), (0.0, 100.0));
        let scale = Scale::around([20.0, 65_536.0].into_iter(), true, 0.0, 4.0);
        assert_eq!(scale.ticks(), [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0]);
        assert!((scale.place(1_000.0) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_longest_bar_is_the_greatest_and_each_says_its_value() {
        let bar = |name, median| Bar { name, spread: Spread { median, min: median, max: median, count: 1 } };
        let svg = bars("CPU (µs)", &[bar("nginx", 10.0), bar("streamkeeper", 5.0)]);
        assert!(svg.contains("width=\"410.0\"") && svg.contains("width=\"205.0\""), "{svg}");
        assert!(svg.contains(">10.0<") && svg.contains(">5.00<"), "{svg}");
    }

    #[test]
    fn names_at_the_ends_of_lines_do_not_cover_each_other() {
        let line = |name, end| Line { name, points: vec![(1.0, 1.0), (2.0, end)] };
        let axes = Axes { title: "t", x: "x", y: "y", log: false };
        let svg = lines(&axes, &[line("nginx", 5.0), line("haproxy", 5.0)]);
        let ends: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("tspan"))
            .filter_map(|line| line.split(" y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(ends.len(), 2);
        assert!(ends[1] - ends[0] >= 16.0, "{ends:?}");
    }
}
