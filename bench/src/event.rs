//! The events that are sent: about 200 bytes, in two wire shapes, each with a stamp that says which event of
//! which stream it is and when it was *due*. Not a codec: the proxy's own is measured, so it is not used here.
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

/// How events look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Named events of an app of one's own; ends with `event: done`.
    Generic,
    /// Chat completion chunks; ends with a finish reason and `[DONE]`.
    OpenAi,
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
        let rest = data.get(memmem::find(data, MARK)? + MARK.len()..)?;
        let (number, rest) = digits(rest, NUMBER_DIGITS)?;
        let (stream, rest) = digits(rest.strip_prefix(b" s=")?, STREAM_DIGITS)?;
        let (due, _) = digits(rest.strip_prefix(b" t=")?, TIME_DIGITS)?;
        Some(Self { stream: u32::try_from(stream).ok()?, number: u32::try_from(number).ok()?, due })
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
        }
    }

    /// The request a client sends for stream `stream`, or for what follows the event with the id `after`, as it goes
    /// over the wire.
    pub(crate) fn request(self, host: &str, stream: u32, after: Option<&str>) -> Vec<u8> {
        let after = after.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let common = format!("host: {host}\r\naccept: text/event-stream\r\n{STREAM_HEADER}: {stream}\r\n{after}");
        match self {
            Self::Generic => format!("GET /events HTTP/1.1\r\n{common}\r\n"),
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
        let text = stamp.text();
        let (before, after) = match self {
            Self::Generic => ("event: data\ndata: {\"content\":\"".to_owned(), "\"}\n\n"),
            Self::OpenAi => (
                "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1,\
                 \"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\""
                    .to_owned(),
                "\"},\"finish_reason\":null}]}\n\n",
            ),
        };
        let padding = EVENT_BYTES.saturating_sub(before.len() + text.len() + after.len() + 1);
        format!("{before}{text} {}{after}", "x".repeat(padding))
    }

    /// Bytes of one event without chunk framing.
    pub(crate) fn event_bytes(self) -> usize {
        self.event(Stamp { stream: 0, number: 0, due: 0 }).len()
    }

    /// How many events its end has.
    pub(crate) fn end_events(self) -> u32 {
        match self {
            Self::Generic => 1,
            Self::OpenAi => 2,
        }
    }

    /// What comes after the last event: the shape's own end and the end of the body, chunked.
    pub(crate) fn end(self) -> Vec<u8> {
        let events: &[&str] = match self {
            Self::Generic => &["event: done\ndata: {}\n\n"],
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
}

impl Template {
    /// An event of `shape`.
    pub(crate) fn new(shape: Shape) -> Self {
        let bytes = chunk(&shape.event(Stamp { stream: 0, number: 0, due: 0 }));
        let stamp_at = memmem::find(&bytes, MARK).map_or(bytes.len(), |at| at + MARK.len());
        Self { bytes, stamp_at }
    }

    /// The bytes to send for `stamp`.
    pub(crate) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let mut at = self.stamp_at;
        for (value, digits) in [
            (u64::from(stamp.number), NUMBER_DIGITS),
            (u64::from(stamp.stream), STREAM_DIGITS),
            (stamp.due, TIME_DIGITS),
        ] {
            if let Some(field) = self.bytes.get_mut(at..at + digits) {
                write_digits(field, value);
            }
            at += digits + " s=".len();
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
    fn damaged_stamps_are_not_found() {
        for text in ["", "no mark", "#n=", "#n=12", "#n=00000000x1 s=000001 t=0000000000000001"] {
            assert_eq!(Stamp::find(text.as_bytes()), None, "{text}");
        }
    }
}
