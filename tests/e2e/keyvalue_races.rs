//! Concurrent puts of one key by the sinks over `wasi:keyvalue`, in every order of their calls of the store.
//!
//! The tests depend on the responses and on the contents of the store only, not on the calls.

use std::cell::RefCell;

use alldata_peer_server_http::PutError;

use crate::keyvalue::{Fault, How, Memory, Platform, Sink};
use crate::keyvalue_sinks::calls_of_a_put;
use crate::scheduling::{Player, Scene, in_every_order};

/// The events of the puts, their last responses, and the contents of the store.
type Ending<'a> = (&'a [&'a str], &'a [Result<(), PutError>], &'a Sink);

/// Clients that put these events under one key at once.
struct Race<'a> {
    sink: Sink,
    events: &'a [&'a str],
    /// The fault of the first client's first put, after which it puts again.
    fault: Option<Fault>,
    check: &'a dyn Fn(Ending<'_>),
}

impl Scene for Race<'_> {
    type Value = Result<(), PutError>;
    type State = Memory;

    fn players(&self) -> Vec<Player<'_, Self::Value>> {
        let clients = self.events.iter().enumerate().map(|(number, event)| {
            let fault = self.fault.clone().filter(|_| number == 0);
            let put = self.sink.begin("key1", event, fault);
            let client: Player<'_, _> = Box::pin(async move {
                match put.await.answer {
                    Some(answer) => answer,
                    None => {
                        let put = self.sink.begin("key1", event, None).await;
                        put.answer.expect("does not crash twice")
                    }
                }
            });
            client
        });
        clients.collect()
    }

    fn state(&self) -> Memory {
        self.sink.memory().clone()
    }

    fn check(&self, answers: Vec<Self::Value>) {
        (self.check)((self.events, &answers, &self.sink));
    }
}

/// Prints the number of different ends of the race.
fn race(
    platform: Platform,
    events: &[&str],
    fault: Option<Fault>,
    check: &dyn Fn(Ending<'_>),
) -> usize {
    in_every_order(|| Race {
        sink: Sink::on(platform),
        events,
        fault: fault.clone(),
        check,
    })
}

/// One event is acknowledged, and it is the one that stays.
fn first_event_stays((events, answers, sink): Ending<'_>) {
    let at = format!("{events:?}: {answers:?} after {:#?}", sink.memory().calls());
    assert!(!sink.memory().has_replaced_an_event(), "{at}");
    let held = sink.memory().text("event/key1").map(str::to_owned);
    let held = held.unwrap_or_else(|| panic!("nothing is held: {at}"));
    assert!(answers.contains(&Ok(())), "{at}");
    for (event, answer) in events.iter().zip(answers) {
        let is_held = value(event) == value(&held);
        match answer {
            Ok(()) => assert!(is_held, "{event} is acknowledged, but {held} is held: {at}"),
            Err(PutError::Conflict) => assert!(!is_held, "{event} conflicts with itself: {at}"),
            Err(PutError::Unavailable { .. }) => {}
            Err(_) => panic!("a race is no failure: {at}"),
        }
        let expected = is_held.then_some(()).ok_or(PutError::Conflict);
        assert_eq!(sink.put("key1", event), expected, "{event} again: {at}");
    }
    assert_eq!(sink.memory().text("event/key1"), Some(&*held), "{at}");
}

/// The events of these tests are numbers.
fn value(event: &str) -> f64 {
    event.parse().expect("is a number")
}

#[test]
fn spin_acknowledges_one_of_two_events() {
    for platform in Platform::SPIN {
        let ends = race(platform, &["1", "2"], None, &first_event_stays);
        assert!(ends > 10, "{platform:?}: {ends} ends");
    }
}

#[test]
fn spin_acknowledges_one_event_in_two_spellings() {
    for platform in Platform::SPIN {
        race(platform, &["1", "1.0"], None, &first_event_stays);
    }
}

#[test]
fn spin_acknowledges_the_same_event_twice() {
    for platform in Platform::SPIN {
        race(platform, &["1", "1"], None, &first_event_stays);
    }
}

#[test]
fn spin_keeps_the_first_event_when_a_put_crashes_in_the_race() {
    for platform in Platform::SPIN {
        for call in 0..calls_of_a_put(platform) {
            // A call that takes effect before a crash equals a crash before the next call, except for the last
            // call, which changes nothing.
            let fault = Fault {
                call,
                is_after: false,
                how: How::Crash,
            };
            race(platform, &["1", "2"], Some(fault), &first_event_stays);
        }
    }
}

#[test]
fn wasmcloud_acknowledges_the_same_event_twice() {
    race(Platform::WasmCloud, &["1", "1"], None, &|ending| {
        assert_eq!(*ending.1, [Ok(()), Ok(())]);
        first_event_stays(ending);
    });
    race(Platform::WasmCloud, &["1", "1.0"], None, &|ending| {
        assert_eq!(*ending.1, [Ok(()), Ok(())]);
    });
}

#[test]
fn wasmcloud_never_overwrites_a_visible_event() {
    let check = |(_, _, sink): Ending<'_>| {
        for calls in sink.memory().calls() {
            let seen = calls
                .iter()
                .position(|call| call.starts_with("get: Some(Ok(Some"));
            let set = calls.iter().rposition(|call| call.starts_with("set"));
            let is_blind = seen.is_none_or(|seen| set.is_none_or(|set| set < seen));
            assert!(is_blind, "{calls:#?}");
            // It reads, otherwise it could not know.
            assert!(calls[1].starts_with("get"), "{calls:#?}");
        }
    };
    race(Platform::WasmCloud, &["1", "2"], None, &check);
    race(Platform::WasmCloud, &["1", "2", "1"], None, &check);
}

/// The race that the sink's documentation describes, and no other: both events are acknowledged only if both
/// puts read before either wrote, and the stored event is one that was acknowledged.
#[test]
fn wasmcloud_may_acknowledge_two_concurrent_events() {
    let both = RefCell::new(0);
    let one = RefCell::new(0);
    let late = RefCell::new(0);
    race(Platform::WasmCloud, &["1", "2"], None, &|ending| {
        let (events, answers, sink) = ending;
        let at = format!("{answers:?} after {:#?}", sink.memory().calls());
        if *answers == [Ok(()), Ok(())] {
            let memory = sink.memory();
            for calls in memory.calls() {
                assert!(calls[1].starts_with("get: Some(Ok(None"), "{at}");
            }
            assert!(memory.has_replaced_an_event(), "{at}");
            *both.borrow_mut() += 1;
        } else {
            let winner = answers.iter().position(Result::is_ok);
            let winner = winner.unwrap_or_else(|| panic!("nobody wins: {at}"));
            assert_eq!(answers[1 - winner], Err(PutError::Conflict), "{at}");
            assert_eq!(
                sink.memory().text("event/key1"),
                Some(events[winner]),
                "{at}"
            );
            let memory = sink.memory();
            let mut calls = memory.calls()[1 - winner].iter();
            let has_set = calls.any(|call| call.starts_with("set"));
            *late.borrow_mut() += usize::from(has_set);
            *one.borrow_mut() += 1;
        }
    });
    assert_ne!(both.take(), 0, "the documentation warns of nothing");
    assert_ne!(late.take(), 0, "a put looks again after it set its event");
    assert_ne!(one.take(), 0, "a later put is told of the conflict");
}
