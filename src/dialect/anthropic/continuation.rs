//! A request that goes on with delivered text, and the reader that joins its stream to the first.
//!
//! A last message of the assistant is what the model goes on with. It must not end with white space, so that is cut
//! off and not said a second time if the model repeats it. Only text can be continued: with tools, thoughts or a
//! demanded form of the output, or once anything else than plain text was delivered, there is no continuation.
//!
//! Newer models refuse such a request with a 400; what that means for a route is decided where requests are made.
//! Source: Anthropic's API reference, "Prefill Claude's response", "Streaming messages".

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use streamkeeper_session::{Code, Fault};
use streamkeeper_sse::{Event, OwnedEvent};

use super::answer::block_delta;
use super::reader::{What, has_stop_reason};
use super::vendor;
use crate::dialect::json::{ObjectWriter, RawObject, is_hollow, quoted, raw_list, raw_text};
use crate::dialect::{Ask, CleanEnd, Continuation, Delivered, Meaning, Reader};

/// The shortest text that is taken for an echo where the second stream begins with it: shorter ones a model may well
/// say again.
const ECHO_MIN: usize = 16;

/// The request, and the reader for its answer.
pub(super) fn request(ask: &Ask<'_>, delivered: &mut dyn Iterator<Item = Delivered<'_>>) -> Option<Continuation> {
    let body = RawObject::read(ask.body)?;
    if !is_plain(&body) {
        return None;
    }
    let mut told = Told::default();
    for event in delivered {
        told.follow(&event)?;
    }
    let (last, before) = told.texts.split_last()?;
    let words = last.trim_end();
    if !told.open || words.is_empty() || before.iter().any(|text| text.trim().is_empty()) {
        return None;
    }
    let messages = messages(body.get("messages")?, before, words)?;
    let mut out = ObjectWriter::new();
    for (name, value) in body.fields() {
        out.raw(name, if name == "messages" { &messages } else { value.get() });
    }
    let reader = SecondReader {
        offset: u64::try_from(before.len()).ok()?,
        output_tokens: told.output_tokens,
        joint: Joint::new(words, last.get(words.len()..).unwrap_or_default()),
        stopped: false,
    };
    Some(Continuation { uri: ask.uri.clone(), body: Bytes::from(out.finish()), reader: Box::new(reader) })
}

/// Whether a request can only be answered with plain text, which a last message can stand for.
fn is_plain(body: &RawObject<'_>) -> bool {
    let thinks = body.solid("thinking").is_some_and(|thinking| {
        let kind = RawObject::of(thinking).and_then(|thinking| thinking.get("type"));
        kind.is_none_or(|kind| kind.get() != "\"disabled\"")
    });
    let formed =
        body.solid("output_config").and_then(RawObject::of).is_some_and(|config| config.solid("format").is_some());
    let others = ["tools", "mcp_servers", "container", "output_format"];
    !thinks && !formed && others.iter().all(|name| body.solid(name).is_none())
}

/// The messages with what was delivered as the last. Words that the caller had put into the model's mouth and the
/// delivered ones are one message, as they were one text.
fn messages(raw: &RawValue, before: &[String], words: &str) -> Option<String> {
    let mut listed: Vec<Cow<'_, str>> = raw_list(raw)?.into_iter().map(|message| message.get().into()).collect();
    let last = RawObject::read(listed.last()?.as_bytes())?;
    let mut content = match before {
        [] => quoted(words),
        _ => {
            let texts = before.iter().map(String::as_str).chain([words]);
            let blocks: Vec<_> = texts.map(|text| format!(r#"{{"type":"text","text":{}}}"#, quoted(text))).collect();
            format!("[{}]", blocks.join(","))
        }
    };
    if last.get("role").is_some_and(|role| role.get() == "\"assistant\"") {
        let said = raw_text(last.get("content")?).filter(|_| before.is_empty())?;
        content = quoted(&format!("{said}{words}"));
        listed.pop();
    }
    listed.push(format!(r#"{{"role":"assistant","content":{content}}}"#).into());
    Some(format!("[{}]", listed.join(",")))
}

/// What was delivered, if it is plain text.
#[derive(Debug, Default)]
struct Told {
    started: bool,
    /// The text of each block.
    texts: Vec<String>,
    /// The last block has not stopped.
    open: bool,
    /// What the first stream said that it had put out.
    output_tokens: u64,
}

impl Told {
    /// `None` where there is something else than text.
    fn follow(&mut self, event: &Delivered<'_>) -> Option<()> {
        if event.data.trim().is_empty() {
            return Some(());
        }
        let data = RawObject::read(event.data.as_bytes())?;
        let kind = raw_text(data.get("type")?)?;
        let at = data.get("index").and_then(|index| index.get().parse::<usize>().ok());
        match What::named(kind.as_bytes()) {
            What::Ping => Some(()),
            What::MessageStart if !self.started => self.start(&data),
            What::BlockStart if self.started && !self.open && at? == self.texts.len() => self.begin(&data),
            What::BlockDelta if self.open && at? + 1 == self.texts.len() => self.take(&data),
            What::BlockStop if self.open && at? + 1 == self.texts.len() => {
                self.open = false;
                Some(())
            }
            _ => None,
        }
    }

    fn start(&mut self, event: &RawObject<'_>) -> Option<()> {
        let message = RawObject::of(event.get("message")?)?;
        self.started = true;
        self.output_tokens = message.get("usage").and_then(output_tokens).unwrap_or(0);
        message.get("content").is_none_or(is_hollow).then_some(())
    }

    fn begin(&mut self, event: &RawObject<'_>) -> Option<()> {
        let text = text_of_block(event)?;
        self.texts.push(text.into_owned());
        self.open = true;
        Some(())
    }

    fn take(&mut self, event: &RawObject<'_>) -> Option<()> {
        let piece = text_of_delta(event)?;
        self.texts.last_mut()?.push_str(&piece);
        Some(())
    }
}

/// The text with which a plain text block begins, mostly none.
fn text_of_block<'a>(event: &RawObject<'a>) -> Option<Cow<'a, str>> {
    let block = RawObject::of(event.get("content_block")?)?;
    let plain = block.fields().all(|(name, value)| matches!(name, "type" | "text") || is_hollow(value));
    let is_text = plain && block.get("type").is_some_and(|kind| kind.get() == "\"text\"");
    raw_text(block.get("text")?).filter(|_| is_text)
}

fn text_of_delta<'a>(event: &RawObject<'a>) -> Option<Cow<'a, str>> {
    let delta = RawObject::of(event.get("delta")?)?;
    let is_text = delta.get("type").is_some_and(|kind| kind.get() == "\"text_delta\"");
    raw_text(delta.get("text")?).filter(|_| is_text)
}

fn output_tokens(usage: &RawValue) -> Option<u64> {
    RawObject::of(usage)?.get("output_tokens")?.get().parse().ok()
}

/// Reads the second stream as the rest of the first.
#[derive(Debug)]
struct SecondReader {
    /// The index of the block that goes on.
    offset: u64,
    /// What the first stream said that it had put out.
    output_tokens: u64,
    joint: Joint,
    /// A stop reason was seen.
    stopped: bool,
}

impl SecondReader {
    /// An event of a block: `None` if it is not what it should be.
    fn block(&mut self, what: What, event: &Event<'_>) -> Option<Meaning> {
        let data = RawObject::read(event.data)?;
        let index: u64 = data.get("index")?.get().parse().ok()?;
        if index != 0 {
            return self.moved(event, &data, index);
        }
        match what {
            What::BlockStart => {
                let text = text_of_block(&data)?;
                Some(self.text(&text))
            }
            What::BlockDelta => match text_of_delta(&data) {
                Some(text) => Some(self.text(&text)),
                None => self.moved(event, &data, index),
            },
            _ if self.joint.is_in_doubt() => None,
            _ => self.moved(event, &data, index),
        }
    }

    fn text(&mut self, piece: &str) -> Meaning {
        match self.joint.take(piece) {
            Some(text) if !text.is_empty() => {
                let delta = format!(r#"{{"type":"text_delta","text":{}}}"#, quoted(&text));
                Meaning::Replace(block_delta(usize::try_from(self.offset).unwrap_or(usize::MAX), &delta))
            }
            _ => Meaning::Skip,
        }
    }

    /// The event under the index that its block has in the first stream.
    fn moved(&self, event: &Event<'_>, data: &RawObject<'_>, index: u64) -> Option<Meaning> {
        if self.offset == 0 {
            return Some(Meaning::Content);
        }
        let index = index.checked_add(self.offset)?.to_string();
        Some(replaced(event, data, "index", &index))
    }

    /// `message_delta` with what both streams put out.
    fn delta(&mut self, event: &Event<'_>) -> Option<Meaning> {
        self.stopped |= has_stop_reason(event.data);
        let data = RawObject::read(event.data)?;
        let usage = data.get("usage")?;
        let total = output_tokens(usage)?.saturating_add(self.output_tokens).to_string();
        let mut out = ObjectWriter::new();
        for (name, value) in RawObject::of(usage)?.fields() {
            out.raw(name, if name == "output_tokens" { &total } else { value.get() });
        }
        Some(replaced(event, &data, "usage", &out.finish()))
    }
}

fn replaced(event: &Event<'_>, data: &RawObject<'_>, key: &str, json: &str) -> Meaning {
    let mut out = ObjectWriter::new();
    for (name, value) in data.fields() {
        out.raw(name, if name == key { json } else { value.get() });
    }
    Meaning::Replace(OwnedEvent { data: out.finish(), ..OwnedEvent::from(*event) })
}

impl Reader for SecondReader {
    fn read(&mut self, event: &Event<'_>) -> Meaning {
        let what = What::of(event);
        match what {
            What::Error => Meaning::Error(vendor::fault(event.data.trim_ascii())),
            What::MessageStart | What::Ping => Meaning::Skip,
            What::MessageStop if !event.data.trim_ascii().is_empty() => Meaning::Done,
            What::MessageStop => Meaning::Skip,
            What::BlockDelta if self.joint.closed && self.offset == 0 => Meaning::Content,
            What::BlockStart | What::BlockDelta | What::BlockStop => {
                self.block(what, event).unwrap_or_else(cannot_be_joined)
            }
            What::MessageDelta => self.delta(event).unwrap_or(Meaning::Content),
            What::Unknown => Meaning::Content,
        }
    }

    fn clean_end(&self) -> CleanEnd {
        if self.stopped { CleanEnd::Unmarked } else { CleanEnd::Truncated }
    }
}

/// The answer is not whole, and this is not the rest of it.
fn cannot_be_joined() -> Meaning {
    let fault =
        Fault::new(Code::UpstreamTruncated).cause("what the model went on with does not fit what was delivered");
    Meaning::Error(Box::new(fault))
}

/// Where the second text meets the first: drops what it says again, in whatever pieces it comes.
#[derive(Debug)]
struct Joint {
    /// The delivered words, if they are long enough to be recognised. Empty once they were met or missed.
    echo: String,
    /// The delivered white space that the model did not see.
    tail: String,
    /// What came and may be said already.
    held: String,
    /// Nothing is held any more.
    closed: bool,
}

impl Joint {
    fn new(words: &str, tail: &str) -> Self {
        let echo = if words.len() < ECHO_MIN { "" } else { words };
        Self { echo: echo.into(), tail: tail.into(), held: String::new(), closed: false }
    }

    /// What of the text so far is to be said now; `None` while that cannot be told.
    fn take<'p>(&mut self, piece: &'p str) -> Option<Cow<'p, str>> {
        if self.closed {
            return Some(piece.into());
        }
        if !self.echo.is_empty() {
            // What is held is how the echo begins, so only what is new is compared.
            let expected = self.echo.get(self.held.len()..).unwrap_or_default();
            if let Some(after) = piece.strip_prefix(expected) {
                self.held.clear();
                self.held.push_str(after);
            } else {
                let goes_on = expected.starts_with(piece);
                self.held.push_str(piece);
                if goes_on {
                    return None;
                }
            }
            self.echo.clear();
        } else {
            self.held.push_str(piece);
        }
        if self.held.len() < self.tail.len() && self.tail.starts_with(&self.held) {
            return None;
        }
        self.closed = true;
        let both = self.held.chars().zip(self.tail.chars()).take_while(|(held, tail)| held == tail);
        let again: usize = both.map(|(c, _)| c.len_utf8()).sum();
        Some(self.held.split_off(again).into())
    }

    /// Whether words are held of which nobody can tell if they are an echo. White space that was delivered is not.
    fn is_in_doubt(&self) -> bool {
        !self.echo.is_empty() && !self.held.is_empty() && !self.tail.starts_with(&self.held)
    }
}

#[cfg(test)]
mod tests;
