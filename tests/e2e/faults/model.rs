//! The model of write-once, which checks whether a history of puts and reads is possible.
//!
//! Every operation takes effect at one moment between its start and its end. For each key only one such moment
//! matters: when its event is stored. A history is allowed if for each key one put, or none, explains all
//! responses and reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The end of an operation that may still take effect at any later time.
pub(crate) const NEVER: u64 = u64::MAX;

/// An event as it is sent. Events with the same `value` are the same event in different spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) value: usize,
    pub(crate) text: Arc<str>,
}

/// The outcome of a put, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 201: the event is stored, by this or another put.
    Acknowledged,
    /// 409: the key has a different event.
    Conflict,
    /// A response other than 409 with `"stored":"no"`.
    Refused,
    /// A response with `"stored":"unknown"`.
    Unknown,
    /// The connection ended without a response.
    Unanswered,
}

/// A put that was sent completely, or may have been.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) key: String,
    pub(crate) event: Event,
    /// The moment before it was sent.
    pub(crate) start: u64,
    /// The moment after a response that tells the outcome; otherwise the moment at which its server had ended,
    /// or [`NEVER`].
    pub(crate) end: u64,
    pub(crate) outcome: Outcome,
}

/// All stored events between two moments, including duplicates.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) events: Vec<(String, String)>,
}

/// The result of a read for one key.
struct Seen<'a> {
    start: u64,
    end: u64,
    text: Option<&'a str>,
}

/// The reasons why the model does not allow a history, key by key; empty if it does.
pub(crate) fn violations(puts: &[Put], reads: &[Read]) -> Vec<String> {
    let mut found: Vec<String> = reads.iter().flat_map(duplicate_keys).collect();
    let reads: Vec<(&Read, BTreeMap<&str, &str>)> = reads
        .iter()
        .map(|read| {
            let events = read.events.iter();
            let events = events.map(|(key, text)| (key.as_str(), text.as_str()));
            (read, events.collect())
        })
        .collect();
    let mut by_key: BTreeMap<&str, Vec<&Put>> = BTreeMap::new();
    for put in puts {
        by_key.entry(&put.key).or_default().push(put);
    }
    let held: BTreeSet<&str> = reads
        .iter()
        .flat_map(|(_, events)| events.keys().copied())
        .collect();
    for key in held {
        // Includes keys that nobody put.
        by_key.entry(key).or_default();
    }
    for (key, puts) in by_key {
        let seen = reads.iter().map(|(read, events)| Seen {
            start: read.start,
            end: read.end,
            text: events.get(key).copied(),
        });
        found.extend(violation(key, &puts, &seen.collect::<Vec<_>>()));
    }
    found
}

fn duplicate_keys(read: &Read) -> Vec<String> {
    let mut keys = BTreeSet::new();
    let twice = read.events.iter().filter(|(key, _)| !keys.insert(key));
    twice
        .map(|(key, _)| format!("{key:?} is there twice"))
        .collect()
}

/// The reason why no put explains the responses and reads of a key, nor that none has stored its event; `None`
/// if one does.
fn violation(key: &str, puts: &[&Put], reads: &[Seen<'_>]) -> Option<String> {
    let mut reasons = vec![format!(
        "none is stored, but {}",
        stored_after_all(puts, reads)?
    )];
    for put in puts {
        let why = cannot_be_first(put, puts, reads)?;
        reasons.push(format!("{} is stored, but {why}", describe(put)));
    }
    Some(format!("{key:?}:\n  {}", reasons.join("\n  ")))
}

/// Evidence that something is stored; `None` if there is none.
fn stored_after_all(puts: &[&Put], reads: &[Seen<'_>]) -> Option<String> {
    let shows = |put: &&&Put| matches!(put.outcome, Outcome::Acknowledged | Outcome::Conflict);
    let read = reads.iter().find_map(|read| Some((read, read.text?)));
    match (puts.iter().find(shows), read) {
        (Some(put), _) => Some(format!("{} was", describe(put))),
        (None, Some((read, text))) => Some(format!("{} found {}", read.describe(), short(text))),
        (None, None) => None,
    }
}

/// Evidence that a put is not the one that has stored its event; `None` if there is none.
fn cannot_be_first(first: &Put, puts: &[&Put], reads: &[Seen<'_>]) -> Option<String> {
    match first.outcome {
        Outcome::Acknowledged | Outcome::Unknown | Outcome::Unanswered => {}
        Outcome::Conflict | Outcome::Refused => return Some("the response excludes it".to_owned()),
    }
    // It would have to be stored after the first moment and before the second.
    let mut after = (first.start, "it was sent".to_owned());
    let mut before = (first.end, "it ended".to_owned());
    for put in puts {
        let is_same = put.event.value == first.event.value;
        match put.outcome {
            Outcome::Acknowledged if is_same => {}
            Outcome::Conflict if !is_same => {}
            Outcome::Acknowledged | Outcome::Conflict => {
                return Some(format!("{} was", describe(put)));
            }
            Outcome::Refused | Outcome::Unknown | Outcome::Unanswered => continue,
        }
        if put.end < before.0 {
            before = (put.end, describe(put));
        }
    }
    for read in reads {
        match read.text {
            None if read.start > after.0 => {
                after = (read.start, format!("{} found nothing", read.describe()));
            }
            Some(text) if *text != *first.event.text => {
                return Some(format!("{} found {}", read.describe(), short(text)));
            }
            Some(_) if read.end < before.0 => {
                before = (read.end, format!("{} found it", read.describe()));
            }
            _ => {}
        }
    }
    (after.0 >= before.0).then(|| format!("{} only after {}", after.1, before.1))
}

impl Seen<'_> {
    fn describe(&self) -> String {
        format!("a read [{}, {}]", self.start, self.end)
    }
}

fn describe(put: &Put) -> String {
    let end = match put.end {
        NEVER => "…".to_owned(),
        end => end.to_string(),
    };
    let text = short(&put.event.text);
    format!("{text} [{}, {end}] {:?}", put.start, put.outcome)
}

/// Enough of an event to identify it.
fn short(text: &str) -> String {
    /// Longer than all but the large events.
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
