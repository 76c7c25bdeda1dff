//! Values to wire bytes, in the one framing that every client measured so far reads: LF, exactly
//! one space after the colon, no byte order mark, never CR, valid UTF-8.
//!
//! The functions append to a buffer and are total. They do not end a block: a *block body* is what
//! is kept of an event, and id, retry hint and [`END_OF_BLOCK`] go around it when it is sent.
//! A lone id or retry hint must not be followed by a blank line: SDKs exist that take a block
//! without data for an event and fail on it.

use std::io::Write as _;

use memchr::{memchr2, memchr3};

use crate::line::{find_end, prefix, suffix};

/// A comment with ONE newline. With a blank line after it, clients that never forget an id would
/// dispatch an empty event.
pub const KEEP_ALIVE: &[u8] = b": ka\n";

/// The blank line that dispatches a block.
pub const END_OF_BLOCK: &[u8] = b"\n";

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Appends the body of a block: `event: <name>\n` unless the name is empty, then `data: <line>\n`
/// for every line of `data` (split at CRLF, CR and LF; empty data is one empty line). No id, no
/// blank line.
///
/// What is not UTF-8 becomes U+FFFD, as a browser would read it; returns how many replacements
/// were made. A CR or LF in the name, which no decoder gives, is left out. A NUL is legal in both
/// and stays, or another name would come out than went in.
///
/// Decoding the result (with a blank line after it) gives the same name and data again, where they
/// were UTF-8 and the data had no CR.
pub fn write_body(name: &[u8], data: &[u8], out: &mut Vec<u8>) -> usize {
    out.reserve(name.len() + data.len() + b"event: \ndata: \n".len());
    let mut replaced = 0;
    let start = out.len();
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        let before = out.len();
        replaced += push_without(name, b"\r\n", out);
        if out.len() == before {
            out.truncate(start);
        } else {
            out.push(b'\n');
        }
    }
    // Of what is ASCII, and most is, this is known in a fraction of the time.
    let is_utf8 = data.is_ascii() || std::str::from_utf8(data).is_ok();
    let mut rest = Some(data);
    while let Some(bytes) = rest {
        let end = find_end(bytes);
        let line = end.map_or(bytes, |end| prefix(bytes, end.at));
        rest = end.map(|end| suffix(bytes, end.next));
        out.extend_from_slice(b"data: ");
        if is_utf8 {
            out.extend_from_slice(line);
        } else {
            replaced += push_repaired(line, out);
        }
        out.push(b'\n');
    }
    replaced
}

/// Appends a comment with ONE newline: `: text\n`. A leading space of the text is the one after
/// the colon, so a decoded comment is written as it was read. CR and LF are left out, what is not
/// UTF-8 is repaired.
pub fn write_comment(text: &[u8], out: &mut Vec<u8>) {
    out.push(b':');
    if !text.is_empty() && !text.starts_with(b" ") {
        out.push(b' ');
    }
    push_without(text, b"\r\n", out);
    out.push(b'\n');
}

/// Appends `id: <id>\n`. CR, LF and NUL are left out, what is not UTF-8 is repaired; check ids of
/// unknown origin with [`Id`](crate::Id) first, for a changed id names another event. An empty id
/// is a reset.
pub fn write_id(id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    push_without(id, b"\r\n\0", out);
    out.push(b'\n');
}

/// Appends `retry: <ms>\n`, the delay in milliseconds.
pub fn write_retry(ms: u64, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = writeln!(out, "retry: {ms}");
}

/// Appends `text` without the bytes in `dropped` and repaired; returns the count of replacements.
fn push_without(text: &[u8], dropped: &[u8], out: &mut Vec<u8>) -> usize {
    let clean = match dropped {
        [a, b] => memchr2(*a, *b, text).is_none(),
        [a, b, c] => memchr3(*a, *b, *c, text).is_none(),
        _ => false,
    };
    if clean {
        return push_repaired(text, out);
    }
    let kept: Vec<u8> = text.iter().copied().filter(|byte| !dropped.contains(byte)).collect();
    push_repaired(&kept, out)
}

/// Appends `bytes` with each ill-formed sequence (maximal subpart, as in the WHATWG UTF-8 decoder)
/// turned into one U+FFFD; returns how many there were.
fn push_repaired(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut replaced = 0;
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
            replaced += 1;
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(name: &[u8], data: &[u8]) -> (String, usize) {
        let mut out = Vec::new();
        let replaced = write_body(name, data, &mut out);
        (String::from_utf8(out).unwrap(), replaced)
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_body_has_no_blank_line_and_no_empty_event_field() {
        assert_eq!(body(b"", b"hi"), ("data: hi\n".into(), 0));
        assert_eq!(body(b"tick", b"hi"), ("event: tick\ndata: hi\n".into(), 0));
    }

    #[test]
    fn every_line_of_the_data_gets_its_own_field() {
        assert_eq!(body(b"", b"a\nb").0, "data: a\ndata: b\n");
        assert_eq!(body(b"", b"a\r\nb\rc\n").0, "data: a\ndata: b\ndata: c\ndata: \n");
        assert_eq!(body(b"", b"\n\r").0, "data: \ndata: \ndata: \n");
    }

    #[test]
    fn empty_data_is_one_empty_line() {
        assert_eq!(body(b"", b"").0, "data: \n");
    }

    #[test]
    fn leading_spaces_survive_behind_the_one_that_readers_drop() {
        assert_eq!(body(b" n", b"  x").0, "event:  n\ndata:   x\n");
    }

    #[test]
    fn broken_utf8_becomes_replacement_characters_and_is_counted() {
        assert_eq!(body(b"", b"a\xFFb\xE2\x82"), ("data: a\u{FFFD}b\u{FFFD}\n".into(), 2));
        assert_eq!(body(b"n\xC3", b"\xFF\n\xFF"), ("event: n\u{FFFD}\ndata: \u{FFFD}\ndata: \u{FFFD}\n".into(), 3));
        assert_eq!(body(b"", "zażółć €".as_bytes()).1, 0);
    }

    #[test]
    fn a_name_cannot_open_a_second_line() {
        assert_eq!(body(b"a\r\nid: 1", b"x").0, "event: aid: 1\ndata: x\n");
        assert_eq!(body(b"\r\n", b"x").0, "data: x\n");
        assert_eq!(body(b"a\0b", b"\0").0, "event: a\0b\ndata: \0\n");
    }

    #[test]
    fn a_comment_has_one_newline_and_keeps_its_own_space() {
        assert_eq!(written(|out| write_comment(b"ka", out)).as_bytes(), KEEP_ALIVE);
        assert_eq!(written(|out| write_comment(b" ka", out)).as_bytes(), KEEP_ALIVE);
        assert_eq!(written(|out| write_comment(b"  x", out)), ":  x\n");
        assert_eq!(written(|out| write_comment(b"", out)), ":\n");
        assert_eq!(written(|out| write_comment(b"a\r\ndata: b\n\n", out)), ": adata: b\n");
        assert_eq!(written(|out| write_comment(b"\xFF", out)), ": \u{FFFD}\n");
    }

    #[test]
    fn ids_and_retry_hints_are_single_lines() {
        assert_eq!(written(|out| write_id(b"s.0.7", out)), "id: s.0.7\n");
        assert_eq!(written(|out| write_id(b"", out)), "id: \n");
        assert_eq!(written(|out| write_id(b"a\nb\0\rc", out)), "id: abc\n");
        assert_eq!(written(|out| write_retry(u64::MAX, out)), "retry: 18446744073709551615\n");
    }
}
