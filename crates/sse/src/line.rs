//! The grammar of one line: where it ends, and which field it is. Pure functions over a slice;
//! they keep no state, so a line end cut in two by a chunk border is the decoder's business.
//!
//! Source: WHATWG HTML 9.2.5 (the ABNF) and 9.2.6 (field processing).

use memchr::{memchr, memchr2};

/// Where a line ends inside a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineEnd {
    /// The line is everything before this offset.
    pub(crate) at: usize,
    /// The next line starts here: one byte on, or two for CRLF.
    pub(crate) next: usize,
    /// The slice stopped right after a CR, so an LF that opens the next chunk belongs to it.
    pub(crate) open_cr: bool,
}

/// Finds the first line end.
pub(crate) fn find_end(bytes: &[u8]) -> Option<LineEnd> {
    // Every block ends in an empty line, so half of all calls end at the first byte.
    let at = match bytes.first() {
        Some(b'\n') => 0,
        _ => memchr2(b'\n', b'\r', bytes)?,
    };
    let is_cr = bytes.get(at) == Some(&b'\r');
    let follower = bytes.get(at + 1);
    Some(LineEnd {
        at,
        next: at + 1 + usize::from(is_cr && follower == Some(&b'\n')),
        open_cr: is_cr && follower.is_none(),
    })
}

/// Which field a line sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Comment,
    Data,
    Event,
    Id,
    Retry,
    Unknown,
}

/// A line taken apart, as offsets, so that it can be applied to a line in any buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    /// The name is everything before this offset.
    pub(crate) name_end: usize,
    /// The value is everything from this offset. A comment keeps its leading space.
    pub(crate) value: usize,
}

/// Takes a line apart; `None` for the empty line, which is no field but the end of a block.
pub(crate) fn parse(line: &[u8]) -> Option<Field> {
    // Nearly every line of a model's answer is this one.
    if line.starts_with(b"data:") {
        return Some(field(Kind::Data, line, 4));
    }
    if line.is_empty() {
        return None;
    }
    let colon = memchr(b':', line).unwrap_or(line.len());
    let kind = match prefix(line, colon) {
        b"" => {
            return Some(Field { kind: Kind::Comment, name_end: 0, value: 1 });
        }
        b"data" => Kind::Data,
        b"event" => Kind::Event,
        b"id" => Kind::Id,
        b"retry" => Kind::Retry,
        _ => Kind::Unknown,
    };
    Some(field(kind, line, colon))
}

fn field(kind: Kind, line: &[u8], colon: usize) -> Field {
    let space = usize::from(line.get(colon + 1) == Some(&b' '));
    Field { kind, name_end: colon, value: colon + 1 + space }
}

/// The first `end` bytes, or all there are.
pub(crate) fn prefix(bytes: &[u8], end: usize) -> &[u8] {
    bytes.get(..end).unwrap_or(bytes)
}

/// The bytes from `start` on, or none.
pub(crate) fn suffix(bytes: &[u8], start: usize) -> &[u8] {
    bytes.get(start..).unwrap_or_default()
}

/// The value of a `retry` field in milliseconds: ASCII digits only, at least one, within `u64`.
/// (`str::parse` would let `+10` through.)
pub(crate) fn retry(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: &[u8]) -> Option<(usize, usize, bool)> {
        find_end(bytes).map(|end| (end.at, end.next, end.open_cr))
    }

    #[test]
    fn each_of_the_three_line_ends_is_found() {
        assert_eq!(end(b"ab\ncd"), Some((2, 3, false)));
        assert_eq!(end(b"ab\rcd"), Some((2, 3, false)));
        assert_eq!(end(b"ab\r\ncd"), Some((2, 4, false)));
        assert_eq!(end(b"\n\n"), Some((0, 1, false)));
        assert_eq!(end(b"ab"), None);
        assert_eq!(end(b""), None);
    }

    #[test]
    fn a_cr_at_the_edge_ends_the_line_but_stays_open_for_its_lf() {
        assert_eq!(end(b"ab\r"), Some((2, 3, true)));
        assert_eq!(end(b"ab\r\n"), Some((2, 4, false)));
    }

    #[test]
    fn a_value_loses_one_leading_space_and_no_more() {
        let value = |line: &'static [u8]| suffix(line, parse(line).unwrap().value);
        assert_eq!(value(b"data:x"), b"x");
        assert_eq!(value(b"data: x"), b"x");
        assert_eq!(value(b"data:  x"), b" x");
        assert_eq!(value(b"data:\tx"), b"\tx");
        assert_eq!(value(b"data"), b"");
        assert_eq!(value(b"data:"), b"");
        assert_eq!(value(b"data: "), b"");
        assert_eq!(value(b": x"), b" x");
        assert_eq!(value(b"id:a:b"), b"a:b");
    }

    #[test]
    fn field_names_match_exactly() {
        let kind = |line| parse(line).map(|field| field.kind);
        assert_eq!(kind(b"data"), Some(Kind::Data));
        assert_eq!(kind(b"event: x"), Some(Kind::Event));
        assert_eq!(kind(b"id"), Some(Kind::Id));
        assert_eq!(kind(b"retry:1"), Some(Kind::Retry));
        assert_eq!(kind(b"Data: x"), Some(Kind::Unknown));
        assert_eq!(kind(b" data: x"), Some(Kind::Unknown));
        assert_eq!(kind(b"data : x"), Some(Kind::Unknown));
        assert_eq!(kind(b"dat"), Some(Kind::Unknown));
        assert_eq!(kind(b":"), Some(Kind::Comment));
        assert_eq!(kind(b""), None);
    }

    #[test]
    fn retry_takes_digits_only_and_ignores_what_overflows() {
        assert_eq!(retry(b"0"), Some(0));
        assert_eq!(retry(b"0030"), Some(30));
        assert_eq!(retry(b"18446744073709551615"), Some(u64::MAX));
        for refused in [&b""[..], b"+10", b"-1", b"1.5", b"1 ", b" 1", b"1e3", b"18446744073709551616"] {
            assert_eq!(retry(refused), None, "{refused:?}");
        }
    }
}
