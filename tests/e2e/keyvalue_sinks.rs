//! The sinks over `wasi:keyvalue`, one put after the other, on every platform: write-once, names that every
//! store accepts, and errors of the store.
//!
//! Concurrent puts are in `keyvalue_races`.

use std::collections::BTreeSet;

use alldata_peer_server_http::PutError;

use crate::keyvalue::{Fault, How, Platform, Sink, StoreError};

/// The variable with the name of the bucket.
const BUCKET: &str = "ALLDATA_PEER_KEYVALUE_BUCKET";

#[test]
fn first_event_stays() {
    for platform in Platform::ALL {
        let sink = Sink::on(platform);
        assert_eq!(sink.put("key1", "{\"a\":1}"), Ok(()), "{platform:?}");
        for same in ["{\"a\":1}", "{ \"a\": 1.0 }", "{\"\\u0061\":10e-1}"] {
            assert_eq!(sink.put("key1", same), Ok(()), "{platform:?}: {same}");
        }
        for other in ["{\"a\":2}", "{\"a\":\"1\"}", "null"] {
            let answer = sink.put("key1", other);
            assert_eq!(answer, Err(PutError::Conflict), "{platform:?}: {other}");
        }
        assert_eq!(sink.memory().text("event/key1"), Some("{\"a\":1}"));
        assert!(!sink.memory().has_replaced_an_event());
        assert_eq!(sink.put("key2", "{\"a\":2}"), Ok(()), "{platform:?}");
    }
}

#[test]
fn event_is_stored_byte_for_byte() {
    let large = format!("\"{}\"", "é".repeat(100_000));
    let events = [
        "1.0",
        "1e400",
        "12345678901234567890",
        "{ \"b\" : 1,\n \"a\" : \"\\u00e9 é \\ud800\", \"a\": [ ] }",
        "\"\0\"",
        &large,
    ];
    for platform in Platform::ALL {
        let sink = Sink::on(platform);
        for (number, event) in events.into_iter().enumerate() {
            assert_eq!(sink.put(&number.to_string(), event), Ok(()));
            let name = format!("event/{number}");
            // Compared first, so that a failure does not print the large one.
            let is_kept = sink.memory().text(&name) == Some(event);
            assert!(is_kept, "{platform:?}: event {number}");
        }
    }
}

/// The largest value that Spin documents, in bytes.
const SPIN_VALUE_BYTES: usize = 1_000_000;

#[test]
fn event_too_large_for_spin_claims_no_key() {
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    for platform in Platform::SPIN {
        let sink = Sink::on(platform);
        let answer = sink.put("key1", &event(SPIN_VALUE_BYTES + 1));
        assert!(
            matches!(&answer, Err(PutError::Rejected(reason)) if reason.contains("1000000")),
            "{platform:?}: {answer:?}"
        );
        assert_eq!(sink.put("key1", &event(SPIN_VALUE_BYTES)), Ok(()));
    }
}

/// A value that is not text can't be an event of this sink, so it is a different one.
#[test]
fn foreign_value_under_a_name_stays() {
    for platform in Platform::ALL {
        let sink = Sink::on(platform);
        sink.memory().leave("event/key1", b"\xff");
        assert_eq!(sink.put("key1", "1"), Err(PutError::Conflict));
        assert!(!sink.memory().has_replaced_an_event(), "{platform:?}");
    }
}

#[test]
fn each_key_has_a_unique_name_valid_in_every_store() {
    let mut keys: BTreeSet<String> = (0..128).map(|byte| char::from(byte).into()).collect();
    let long = "é/".repeat(341) + "1";
    assert_eq!(long.len(), 1024);
    let ends = ["a", "b"].map(|end| "k".repeat(1023) + end);
    keys.extend(ends.into_iter().chain([long]));
    for tricky in [
        "..",
        "../event/a",
        "./a",
        "a/b",
        "a//b",
        "/a",
        "a/",
        "a=2fb",
        "a=2Fb",
        "a%2fb",
        "=3d",
        "==",
        "é",
        "e\u{301}",
        "=c3=a9",
        "È",
        "\u{1f600}",
        "\u{feff}a",
        "a b",
        " a",
        "a ",
        "a.b",
        "a\0",
        "event/a",
        "claim/a",
        "20130927T005240652508858176",
        "\u{10ffff}",
        "a*",
        "a>",
        "key",
        "KEY",
    ] {
        keys.insert(tricky.to_owned());
    }
    for platform in Platform::ALL {
        let sink = Sink::on(platform);
        for (number, key) in keys.iter().enumerate() {
            let answer = sink.put(key, &number.to_string());
            assert_eq!(answer, Ok(()), "{platform:?}: {key:?} shares a name");
        }
        let memory = sink.memory();
        let names = memory.names();
        let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"_=/-".contains(&byte);
        for name in &names {
            assert!(name.bytes().all(is_taken), "{platform:?}: {name:?}");
            let parts: Vec<&str> = name.split('/').collect();
            let [kind, rest] = *parts else {
                panic!("{platform:?}: {name:?} is no kind and a name");
            };
            assert!(["event", "claim"].contains(&kind) && !rest.is_empty());
        }
        let events = names.iter().filter(|name| name.starts_with("event/"));
        assert_eq!(events.count(), keys.len(), "{platform:?}");
    }
}

#[test]
fn bucket_is_that_of_the_setting() {
    for platform in Platform::ALL {
        let named = Sink::with_bucket(platform, "events").variable(BUCKET, "events");
        assert_eq!(named.put("key1", "1"), Ok(()), "{platform:?}");
        assert_eq!(named.memory().text("event/key1"), Some("1"));
        // An empty variable counts as unset.
        for sink in [Sink::on(platform), Sink::on(platform).variable(BUCKET, "")] {
            assert_eq!(sink.put("key1", "1"), Ok(()), "{platform:?}");
        }
        for (sink, bucket) in [
            (Sink::on(platform).variable(BUCKET, "events"), "events"),
            (Sink::with_bucket(platform, "events"), "default"),
        ] {
            let Err(PutError::Failed(reason)) = sink.put("key1", "1") else {
                panic!("{platform:?} has no bucket {bucket}");
            };
            assert!(reason.contains(bucket), "{platform:?}: {reason}");
            assert!(sink.memory().names().is_empty(), "{platform:?}");
        }
    }
}

#[test]
fn store_error_is_a_failure_with_the_bucket() {
    for platform in Platform::ALL {
        for call in 0..calls_of_a_put(platform) {
            for (error, words) in [
                (StoreError::NoSuchStore, "there is no"),
                (StoreError::AccessDenied, "may not be used"),
                (StoreError::Other("the disk is on fire".into()), "on fire"),
            ] {
                let at = format!("{platform:?}, call {call}, {error:?}");
                let sink = Sink::with_bucket(platform, "a-bucket").variable(BUCKET, "a-bucket");
                let fault = Fault {
                    call,
                    is_after: false,
                    how: How::Error(error),
                };
                let put = sink.put_with(fault, "key1", "{\"secret\":1}");
                let Some(Err(PutError::Failed(reason))) = put.answer else {
                    panic!("{at}: {put:?}");
                };
                assert!(reason.contains(words), "{at}: {reason}");
                let [line] = *put.log.lines().collect::<Vec<_>>() else {
                    panic!("{at}: no one line: {:?}", put.log);
                };
                assert!(line.contains(platform.sink()), "{at}: {line}");
                assert!(line.contains("a-bucket"), "{at}: {line}");
                assert!(line.contains(words), "{at}: {line}");
                assert!(!line.contains("secret"), "{at}: {line}");
            }
        }
    }
}

/// Whether the store did what it did not confirm, and whether the instance is gone.
#[test]
fn after_any_fault_the_same_put_succeeds_and_no_other_undoes_it() {
    for platform in Platform::ALL {
        for fault in faults(platform) {
            let at = format!("{platform:?}, {fault:?}");
            let sink = Sink::on(platform);
            let put = sink.put_with(fault, "key1", "1");
            let is_held = sink.memory().text("event/key1").is_some();
            assert!(put.answer != Some(Ok(())) || is_held, "{at}");
            assert_eq!(sink.put("key1", "1"), Ok(()), "{at}");
            assert_eq!(sink.put("key1", "2"), Err(PutError::Conflict), "{at}");
            assert_eq!(sink.put("key1", "1"), Ok(()), "{at}");
            assert_eq!(sink.memory().text("event/key1"), Some("1"), "{at}");
            assert!(!sink.memory().has_replaced_an_event(), "{at}");
        }
    }
}

#[test]
fn after_any_fault_another_event_is_the_first_or_is_refused() {
    for platform in Platform::ALL {
        let mut taken = 0;
        for fault in faults(platform) {
            let at = format!("{platform:?}, {fault:?}");
            let sink = Sink::on(platform);
            sink.put_with(fault, "key1", "1");
            let other = sink.put("key1", "2");
            let same = sink.put("key1", "1");
            match &other {
                Ok(()) => assert_eq!(same, Err(PutError::Conflict), "{at}"),
                Err(PutError::Conflict | PutError::Unavailable { .. }) => {
                    assert_eq!(same, Ok(()), "{at}");
                    assert_eq!(sink.put("key1", "2"), Err(PutError::Conflict), "{at}");
                }
                Err(_) => panic!("{at}: {other:?}"),
            }
            let stored = if other.is_ok() { "2" } else { "1" };
            assert_eq!(sink.memory().text("event/key1"), Some(stored), "{at}");
            assert!(!sink.memory().has_replaced_an_event(), "{at}");
            taken += usize::from(other.is_ok());
        }
        assert_ne!(
            taken, 0,
            "{platform:?}: a fault before anything was written"
        );
    }
}

/// A put that ended after its claim can be completed only by the same text, as the sink documents.
#[test]
fn claim_is_for_one_spelling() {
    for platform in Platform::SPIN {
        let sink = Sink::on(platform);
        // The last call reads what was written, and the one before it writes the event.
        let fault = Fault {
            call: calls_of_a_put(platform) - 2,
            is_after: false,
            how: How::Crash,
        };
        assert_eq!(sink.put_with(fault, "key1", "1").answer, None);
        assert_eq!(sink.memory().text("event/key1"), None);
        let unavailable = Err(PutError::Unavailable {
            retry_after_seconds: 1,
        });
        assert_eq!(sink.put("key1", "2"), unavailable, "{platform:?}");
        assert_eq!(sink.put("key1", "1.0"), unavailable, "{platform:?}");
        assert_eq!(sink.put("key1", "1"), Ok(()), "{platform:?}");
        assert_eq!(sink.put("key1", "1.0"), Ok(()), "{platform:?}");
        assert_eq!(sink.put("key1", "2"), Err(PutError::Conflict));
    }
}

/// The number of calls of the store in the first put of a key.
pub(crate) fn calls_of_a_put(platform: Platform) -> usize {
    let fault = Fault {
        call: usize::MAX,
        is_after: false,
        how: How::Crash,
    };
    let put = Sink::on(platform).put_with(fault, "key1", "1");
    assert_eq!((put.answer, put.log), (Some(Ok(())), String::new()));
    put.calls
}

/// Every fault in the first put of a key.
fn faults(platform: Platform) -> impl Iterator<Item = Fault> {
    let error = || How::Error(StoreError::Other("the connection is lost".into()));
    (0..calls_of_a_put(platform)).flat_map(move |call| {
        [false, true].into_iter().flat_map(move |is_after| {
            [How::Crash, error()].map(|how| Fault {
                call,
                is_after,
                how,
            })
        })
    })
}
