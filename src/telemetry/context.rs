//! W3C trace context: which trace a request belongs to, and what the next hop is told.
//!
//! `traceparent` is read strictly: one that is not exactly as written down, or there twice, counts as absent, and then
//! so does `tracestate`. The latter is opaque here: it goes on as it came. Not here: spans (`spans`).
//! Source: W3C Trace Context, sections 3.2 and 3.3 (the flag for random ids: level 2, section 3.2.2.5.2).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace is recorded by whoever is before us.
const SAMPLED: u8 = 1;
/// The trace's id is random.
const RANDOM: u8 = 2;
/// The flags that have a meaning; the others are not ours to pass on.
const KNOWN_FLAGS: u8 = SAMPLED | RANDOM;
/// `00-` + 32 digits + `-` + 16 digits + `-` + 2 digits.
const LEN: usize = 55;

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    /// The caller's span; `None`: the trace begins here.
    parent: Option<u64>,
    flags: u8,
}

impl Trace {
    /// The trace that the caller's headers name.
    pub fn of_caller(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        parse(value.as_bytes())
    }

    /// A trace that begins here. `id` is random.
    pub fn begin(id: u128, sampled: bool) -> Self {
        Self { id: id.max(1), parent: None, flags: RANDOM | if sampled { SAMPLED } else { 0 } }
    }

    /// Its id: never 0.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The caller's span.
    pub fn parent(&self) -> Option<u64> {
        self.parent
    }

    /// Whether its spans are to be kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Its id as it is written: 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Makes `headers` say that they come from our span `span`.
    pub fn write(&self, span: u64, headers: &mut HeaderMap) {
        if self.parent.is_none() {
            headers.remove(TRACESTATE); // of no trace that we know
        }
        let value = format!("00-{:032x}-{span:016x}-{:02x}", self.id, self.flags);
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// Takes out what belongs to no trace that could be understood.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
}

fn parse(text: &[u8]) -> Option<Trace> {
    let version = hex(text.get(..2)?)?;
    let has_end = match version {
        0 => text.len() == LEN,
        0xff => false,
        // Later versions may say more, behind another dash.
        _ => text.get(LEN).is_none_or(|next| *next == b'-'),
    };
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let id = hex(text.get(3..35)?).filter(|id| *id != 0)?;
    let parent = hex(text.get(36..52)?).and_then(|span| u64::try_from(span).ok()).filter(|span| *span != 0)?;
    let flags = hex(text.get(53..LEN)?).and_then(|flags| u8::try_from(flags).ok())?;
    (has_end && dashes).then_some(Trace { id, parent: Some(parent), flags: flags & KNOWN_FLAGS })
}

/// At most 32 lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn caller(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (TRACEPARENT, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_span_of_ours() {
        let mut headers = caller(&[GOOD]);
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let trace = Trace::of_caller(&headers).unwrap();
        assert_eq!((trace.parent(), trace.is_sampled()), (Some(0xb7ad_6b71_6920_3331), true));
        assert_eq!(trace.hex(), "0af7651916cd43dd8448eb211c80319c");
        trace.write(0x17, &mut headers);
        assert_eq!(headers[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-0000000000000017-01");
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known_and_answered_in_ours() {
        for later in [GOOD.replacen("00", "cc", 1), format!("{}-what-comes", GOOD.replacen("00", "cc", 1))] {
            let trace = Trace::of_caller(&caller(&[&later])).unwrap();
            let mut headers = HeaderMap::new();
            trace.write(1, &mut headers);
            assert_eq!(headers[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01");
        }
    }

    #[test]
    fn flags_that_nobody_defined_are_not_passed_on() {
        let trace = Trace::of_caller(&caller(&[&GOOD.replace("-01", "-fe")])).unwrap();
        let mut headers = HeaderMap::new();
        trace.write(1, &mut headers);
        assert!(headers[TRACEPARENT].to_str().unwrap().ends_with("-02"));
        assert!(!trace.is_sampled());
    }

    #[test]
    fn what_is_not_exactly_a_traceparent_is_none() {
        let malformed = [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD[..54],
            &format!("{GOOD} "),
            &format!("{GOOD}0"),
            &format!("{GOOD}-00"),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replacen("00-", "0g-", 1),
            &GOOD.replacen("00-", "cc-", 1).replace("-01", "-01.x"),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for text in malformed {
            assert_eq!(Trace::of_caller(&caller(&[text])), None, "{text:?}");
        }
        assert_eq!(Trace::of_caller(&caller(&[GOOD, GOOD])), None, "it is there twice");
        assert_eq!(Trace::of_caller(&caller(&[])), None);
    }

    #[test]
    fn a_trace_that_begins_here_has_no_state_of_another() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        Trace::begin(7, false).write(1, &mut headers);
        assert_eq!(headers[TRACEPARENT], "00-00000000000000000000000000000007-0000000000000001-02");
        assert!(!headers.contains_key(TRACESTATE));
    }
}
