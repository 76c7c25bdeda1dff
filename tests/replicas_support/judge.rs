//! What a client was told, held against what it should have been: all of it, once, in order; or a beginning and a
//! reason; or what is missing, named.

use std::fmt::Write as _;

use serde_json::Value;

use super::rider::Item;
use super::{End, Kind, Told};
use crate::support::Event;

/// What a client may be told when not all can be had.
const TOLD: [&str; 4] = ["session_gap", "session_not_found", "owner_lost", "store_unavailable"];

impl Told {
    /// Everything came, once and in order, to the terminator, and nobody was told of anything missing.
    pub fn must_be_whole(&self) {
        if let Err(why) = self.whole() {
            panic!("{why}\n{}", self.story());
        }
    }

    /// A beginning came, once and in order, and then the standard error of this code.
    pub fn must_be_a_prefix_before(&self, code: &str) {
        let prefix = self.in_order().and_then(|()| match &self.end {
            End::Failed(failed) if failed == code => Ok(()),
            end => Err(format!("{code} should have been its end, and not {end:?}")),
        });
        if let Err(why) = prefix {
            panic!("{why}\n{}", self.story());
        }
    }

    /// Nothing is missing or doubled without a word: it is whole, or whatever is not there was told.
    pub fn must_be_honest(&self) {
        if let Err(why) = self.honest() {
            panic!("{why}\n{}", self.story());
        }
    }

    /// See [`must_be_whole`](Self::must_be_whole).
    pub fn whole(&self) -> Result<(), String> {
        if self.end != End::Done {
            return Err(format!("it ended with {:?}", self.end));
        }
        self.in_order()?;
        let content = self.content();
        let (text, whole) = (content.concat(), (1..=self.talk.events).map(|n| self.talk.said(n)).collect::<String>());
        if text != whole {
            return Err(format!("{} of {} bytes came", text.len(), whole.len()));
        }
        Ok(())
    }

    /// What came is a beginning, without a gap, without anything twice, and under ids that follow on each other.
    fn in_order(&self) -> Result<(), String> {
        if let Some(gap) = self.items.iter().find(|item| matches!(item, Item::Gap(_))) {
            return Err(format!("there is a gap: {gap:?}"));
        }
        let whole = (1..=self.talk.events).map(|n| self.talk.said(n)).collect::<String>();
        let text = self.content().concat();
        if !whole.starts_with(&text) {
            let same = whole.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
            return Err(format!("what came differs from what was said after {same} bytes"));
        }
        let events: Vec<_> = self.events().collect();
        let once = |what: &str| events.iter().filter(|event| event.data.contains(what)).count();
        if self.talk.is_chat() && (once("\"role\"") > 1 || once("\"finish_reason\":\"stop\"") > 1) {
            return Err("it begins or stops more than once".to_owned());
        }
        numbers(self.talk.kind, &events)
    }

    /// See [`must_be_honest`](Self::must_be_honest).
    pub fn honest(&self) -> Result<(), String> {
        match &self.end {
            End::Done => {}
            End::Failed(code) if TOLD.contains(&code.as_str()) => {}
            end => return Err(format!("{end:?} is no honest end")),
        }
        if self.talk.is_chat() || !self.items.iter().any(|item| matches!(item, Item::Gap(_))) {
            return if self.end == End::Done { self.whole() } else { self.in_order() };
        }
        // With the gaps told: between two of them everything is in order, and what one names is what is missing.
        let mut expected = 1;
        let mut gap: Option<&Value> = None;
        for item in &self.items {
            match item {
                Item::Gap(told) => gap = Some(told),
                Item::Failure(_) => {}
                Item::Event(event) if event.name == "done" => {
                    if expected <= self.talk.events && !covers(gap, expected, self.talk.events) {
                        return Err(format!("it ended where {expected} was due"));
                    }
                }
                Item::Event(event) => {
                    let told = gap.take();
                    let n = (1..=self.talk.events).find(|n| self.talk.said(*n) == event.data);
                    let n = n.ok_or_else(|| format!("nobody said {event:?}"))?;
                    let repeated = n < expected && told.is_some_and(|gap| gap["reason"] == "epoch");
                    if n != expected && !repeated && !covers(told, expected, n.saturating_sub(1)) {
                        return Err(format!("{n} came where {expected} was due; a gap told: {told:?}"));
                    }
                    expected = n + 1;
                }
            }
        }
        Ok(())
    }

    /// The events that came.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.items.iter().filter_map(|item| match item {
            Item::Event(event) => Some(event),
            Item::Gap(_) | Item::Failure(_) => None,
        })
    }

    /// What the events say, but for the terminator.
    fn content(&self) -> Vec<String> {
        let said = |event: &Event| {
            if !self.talk.is_chat() {
                return (event.name != "done").then(|| event.data.clone());
            }
            let chunk: Value = serde_json::from_str(&event.data).ok()?;
            chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
        };
        self.events().filter_map(said).collect()
    }

    /// The error it ended with.
    pub fn failure(&self) -> &Value {
        let failure = self.items.iter().rev().find_map(|item| match item {
            Item::Failure(failure) => Some(failure),
            Item::Event(_) | Item::Gap(_) => None,
        });
        failure.unwrap_or_else(|| panic!("no failure\n{}", self.story()))
    }

    /// Gaps it was told of.
    pub fn gaps(&self) -> usize {
        self.items.iter().filter(|item| matches!(item, Item::Gap(_))).count()
    }

    /// All of it, for a person.
    pub fn story(&self) -> String {
        let mut story = format!("{:?}: {:?}\n", self.talk, self.end);
        let mut items = self.items.iter();
        for visit in &self.visits {
            let (replica, after) = (visit.replica, visit.after.as_deref().unwrap_or("nothing"));
            let heads = ["streamkeeper-session", "streamkeeper-source", "streamkeeper-durability"];
            let heads: Vec<_> = heads.iter().filter_map(|name| visit.header(name)).collect();
            let _ = writeln!(story, "at {replica} after {after}: {:?} {heads:?}", visit.status);
            let came: Vec<_> = items.by_ref().take(visit.items).collect();
            // The first, the last, and whatever stands beside a gap or a failure.
            let told = |n: usize| came.get(n).is_some_and(|item| !matches!(item, Item::Event(_)));
            let edge = |n: usize| n < 2 || n + 2 > came.len() || told(n) || told(n + 1) || n > 0 && told(n - 1);
            let shown: Vec<_> =
                came.iter().enumerate().filter(|(n, _)| edge(*n)).map(|(_, item)| brief(item)).collect();
            let shown = shown.join(", ");
            let _ = writeln!(story, "    {} items: {shown}; then {}", visit.items, visit.over);
        }
        story
    }
}

fn brief(item: &Item) -> String {
    match item {
        Item::Event(event) => {
            let data: String = event.data.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
            format!("{}={data:?}", event.id.as_deref().unwrap_or("-"))
        }
        Item::Gap(gap) => format!("gap {gap}"),
        Item::Failure(failure) => format!("failure {failure}"),
    }
}

/// Whether `gap` names all of `from..=to`.
fn covers(gap: Option<&Value>, from: usize, to: usize) -> bool {
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    gap.is_some_and(|gap| {
        gap["reason"] == "epoch"
            || matches!((number(&gap["from"]), number(&gap["to"])), (Some(first), Some(last)) if first <= from && to <= last)
    })
}

/// Ids follow on each other: the upstream's own, or ours, `<session>.<epoch>.<seq>`, dense over all epochs.
fn numbers(kind: Kind, events: &[&Event]) -> Result<(), String> {
    let mut before: Option<(String, u64)> = None;
    for (index, event) in events.iter().enumerate() {
        let id = event.id.as_deref().ok_or_else(|| format!("{event:?} has no id"))?;
        if kind == Kind::Numbered {
            if id != (index + 1).to_string() {
                return Err(format!("{id} is the id of event {}", index + 1));
            }
            continue;
        }
        let mut parts = id.split('.');
        let parsed =
            (|| Some((parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<usize>().ok()?)))();
        let (session, epoch, seq) = parsed.ok_or_else(|| format!("a strange id: {id}"))?;
        if seq != index + 1 {
            return Err(format!("{id} is the id of event {}", index + 1));
        }
        if let Some((known, last)) = &before
            && (known != session || epoch < *last)
        {
            return Err(format!("{id} follows on {known}.{last}"));
        }
        before = Some((session.to_owned(), epoch));
    }
    Ok(())
}
