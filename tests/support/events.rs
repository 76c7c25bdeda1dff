//! A naive reader of event streams, independent of the proxy's own codec and much stricter than any client: it
//! accepts only what the proxy promises to send, and panics at anything else. So every story checks the injection
//! rules without naming them: LF only, one space after the colon, no block without data, a keep-alive of one line.

/// One event as a client gets it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// `id`.
    pub id: Option<String>,
    /// `event`; empty where there is none.
    pub name: String,
    /// `data`, lines joined by `\n`.
    pub data: String,
    /// `retry`, in milliseconds; of several the last, as clients do.
    pub retry: Option<u64>,
    /// Comments before or inside the block, without their colon and space.
    pub comments: Vec<String>,
}

impl Event {
    /// The id of an event that must have one.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("an event without id: {self:?}"))
    }

    /// The data as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// The data of all events.
pub fn data(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data.as_str()).collect()
}

/// The ids of all events; each must have one.
pub fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::id).collect()
}

/// Takes the first whole block out of `stream`, if there is one.
pub fn take(stream: &mut Vec<u8>) -> Option<Event> {
    let end = stream.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let block: Vec<u8> = stream.drain(..end).collect();
    let block = String::from_utf8(block).expect("an event stream is UTF-8");
    Some(parse(&block))
}

fn parse(block: &str) -> Event {
    assert!(!block.contains('\r'), "a CR in {block:?}");
    assert!(!block.contains('\0'), "a NUL in {block:?}");
    let mut event = Event::default();
    let mut data: Option<String> = None;
    for line in block.trim_end_matches('\n').split('\n') {
        if let Some(comment) = line.strip_prefix(": ") {
            event.comments.push(comment.to_owned());
            continue;
        }
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("a strange line {line:?} in {block:?}"));
        match field {
            "data" => {
                let lines = data.get_or_insert_default();
                if !lines.is_empty() {
                    lines.push('\n');
                }
                lines.push_str(value);
            }
            "id" => assert!(event.id.replace(value.to_owned()).is_none(), "two ids in {block:?}"),
            "event" => {
                assert!(std::mem::replace(&mut event.name, value.to_owned()).is_empty(), "two names in {block:?}")
            }
            "retry" => {
                event.retry = Some(value.parse().unwrap_or_else(|_| panic!("a strange retry in {block:?}")));
            }
            _ => panic!("a strange field {field:?} in {block:?}"),
        }
    }
    event.data = data.unwrap_or_else(|| panic!("a block without data: {block:?}"));
    event
}

#[test]
fn the_oracle_reads_what_it_should() {
    let mut stream = b": ka\nid: 7\nevent: tick\nretry: 10\ndata: a\ndata: b\n\ndata: c".to_vec();
    let event = take(&mut stream).expect("a whole block");
    assert_eq!((event.id(), event.name.as_str(), event.retry), ("7", "tick", Some(10)));
    assert_eq!((event.data.as_str(), event.comments.as_slice()), ("a\nb", &["ka".to_owned()][..]));
    assert_eq!((take(&mut stream), stream), (None, b"data: c".to_vec()));
}
