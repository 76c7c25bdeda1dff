//! Headers that are kept for long: one allocation of exactly their size.
//!
//! A `HeaderMap` takes ten times as much, and its values may be slices of the buffer that they were read from, which
//! then lives as long as they do. Not here: which headers are kept.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers as lines, `name:value`, each with a line end, which neither can contain.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderLines(Box<[u8]>);

impl HeaderLines {
    /// These headers.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Self {
        let mut lines = Vec::new();
        for (name, value) in headers {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        Self(lines.into_boxed_slice())
    }

    /// What somebody else has kept, from [`as_bytes`](Self::as_bytes).
    pub fn from_bytes(lines: &[u8]) -> Self {
        Self(lines.into())
    }

    /// The lines.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The headers again; what is no header is left out.
    pub fn to_map(&self) -> HeaderMap {
        let header = |line: &[u8]| {
            let colon = memchr::memchr(b':', line)?;
            let (name, value) = line.split_at(colon);
            Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.get(1..)?).ok()?))
        };
        let mut map = HeaderMap::new();
        for (name, value) in self.0.split(|byte| *byte == b'\n').filter_map(header) {
            map.append(name, value);
        }
        map
    }
}

impl std::fmt::Debug for HeaderLines {
    /// Without values: they may be credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.to_map().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let mut sent = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2: 3"), ("x-b", ""), ("x-c", "\u{e9}"), ("authorization", "me")] {
            sent.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let lines = HeaderLines::of(&sent);
        assert_eq!(lines.to_map(), sent);
        assert_eq!(HeaderLines::from_bytes(lines.as_bytes()), lines);
        assert_eq!(format!("{lines:?}"), r#"["x-a", "x-b", "x-c", "authorization"]"#);
    }

    #[test]
    fn what_is_no_header_is_left_out() {
        assert_eq!(HeaderLines::from_bytes(b"no colon\n:\nb d:1\nx-a:\x01\nx-b:2").to_map().len(), 1);
        assert!(HeaderLines::default().to_map().is_empty());
    }
}
