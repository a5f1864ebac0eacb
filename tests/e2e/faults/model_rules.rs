//! The rules of the model, each with a history that it allows and one that it does not.

use std::slice::from_ref;

use super::model::Outcome::{self, Acknowledged, Conflict, Refused, Unanswered, Unknown};
use super::model::{Event, NEVER, Put, Read, violations};

/// Two spellings of one event, and another event.
const ONE: (usize, &str) = (1, "1");
const ONE_TOO: (usize, &str) = (1, "1.0");
const TWO: (usize, &str) = (2, "2");

fn put(start: u64, end: u64, (value, text): (usize, &str), outcome: Outcome) -> Put {
    Put {
        key: "key".to_owned(),
        event: Event {
            value,
            text: text.into(),
        },
        start,
        end,
        outcome,
    }
}

/// A read that finds these events under the one key.
fn read(start: u64, end: u64, texts: &[&str]) -> Read {
    let events = texts
        .iter()
        .map(|text| ("key".to_owned(), (*text).to_owned()));
    Read {
        start,
        end,
        events: events.collect(),
    }
}

#[track_caller]
fn allowed(puts: &[Put], reads: &[Read]) {
    let found = violations(puts, reads);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[track_caller]
fn forbidden(puts: &[Put], reads: &[Read]) {
    let found = violations(puts, reads);
    assert_eq!(found.len(), 1, "{}", found.join("\n"));
    assert!(found[0].contains("\"key\""), "{found:?}");
}

#[test]
fn empty_history_is_allowed() {
    allowed(&[], &[]);
    allowed(&[], &[read(1, 2, &[])]);
    allowed(&[put(1, 2, ONE, Refused)], &[read(3, 4, &[])]);
    allowed(&[put(1, NEVER, ONE, Unknown)], &[read(3, 4, &[])]);
}

#[test]
fn of_two_events_one_is_acknowledged() {
    allowed(
        &[put(1, 3, ONE, Acknowledged), put(2, 4, TWO, Conflict)],
        &[],
    );
    allowed(
        &[put(1, 3, ONE, Conflict), put(2, 4, TWO, Acknowledged)],
        &[],
    );
    forbidden(
        &[put(1, 3, ONE, Acknowledged), put(2, 4, TWO, Acknowledged)],
        &[],
    );
}

#[test]
fn two_spellings_are_one_event() {
    allowed(
        &[
            put(1, 3, ONE, Acknowledged),
            put(2, 4, ONE_TOO, Acknowledged),
        ],
        &[],
    );
    forbidden(
        &[put(1, 2, ONE, Acknowledged), put(3, 4, ONE_TOO, Conflict)],
        &[],
    );
}

#[test]
fn first_spelling_stays() {
    let one_after_the_other = [
        put(1, 2, ONE, Acknowledged),
        put(3, 4, ONE_TOO, Acknowledged),
    ];
    allowed(&one_after_the_other, &[read(5, 6, &["1"])]);
    forbidden(&one_after_the_other, &[read(5, 6, &["1.0"])]);
    let at_once = [
        put(1, 3, ONE, Acknowledged),
        put(2, 4, ONE_TOO, Acknowledged),
    ];
    allowed(&at_once, &[read(5, 6, &["1"])]);
    allowed(&at_once, &[read(5, 6, &["1.0"])]);
}

#[test]
fn acknowledged_event_is_stored() {
    let puts = [put(1, 2, ONE, Acknowledged)];
    allowed(&puts, &[read(3, 4, &["1"])]);
    forbidden(&puts, &[read(3, 4, &[])]);
    // A read that begins before the acknowledgement may miss the event; one that begins after it may not.
    allowed(&[put(2, 4, ONE, Acknowledged)], &[read(3, 5, &[])]);
    allowed(&[put(3, 4, ONE, Acknowledged)], &[read(1, 2, &[])]);
}

#[test]
fn stored_event_stays() {
    let puts = [put(1, NEVER, ONE, Unknown)];
    allowed(&puts, &[read(2, 3, &[]), read(4, 5, &["1"])]);
    forbidden(&puts, &[read(2, 3, &["1"]), read(4, 5, &[])]);
}

#[test]
fn stored_event_does_not_change() {
    let puts = [put(1, NEVER, ONE, Unknown), put(2, NEVER, TWO, Unanswered)];
    allowed(&puts, &[read(3, 4, &["2"]), read(5, 6, &["2"])]);
    forbidden(&puts, &[read(3, 4, &["1"]), read(5, 6, &["2"])]);
    let spellings = [put(1, NEVER, ONE, Unknown), put(2, NEVER, ONE_TOO, Unknown)];
    forbidden(&spellings, &[read(3, 4, &["1"]), read(5, 6, &["1.0"])]);
}

#[test]
fn refused_event_is_not_stored() {
    let refused = put(1, 2, ONE, Refused);
    allowed(from_ref(&refused), &[read(3, 4, &[])]);
    forbidden(from_ref(&refused), &[read(3, 4, &["1"])]);
    // Unless another put stored it.
    allowed(
        &[refused.clone(), put(3, 4, ONE, Acknowledged)],
        &[read(5, 6, &["1"])],
    );
    allowed(
        &[refused, put(3, NEVER, ONE, Unanswered)],
        &[read(5, 6, &["1"])],
    );
    let lost = [put(1, 2, ONE, Acknowledged), put(3, 4, TWO, Conflict)];
    forbidden(&lost, &[read(5, 6, &["2"])]);
}

#[test]
fn conflict_needs_another_event() {
    let conflict = put(3, 4, ONE, Conflict);
    forbidden(from_ref(&conflict), &[]);
    forbidden(&[conflict.clone(), put(1, 2, ONE_TOO, Unknown)], &[]);
    forbidden(&[conflict.clone(), put(1, 2, TWO, Refused)], &[]);
    // A later one.
    forbidden(&[conflict.clone(), put(5, 6, TWO, Acknowledged)], &[]);
    allowed(&[conflict.clone(), put(1, 2, TWO, Acknowledged)], &[]);
    allowed(&[conflict.clone(), put(1, NEVER, TWO, Unknown)], &[]);
    // A conflict that was reported before the event that explains it was read.
    allowed(
        &[conflict.clone(), put(1, NEVER, TWO, Unknown)],
        &[read(5, 6, &["2"])],
    );
    forbidden(&[conflict, put(1, NEVER, TWO, Unknown)], &[read(5, 6, &[])]);
}

#[test]
fn unknown_put_may_be_stored_late_or_never() {
    for outcome in [Unknown, Unanswered] {
        let puts = [put(1, NEVER, ONE, outcome), put(5, 6, TWO, Acknowledged)];
        allowed(&puts, &[read(2, 3, &[]), read(7, 8, &["2"])]);
        forbidden(&puts, &[read(7, 8, &["1"])]);
        let puts = [put(1, NEVER, ONE, outcome), put(5, 6, TWO, Conflict)];
        allowed(&puts, &[read(2, 3, &[]), read(7, 8, &["1"])]);
    }
}

#[test]
fn nothing_is_stored_after_its_server_ended() {
    let puts = [put(1, 4, ONE, Unanswered)];
    allowed(&puts, &[read(2, 3, &[]), read(5, 6, &["1"])]);
    forbidden(&puts, &[read(5, 6, &[]), read(7, 8, &["1"])]);
}

#[test]
fn acknowledged_event_is_stored_at_its_acknowledgement() {
    // The response to a put cannot come before the event is stored.
    forbidden(
        &[put(1, 2, ONE, Acknowledged)],
        &[read(3, 4, &[]), read(5, 6, &["1"])],
    );
    allowed(
        &[put(1, 6, ONE, Acknowledged)],
        &[read(2, 3, &[]), read(4, 5, &["1"])],
    );
}

#[test]
fn unsent_event_is_not_stored() {
    forbidden(&[], &[read(1, 2, &["1"])]);
    forbidden(&[put(1, 2, ONE, Acknowledged)], &[read(3, 4, &["1.0"])]);
    forbidden(&[put(3, 4, ONE, Acknowledged)], &[read(1, 2, &["1"])]);
}

#[test]
fn key_is_stored_once() {
    forbidden(&[put(1, 2, ONE, Acknowledged)], &[read(3, 4, &["1", "1"])]);
}

#[test]
fn keys_are_independent() {
    let mut other = put(3, 4, TWO, Acknowledged);
    other.key = "other".to_owned();
    let mut both = read(5, 6, &["1"]);
    both.events.push(("other".to_owned(), "2".to_owned()));
    allowed(&[put(1, 2, ONE, Acknowledged), other.clone()], &[both]);
    let found = violations(&[put(1, 2, ONE, Acknowledged), other], &[read(5, 6, &[])]);
    assert_eq!(found.len(), 2, "{found:?}");
}
