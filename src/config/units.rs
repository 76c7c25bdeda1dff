//! Durations and sizes as people write them: `"1m30s"`, `"64KiB"`.
//!
//! Not a general unit library: whole numbers only, one spelling per unit, so that a value reads the same to everyone.

use std::time::Duration;

/// The longest duration that is taken. Longer ones are slips of the unit, and would overflow timers.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Milliseconds in each unit, largest first; the order in which they may follow each other.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes in each unit. The binary ones lead, largest first: [`show_size`] takes the first that divides.
const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
];

/// Reads `"250ms"`, `"30s"`, `"1h"`, `"1m30s"`: each unit at most once, larger ones first.
///
/// # Errors
/// A message for a person, when it is anything else or longer than [`LONGEST`].
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let millis = sum_of_parts(text).ok_or_else(|| {
        format!("{text:?} is not a duration; write one in ms, s, m or h, such as \"30s\" or \"1m30s\"")
    })?;
    let duration = Duration::from_millis(millis);
    if duration > LONGEST {
        return Err(format!("{text:?} is longer than 30 days; shorten it"));
    }
    Ok(duration)
}

fn sum_of_parts(text: &str) -> Option<u64> {
    let mut units = TIMES.iter();
    let mut millis = 0_u64;
    let mut rest = text;
    loop {
        let (number, unit, tail) = split_part(rest)?;
        // Going on from the unit before keeps them in order and unrepeated.
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.checked_mul(*scale)?)?;
        if tail.is_empty() {
            return Some(millis);
        }
        rest = tail;
    }
}

/// Reads `"64KiB"`, `"10MB"`, `"512B"` as bytes.
///
/// # Errors
/// A message for a person, when it is anything else or does not fit in memory's address space.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    split_part(text)
        .filter(|(_, _, tail)| tail.is_empty())
        .and_then(|(number, unit, _)| {
            let (_, scale) = SIZES.iter().find(|(name, _)| *name == unit)?;
            usize::try_from(number.checked_mul(*scale)?).ok()
        })
        .ok_or_else(|| format!("{text:?} is not a size; write a number and KiB, MiB, kB or MB, such as \"64KiB\""))
}

/// Splits `12ms…` into 12, `ms` and the rest. `None` without a digit in front, or when the number overflows.
fn split_part(text: &str) -> Option<(u64, &str, &str)> {
    let (number, rest) = split_where(text, |c| !c.is_ascii_digit());
    let (unit, rest) = split_where(rest, |c| !c.is_ascii_alphabetic());
    Some((number.parse().ok()?, unit, rest))
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// Writes a duration so that [`parse_duration`] reads it back. Parts of a millisecond are dropped.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, scale) in TIMES {
        if millis >= scale {
            text += &format!("{}{unit}", millis / scale);
            millis %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Writes a size so that [`parse_size`] reads it back.
pub(super) fn show_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    SIZES
        .iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .map_or_else(|| format!("{bytes}B"), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_a_sum_of_parts() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1h5ms", 3_600_005),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_a_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "30 s",
            "30s ",
            "30S",
            "30sec",
            "30s1m",
            "1s1s",
            "99999999999999999999s",
            "18446744073709551615h",
            "٣s",
        ] {
            let message = parse_duration(text).expect_err(text);
            assert!(message.contains("such as"), "{text}: {message}");
        }
        assert!(parse_duration("721h").expect_err("31 days").contains("30 days"));
    }

    #[test]
    fn a_size_has_one_unit() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("2kB", 2_000),
            ("2KB", 2_000),
            ("7B", 7),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_a_size_is_refused() {
        for text in [
            "",
            "1",
            "MiB",
            "1mib",
            "1 MiB",
            "1.5MiB",
            "-1B",
            "1MiB1KiB",
            "1MiB ",
            "17179869184GiB",
            "99999999999999999999B",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_values_take_the_largest_units() {
        assert_eq!(show_duration(Duration::from_millis(3_661_001)), "1h1m1s1ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_size(1_536), "1536B");
        assert_eq!(show_size(3 << 20), "3MiB");
        assert_eq!(show_size(0), "0B");
    }

    proptest! {
        #[test]
        fn a_shown_duration_reads_back(millis in 0..=LONGEST.as_millis() as u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_shown_size_reads_back(bytes in any::<usize>(), shift in 0..usize::BITS) {
            let bytes = bytes >> shift;
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_them_panic(text in "[0-9a-zA-Z. é]{0,30}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
