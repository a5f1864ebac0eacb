//! The sink `nats:` by itself: the contract of all sinks, and its documented additions.

use alldata_peer_server_http::sinks::{self, QueueLimits};
use alldata_peer_server_http::store::digest;
use alldata_peer_server_http::{PutError, PutSink as _};

use super::{STREAM, Single, can_start};
use crate::sinks::{keeps_its_contract, put};

#[test]
fn stream_keeps_the_contract() {
    if !can_start("the contract of a stream") {
        return;
    }
    let nats = Single::start();
    nats.block_on(async {
        let sink = sinks::open(&nats.url()).await.expect("opens");
        keeps_its_contract(sink).await;
    });
}

#[test]
fn two_sinks_of_one_stream_keep_the_contract() {
    if !can_start("the contract of two sinks of a stream") {
        return;
    }
    let nats = Single::start();
    nats.block_on(async {
        let first = sinks::open(&nats.url()).await.expect("opens");
        let second = sinks::open(&nats.url()).await.expect("opens");
        let turn = std::sync::atomic::AtomicBool::new(false);
        let both = alldata_peer_server_http::sink::from_fn(move |key, event| {
            let is_first = turn.fetch_xor(true, std::sync::atomic::Ordering::Relaxed);
            let sink = if is_first { &first } else { &second }.clone();
            async move { sink.put(key, event).await }
        });
        keeps_its_contract(both.boxed()).await;
    });
}

#[test]
fn event_is_a_message_as_documented() {
    if !can_start("messages of a stream") {
        return;
    }
    let nats = Single::start();
    nats.block_on(async {
        let sink = sinks::open(&nats.url()).await.expect("opens");
        let event = "{\"a\": 1e400,  \"ä\":\n[] }";
        assert_eq!(put(&sink, "a b:c.é", event).await, Ok(()));
    });
    let context = nats.context();
    let message = nats.block_on(async {
        let stream = context.get_stream(STREAM).await.expect("is there");
        let subject = "alldata.a%20b:c%2E%C3%A9";
        stream.get_last_raw_message_by_subject(subject).await
    });
    let message = message.expect("is there");
    assert_eq!(message.payload, "{\"a\": 1e400,  \"ä\":\n[] }");
    let expected: String = digest("a b:c.é", &message.payload)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let found = message.headers.get("Alldata-Digest").expect("is there");
    assert_eq!(found.as_str(), expected);
}

#[test]
fn event_too_large_for_the_servers_is_rejected() {
    if !can_start("large events") {
        return;
    }
    let nats = Single::with("max_payload: 2000");
    nats.block_on(async {
        let sink = sinks::open(&nats.url()).await.expect("opens");
        let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        assert_eq!(put(&sink, "small", &event(1000)).await, Ok(()));
        let refused = put(&sink, "large", &event(2000)).await;
        let Err(PutError::Rejected(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("2000 bytes"), "{reason}");
        assert_eq!(put(&sink, "large", "1").await, Ok(()));
    });
}

/// More puts than can be unacknowledged at a time, some of them with the same key.
#[test]
fn concurrent_puts_each_get_their_own_outcome() {
    if !can_start("thousands of puts at once") {
        return;
    }
    let nats = Single::start();
    nats.block_on(async {
        let sink = sinks::open(&nats.url()).await.expect("opens");
        let puts = (0..6000).map(|number| {
            // Each key has three: its first event, the same event again, and a different one.
            let (key, event) = (number % 2000, if number < 4000 { "1" } else { "2" });
            sink.put(format!("key{key}"), event.to_owned())
        });
        let answers = futures_util::future::join_all(puts).await;
        for (number, answer) in answers.into_iter().enumerate() {
            let expected = match number {
                0..4000 => Ok(()),
                _ => Err(PutError::Conflict),
            };
            assert_eq!(answer, expected, "{number}");
        }
    });
    assert_eq!(nats.info().state.messages, 2000);
}

#[test]
fn puts_and_bytes_in_progress_are_limited() {
    if !can_start("puts that wait for a stream") {
        return;
    }
    let nats = Single::start();
    // On one thread, so that no acknowledgement arrives between the first polls of two puts.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("starts a runtime").block_on(async {
        for limits in [
            QueueLimits {
                puts: 1,
                bytes: 1000,
            },
            QueueLimits {
                puts: 100,
                bytes: 5,
            },
        ] {
            let sink = sinks::open_with_queue(&nats.url(), limits).await;
            let sink = sink.expect("opens");
            let key = format!("key{}", limits.puts);
            let first = sink.put(key.clone(), "1".to_owned());
            let second = async {
                // The first has its permit, since it was polled first.
                let refused = sink.put(key.clone(), "1".to_owned()).await;
                assert!(
                    matches!(refused, Err(PutError::Unavailable { .. })),
                    "{refused:?}"
                );
            };
            let (first, ()) = tokio::join!(biased; first, second);
            assert_eq!(first, Ok(()));
            assert_eq!(put(&sink, &key, "1").await, Ok(()));
        }
    });
}
