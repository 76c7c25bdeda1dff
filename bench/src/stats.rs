//! The few statistics that are printed. Nothing here judges.

/// Median, least and greatest of what several blocks gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) count: usize,
}

impl Spread {
    /// Of `values` in any order; `None` without any.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let upper = *sorted.get(count / 2)?;
        let lower = *sorted.get((count - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min: *sorted.first()?, max: *sorted.last()?, count })
    }
}

/// How often values are drawn anew for an interval.
const RESAMPLES: usize = 4_000;

/// Where the median lies with a confidence of 95 %: the percentile bootstrap, its draws decided by `seed`. With few
/// values that is from the least to the greatest, and not more than they can say. `None` with less than three.
pub(crate) fn median_interval(values: &[f64], mut seed: u64) -> Option<(f64, f64)> {
    bootstrap(values, &mut seed, |drawn| Spread::of(drawn).map(|spread| spread.median))
}

/// The slope of the line through `points` (x, y) by least squares; `None` unless two of them differ in x.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    line(points).map(|(_, slope)| slope)
}

/// The same with a confidence of 95 %, by drawing points.
pub(crate) fn slope_interval(points: &[(f64, f64)], mut seed: u64) -> Option<(f64, f64)> {
    bootstrap(points, &mut seed, slope)
}

/// Where a line through `points` begins, and its slope.
pub(crate) fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let product: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let slope = product / square;
    (square > 0.0).then_some((y - slope * x, slope))
}

fn bootstrap<T: Copy>(values: &[T], seed: &mut u64, figure: impl Fn(&[T]) -> Option<f64>) -> Option<(f64, f64)> {
    if values.len() < 3 {
        return None;
    }
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let draw = |_| values.get((next(seed) % values.len() as u64) as usize).copied();
            figure(&(0..values.len()).filter_map(draw).collect::<Vec<T>>())
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures.get((share * (figures.len() as f64 - 1.0)).round() as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// The smallest value that at least `share` (0 to 1) of `ascending` do not exceed (nearest rank); `None` without any.
pub(crate) fn percentile(ascending: &[u64], share: f64) -> Option<u64> {
    let rank = (share * ascending.len() as f64).ceil().max(1.0) as usize;
    ascending.get(rank - 1).copied()
}

/// Three significant digits, as they are: nothing is cut off above the decimal point.
pub(crate) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Puts `items` in an order that `seed` alone decides (Fisher–Yates).
pub(crate) fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for last in (1..items.len()).rev() {
        items.swap(last, (next(seed) % (last as u64 + 1)) as usize);
    }
}

/// The next number of a sequence that the seed alone decides (splitmix64).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = |values: &[f64]| Spread::of(values).map(|s| (s.median, s.min, s.max, s.count));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some((2.0, 2.0, 2.0, 1)));
        assert_eq!(spread(&[3.0, 1.0, 10.0]), Some((3.0, 1.0, 10.0, 3)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 10.0]), Some((3.0, 1.0, 10.0, 4)));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&values, 0.50), Some(50));
        assert_eq!(percentile(&values, 0.99), Some(99));
        assert_eq!(percentile(&values, 1.0), Some(100));
        assert_eq!(percentile(&[7], 0.5), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn figures_keep_three_digits_and_never_lose_their_whole_part() {
        let written: Vec<String> = [0.0, 0.1234, 1.005, 13.26, 104.6, 12_345.6, -0.5].map(digits).into();
        assert_eq!(written, ["0", "0.123", "1.00", "13.3", "105", "12346", "-0.500"]);
    }

    #[test]
    fn an_interval_holds_the_median_and_narrows_with_more_values() {
        let values = |count: u32| (0..count).map(|n| 1.0 + f64::from(n * 37 % 101) / 100.0).collect::<Vec<f64>>();
        let width = |count| {
            let values = values(count);
            let (low, high) = median_interval(&values, 7).expect("enough values");
            let median = Spread::of(&values).expect("values").median;
            assert!(low <= median && median <= high, "{low} {median} {high}");
            high - low
        };
        assert!(width(101) < width(7));
        assert_eq!(median_interval(&values(9), 7), median_interval(&values(9), 7));
        assert_eq!(median_interval(&[1.0, 2.0], 7), None);
        assert_eq!(median_interval(&[1.0, 3.0, 2.0, 5.0, 4.0], 7), Some((1.0, 5.0)), "five can say no more");
    }

    #[test]
    fn a_line_is_found_again_and_a_flat_one_has_no_slope() {
        let points: Vec<(f64, f64)> = (0..20).map(|n| (f64::from(n), 3.0 + 2.0 * f64::from(n))).collect();
        let (start, slope) = line(&points).expect("a line");
        assert!((start - 3.0).abs() < 1e-9 && (slope - 2.0).abs() < 1e-9, "{start} {slope}");
        let noisy: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n), f64::from(n * 7 % 5))).collect();
        let (low, high) = slope_interval(&noisy, 1).expect("enough points");
        assert!(low < 0.0 && 0.0 < high, "{low} {high}");
        assert_eq!(line(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn one_seed_gives_one_order_and_another_seed_another() {
        let order = |mut seed: u64| {
            let mut items: Vec<u32> = (0..20).collect();
            shuffle(&mut items, &mut seed);
            items
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<u32>>());
    }
}
