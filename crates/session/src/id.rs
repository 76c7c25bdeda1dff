//! Names on the wire: which session, and which event of it.
//!
//! A [`SessionId`] is 128 random bits, written as 22 characters of base64url (RFC 4648 section 5,
//! without padding). An [`EventId`] is `<session>.<epoch>.<seq>`; a client hands it back in
//! `Last-Event-ID` and must treat it as opaque.
//!
//! Both are read strictly: every value has exactly one spelling, and anything else is a typed error
//! that never repeats the input. So an id can be logged, compared as text, and handed to a store
//! without a second look. This module makes no randomness and decides nothing about who may use an id.

#[cfg(test)]
mod tests;

use core::fmt;
use core::str::FromStr;

/// Length in bytes of every written [`SessionId`].
pub const SESSION_ID_LEN: usize = 22;

/// No text longer than this many bytes is looked at as an event id.
pub const EVENT_ID_MAX_LEN: usize = 128;

/// `<session>.<epoch>.` at its longest: 22 characters, a dot, ten digits, a dot.
const PREFIX_MAX_LEN: usize = SESSION_ID_LEN + 1 + 10 + 1;

/// The name of one session: 128 bits that nobody can guess, if the caller drew them well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// Takes 128 bits, which must come from a cryptographic generator: without credentials on the
    /// request, knowing the id is the right to read the session.
    #[must_use]
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits, as a key for maps.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The 22 characters, all ASCII.
    #[must_use]
    pub fn encode(self) -> [u8; SESSION_ID_LEN] {
        // 128 bits are 21 sextets and two bits over; those two lead the last character.
        let mut text = [symbol(((self.0 & 0b11) as u8) << 4); SESSION_ID_LEN];
        let mut rest = self.0 >> 2;
        for slot in text.iter_mut().rev().skip(1) {
            *slot = symbol((rest & 0x3f) as u8);
            rest >>= 6;
        }
        text
    }
}

/// The base64url character of a value below 64.
const fn symbol(sextet: u8) -> u8 {
    match sextet {
        0..=25 => b'A' + sextet,
        26..=51 => b'a' + (sextet - 26),
        52..=61 => b'0' + (sextet - 52),
        62 => b'-',
        _ => b'_',
    }
}

/// The value of a base64url character.
const fn sextet(symbol: u8) -> Option<u8> {
    match symbol {
        b'A'..=b'Z' => Some(symbol - b'A'),
        b'a'..=b'z' => Some(symbol - b'a' + 26),
        b'0'..=b'9' => Some(symbol - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ASCII by construction, so nothing is ever replaced.
        f.pad(core::str::from_utf8(&self.encode()).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`SessionId`]. Says what is wrong and never what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSessionId {
    /// It is not 22 bytes long.
    #[error("a session id has exactly 22 characters")]
    Length,
    /// A byte outside of base64url.
    #[error("a session id holds only letters, digits, '-' and '_'")]
    Character,
    /// The last character carries bits beyond the 128th: a second spelling of another id.
    #[error("the last character of the session id carries bits it must not")]
    NotCanonical,
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let (&last, head) = match text.as_bytes().split_last() {
            Some(parts) if text.len() == SESSION_ID_LEN => parts,
            _ => return Err(BadSessionId::Length),
        };
        let mut bits: u128 = 0;
        for &byte in head {
            bits = (bits << 6) | u128::from(sextet(byte).ok_or(BadSessionId::Character)?);
        }
        let last = sextet(last).ok_or(BadSessionId::Character)?;
        if last & 0x0f != 0 {
            return Err(BadSessionId::NotCanonical);
        }
        Ok(Self((bits << 2) | u128::from(last >> 4)))
    }
}

/// The name of one event: its session, the life of that session's pump, and its place in the log.
///
/// `seq` 0 is a legal name that no event has: it stands for "nothing seen yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The session.
    pub session: SessionId,
    /// Which pump of that session wrote it; a takeover counts it up.
    pub epoch: u32,
    /// Place in the log; the first event has 1.
    pub seq: u64,
}

impl EventId {
    /// Appends the written id to `out`: at most 54 bytes of ASCII, without formatting machinery.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        EventIdPrefix::new(self.session, self.epoch).write_to(self.seq, out);
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.session, self.epoch, self.seq)
    }
}

/// `<session>.<epoch>.`, rendered once per client, so that naming an event costs its digits only.
#[derive(Clone, Copy)]
pub struct EventIdPrefix {
    text: [u8; PREFIX_MAX_LEN],
    len: u8,
}

impl EventIdPrefix {
    /// Renders what all events of one epoch of a session share.
    #[must_use]
    pub fn new(session: SessionId, epoch: u32) -> Self {
        let digits = Decimal::new(u64::from(epoch));
        let encoded = session.encode();
        let parts = encoded.iter().chain(b".").chain(digits.as_bytes()).chain(b".");
        let mut prefix = Self { text: [0; PREFIX_MAX_LEN], len: 0 };
        for (slot, &byte) in prefix.text.iter_mut().zip(parts) {
            *slot = byte;
            prefix.len += 1;
        }
        prefix
    }

    /// The rendered bytes, ending in a dot.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Appends the whole id of the event at `seq` to `out`.
    pub fn write_to(&self, seq: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
        out.extend_from_slice(Decimal::new(seq).as_bytes());
    }
}

impl fmt::Debug for EventIdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// A number as decimal digits, right-aligned on the stack.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; 20], start: 20 };
        for slot in decimal.digits.iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            decimal.start -= 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

/// Why a text is no [`EventId`]. Says what is wrong and never what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEventId {
    /// More than [`EVENT_ID_MAX_LEN`] bytes.
    #[error("an event id has at most {EVENT_ID_MAX_LEN} bytes")]
    TooLong,
    /// Not three parts with a dot between each.
    #[error("an event id has three parts, separated by dots")]
    Shape,
    /// The first part is no session id.
    #[error("the session in the event id is malformed")]
    Session(#[source] BadSessionId),
    /// The second part is no epoch.
    #[error("the epoch in the event id is malformed")]
    Epoch(#[source] BadNumber),
    /// The third part is no place in a log.
    #[error("the sequence number in the event id is malformed")]
    Seq(#[source] BadNumber),
}

/// Why a text is no number of an [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadNumber {
    /// There are no digits.
    #[error("a number is missing")]
    Empty,
    /// Something else than the digits 0 to 9, a sign for example.
    #[error("a number holds only the digits 0 to 9")]
    NotADigit,
    /// A second spelling of the same number.
    #[error("a number has no leading zeros")]
    LeadingZero,
    /// It does not fit.
    #[error("a number is too large")]
    TooLarge,
}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        if text.len() > EVENT_ID_MAX_LEN {
            return Err(BadEventId::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(session), Some(epoch), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadEventId::Shape);
        };
        Ok(Self {
            session: session.parse().map_err(BadEventId::Session)?,
            epoch: number(epoch)
                .and_then(|n| u32::try_from(n).map_err(|_| BadNumber::TooLarge))
                .map_err(BadEventId::Epoch)?,
            seq: number(seq).map_err(BadEventId::Seq)?,
        })
    }
}

/// Reads the one spelling of a number. `str::parse` would take a plus sign and leading zeros.
fn number(text: &str) -> Result<u64, BadNumber> {
    if text.is_empty() {
        return Err(BadNumber::Empty);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadNumber::NotADigit);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(BadNumber::LeadingZero);
    }
    text.parse().map_err(|_| BadNumber::TooLarge)
}
