//! The events that are sent: about 200 bytes in two wire shapes, or of any size in one of them, each with a stamp that
//! says which event of which stream it is and when it was *due*. Not a codec: the proxy's own is measured, so it is not
//! used here.
//!
//! Source of the shapes: WHATWG HTML, "Server-sent events"; the OpenAI reference, "The chat completion chunk object".

use memchr::memmem;

use crate::clock::Nanos;

/// Bytes of one event without chunk framing, where the shape leaves room for padding.
const EVENT_BYTES: usize = 200;
const MARK: &[u8] = b"#n=";
const NUMBER_DIGITS: usize = 10;
const STREAM_DIGITS: usize = 6;
const TIME_DIGITS: usize = 16;
/// Digits of the number, and as many of the stream, where an event is too small for more.
const SHORT_DIGITS: usize = 6;
/// The least size that has room for a whole stamp.
const STAMPED: u32 = 80;

/// How events look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Named events of an app of one's own; ends with `event: done`.
    Generic,
    /// Chat completion chunks; ends with a finish reason and `[DONE]`.
    OpenAi,
    /// As generic, of so many bytes; with less than 80 it is nothing but its numbers, in 20 bytes, and does not say
    /// when it was due.
    Sized(u32),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// A stream from its start.
    Stream,
    /// What follows the event with this id.
    After(&'a str),
    /// The stream of this session, from its start, beside those who read it already.
    Attach(&'a str),
}

/// Which event this is and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Index of the stream in its scenario.
    pub(crate) stream: u32,
    /// Position in the stream, from 0.
    pub(crate) number: u32,
    /// When it was due: by the schedule, not by when the upstream got round to it.
    pub(crate) due: Nanos,
}

impl Stamp {
    fn text(self) -> String {
        let Self { stream, number, due } = self;
        format!("#n={number:0NUMBER_DIGITS$} s={stream:0STREAM_DIGITS$} t={due:0TIME_DIGITS$}")
    }

    /// The stamp somewhere in an event's data; `None` if there is none or it is damaged.
    pub(crate) fn find(data: &[u8]) -> Option<Self> {
        let Some(at) = memmem::find(data, MARK) else { return Self::short(data) };
        let rest = data.get(at + MARK.len()..)?;
        let (number, rest) = digits(rest, NUMBER_DIGITS)?;
        let (stream, rest) = digits(rest.strip_prefix(b" s=")?, STREAM_DIGITS)?;
        let (due, _) = digits(rest.strip_prefix(b" t=")?, TIME_DIGITS)?;
        Some(Self { stream: u32::try_from(stream).ok()?, number: u32::try_from(number).ok()?, due })
    }

    /// Nothing but number and stream.
    fn short(data: &[u8]) -> Option<Self> {
        let (number, rest) = digits(data, SHORT_DIGITS)?;
        let (stream, rest) = digits(rest, SHORT_DIGITS)?;
        let stamp = Self { stream: u32::try_from(stream).ok()?, number: u32::try_from(number).ok()?, due: 0 };
        rest.is_empty().then_some(stamp)
    }
}

fn digits(text: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let mut value = 0_u64;
    for digit in digits {
        value = value * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some((value, rest))
}

impl Shape {
    /// What the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::OpenAi => "OpenAI chunks",
            Self::Sized(_) => "generic, sized",
        }
    }

    /// Whether its events are too small to say when they were due.
    pub(crate) fn is_short(self) -> bool {
        matches!(self, Self::Sized(..STAMPED))
    }

    /// The request a client sends for stream `stream`, as it goes over the wire.
    pub(crate) fn request(self, host: &str, stream: u32, ask: Ask<'_>) -> Vec<u8> {
        let after = match ask {
            Ask::After(id) => format!("last-event-id: {id}\r\n"),
            Ask::Stream | Ask::Attach(_) => String::new(),
        };
        let common = format!("host: {host}\r\naccept: text/event-stream\r\n{STREAM_HEADER}: {stream}\r\n{after}");
        if let Ask::Attach(session) = ask {
            return format!("GET /_streamkeeper/sessions/{session} HTTP/1.1\r\n{common}\r\n").into_bytes();
        }
        match self {
            Self::Generic | Self::Sized(_) => format!("GET /events HTTP/1.1\r\n{common}\r\n"),
            Self::OpenAi => {
                let body = r#"{"model":"bench","stream":true,"messages":[{"role":"user","content":"go"}]}"#;
                let length = body.len();
                format!(
                    "POST /v1/chat/completions HTTP/1.1\r\n{common}content-type: application/json\r\n\
                     content-length: {length}\r\n\r\n{body}"
                )
            }
        }
        .into_bytes()
    }

    fn event(self, stamp: Stamp) -> String {
        if self.is_short() {
            return format!("data: {:0SHORT_DIGITS$}{:0SHORT_DIGITS$}\n\n", stamp.number, stamp.stream);
        }
        let text = stamp.text();
        let size = if let Self::Sized(bytes) = self { bytes as usize } else { EVENT_BYTES };
        let (before, after) = match self {
            Self::Generic | Self::Sized(_) => ("event: data\ndata: {\"content\":\"".to_owned(), "\"}\n\n"),
            Self::OpenAi => (
                "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,\
                 \"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\""
                    .to_owned(),
                "\"},\"finish_reason\":null}]}\n\n",
            ),
        };
        let padding = size.saturating_sub(before.len() + text.len() + after.len() + 1);
        format!("{before}{text} {}{after}", "x".repeat(padding))
    }

    /// Bytes of one event without chunk framing.
    pub(crate) fn event_bytes(self) -> usize {
        self.event(Stamp { stream: 0, number: 0, due: 0 }).len()
    }

    /// How many events its end has.
    pub(crate) fn end_events(self) -> u32 {
        match self {
            Self::Generic | Self::Sized(_) => 1,
            Self::OpenAi => 2,
        }
    }

    /// What comes after the last event: the shape's own end and the end of the body, chunked.
    pub(crate) fn end(self) -> Vec<u8> {
        let events: &[&str] = match self {
            Self::Generic | Self::Sized(_) => &["event: done\ndata: {}\n\n"],
            Self::OpenAi => &[
                "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\
                 \"bench\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
                "data: [DONE]\n\n",
            ],
        };
        let mut bytes: Vec<u8> = events.iter().flat_map(|event| chunk(event)).collect();
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// The request header that carries the index of the stream through whatever stands between.
pub(crate) const STREAM_HEADER: &str = "x-bench-stream";

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// One event in a chunk of its own, the way servers write them; only its stamp changes.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    stamp_at: usize,
    short: bool,
}

impl Template {
    /// An event of `shape`.
    pub(crate) fn new(shape: Shape) -> Self {
        let bytes = chunk(&shape.event(Stamp { stream: 0, number: 0, due: 0 }));
        let mark: &[u8] = if shape.is_short() { b"data: " } else { MARK };
        let stamp_at = memmem::find(&bytes, mark).map_or(bytes.len(), |at| at + mark.len());
        Self { bytes, stamp_at, short: shape.is_short() }
    }

    /// The bytes to send for `stamp`.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let mut at = self.stamp_at;
        let (number, stream) = (u64::from(stamp.number), u64::from(stamp.stream));
        let whole = [(number, NUMBER_DIGITS), (stream, STREAM_DIGITS), (stamp.due, TIME_DIGITS)];
        let short = [(number, SHORT_DIGITS), (stream, SHORT_DIGITS)];
        let (fields, between) = if self.short { (&short[..], 0) } else { (&whole[..], " s=".len()) };
        for (value, digits) in fields.iter().copied() {
            if let Some(field) = self.bytes.get_mut(at..at + digits) {
                write_digits(field, value);
            }
            at += digits + between;
        }
        &self.bytes
    }
}

fn write_digits(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_from_either_shape_as_it_was_written() {
        for shape in [Shape::Generic, Shape::OpenAi] {
            let mut template = Template::new(shape);
            for stamp in [
                Stamp { stream: 0, number: 0, due: 0 },
                Stamp { stream: 199, number: 9_999, due: 123_456_789_012 },
                Stamp { stream: 999_999, number: u32::MAX, due: 9_999_999_999_999_999 },
            ] {
                assert_eq!(Stamp::find(template.stamped(stamp)), Some(stamp));
            }
        }
    }

    #[test]
    fn a_template_writes_what_formatting_the_event_would() {
        let stamp = Stamp { stream: 7, number: 42, due: 1_234 };
        for shape in [Shape::Generic, Shape::OpenAi] {
            assert_eq!(Template::new(shape).stamped(stamp), chunk(&shape.event(stamp)));
        }
    }

    #[test]
    fn events_have_about_200_bytes() {
        for shape in [Shape::Generic, Shape::OpenAi] {
            assert!((195..=230).contains(&shape.event_bytes()), "{}", shape.event_bytes());
        }
    }

    #[test]
    fn sized_events_have_the_size_that_is_asked_for_and_say_which_they_are() {
        for (asked, got) in [(20, 20), (80, 80), (200, 200), (65_536, 65_536)] {
            let shape = Shape::Sized(asked);
            assert_eq!(shape.event_bytes(), got);
            let stamp = Stamp { stream: 31, number: 9_999, due: 5 };
            let due = if shape.is_short() { 0 } else { 5 };
            let mut template = Template::new(shape);
            let wire = template.stamped(stamp);
            assert_eq!(wire, chunk(&shape.event(stamp)));
            let data = memmem::find(wire, b"data: ").map(|at| &wire[at + 6..wire.len() - 4]).expect("a data line");
            assert_eq!(Stamp::find(data), Some(Stamp { due, ..stamp }));
        }
    }

    #[test]
    fn damaged_stamps_are_not_found() {
        for text in ["", "no mark", "#n=", "#n=12", "#n=00000000x1 s=000001 t=0000000000000001", "0000010000020"] {
            assert_eq!(Stamp::find(text.as_bytes()), None, "{text}");
        }
    }
}
