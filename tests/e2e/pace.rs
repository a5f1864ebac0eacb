//! How slowly a request may arrive: the time-out of its header section, and the time-out and minimum rate of
//! its body.
//!
//! The clock of the runtime is paused and advances to the next timer, so that minutes take no time.

use std::sync::Arc;
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, sinks::DiscardSink};
use tokio::time::Instant;

use crate::idle::{listen, on_a_clock, pass};
use crate::support::{Post, Wire, handler_only};

/// The seconds over which the rate of a body is measured, as documented.
const PACE_TIME: Duration = Duration::from_secs(5);

/// The tolerance of the clock.
const LATE: Duration = Duration::from_millis(50);

async fn discarding(set: impl FnOnce(PeerServerBuilder) -> PeerServerBuilder) -> Arc<PeerServer> {
    listen(set(PeerServer::builder().sink(DiscardSink))).await
}

fn put() -> Post {
    Post::put("key1", "1")
}

#[track_caller]
fn assert_took(since: Instant, time: Duration) {
    let took = since.elapsed();
    assert!((time..time + LATE).contains(&took), "{took:?}");
}

#[test]
fn stalled_head_closes_connection_in_time() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        for sent in [1, 10, put().head().len() - 1] {
            let mut wire = Wire::to(&server);
            // That time counts from the first byte.
            pass(30).await;
            let start = Instant::now();
            wire.send(&put().head()[..sent]).await;
            assert_eq!(wire.rest().await, b"");
            assert_took(start, Limits::DEFAULT.header_read_timeout);
        }
    });
}

#[test]
fn trickling_head_closes_connection_in_time() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        let mut wire = Wire::to(&server);
        wire.ask(&put()).await.assert_created();
        let start = Instant::now();
        for byte in put().head().chunks(1) {
            wire.send(byte).await;
            pass(1).await;
            if start.elapsed() > Limits::DEFAULT.header_read_timeout {
                break;
            }
        }
        assert_eq!(wire.rest().await, b"");
    });
}

#[test]
fn head_just_within_timeout_is_served() {
    on_a_clock(async {
        let timeout = Duration::from_secs(3);
        let server = discarding(|builder| {
            builder.limits(Limits {
                header_read_timeout: timeout,
                ..Limits::default()
            })
        })
        .await;
        let mut wire = Wire::to(&server);
        // The time of one header section does not count for the next.
        for _ in 0..5 {
            let bytes = put().bytes();
            wire.send(&bytes[..7]).await;
            tokio::time::advance(timeout - LATE).await;
            wire.send(&bytes[7..]).await;
            wire.answer().await.assert_created();
        }
        let start = Instant::now();
        wire.send(b"P").await;
        assert_eq!(wire.rest().await, b"");
        assert_took(start, timeout);
    });
}

/// Bytes of a body after its response are no header section.
#[test]
fn refused_body_is_not_a_slow_head() {
    on_a_clock(async {
        let server = discarding(|builder| {
            builder.limits(Limits {
                header_read_timeout: Duration::from_secs(1),
                ..Limits::default()
            })
        })
        .await;
        let mut wire = Wire::to(&server);
        let refused = put().method("PUT");
        let bytes = refused.bytes();
        let (first, rest) = bytes.split_at(refused.head().len() + 2);
        wire.send(first).await;
        wire.answer().await.assert_problem(405);
        pass(2).await;
        wire.send(&rest[..2]).await;
        pass(2).await;
        wire.send(&rest[2..]).await;
        pass(10).await;
        wire.ask(&put()).await.assert_created();
    });
}

#[test]
fn stalled_body_is_408_at_pace_check() {
    on_a_clock(async {
        for component in [false, true] {
            let server = discarding(|builder| match component {
                true => builder.compiled_component(handler_only()),
                false => builder,
            });
            let mut wire = Wire::to(&server.await);
            let start = Instant::now();
            wire.send(put().head()).await;
            wire.answer().await.assert_problem(408);
            assert_took(start, PACE_TIME);
            assert_eq!(wire.rest().await, b"");
        }
    });
}

/// A body of this many bytes, sent in steps of one second.
async fn send_at_a_rate(wire: &mut Wire, bytes: u64, bytes_per_second: u64) {
    let put = Post::new(vec![b' '; usize::try_from(bytes).expect("is small")]);
    wire.send(put.head()).await;
    let second = vec![b' '; usize::try_from(bytes_per_second).expect("is small")];
    for _ in 0..bytes / bytes_per_second {
        pass(1).await;
        if wire.serving.is_finished() {
            return;
        }
        wire.send(&second).await;
    }
}

#[test]
fn minimum_pace_of_body_is_enforced() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        let mut wire = Wire::to(&server);
        let least = Limits::DEFAULT.min_body_rate + Limits::DEFAULT.min_body_rate / 4;
        send_at_a_rate(&mut wire, 25 * least, least).await;
        // It is not a put, but it was read completely.
        wire.answer().await.assert_problem(400);

        let slow = Limits::DEFAULT.min_body_rate - Limits::DEFAULT.min_body_rate / 4;
        send_at_a_rate(&mut wire, 6 * slow, slow).await;
        wire.answer().await.assert_problem(408);
    });
}

/// A fast beginning does not compensate for a slow rest.
#[test]
fn stalled_body_is_408_at_any_offset() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        let mut wire = Wire::to(&server);
        let put = Post::new(vec![b' '; 200_000]);
        wire.send(put.head()).await;
        wire.send(vec![b' '; 150_000]).await;
        let start = Instant::now();
        wire.answer().await.assert_problem(408);
        assert!(start.elapsed() < 2 * PACE_TIME + LATE);
    });
}

#[test]
fn empty_line_between_requests_starts_no_head() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        let mut wire = Wire::to(&server);
        wire.ask(&put()).await.assert_created();
        wire.send(b"\r\n").await;
        pass(60).await;
        wire.ask(&put()).await.assert_created();
    });
}

#[test]
fn body_at_good_pace_is_408_at_total_timeout() {
    on_a_clock(async {
        let server = discarding(|builder| builder).await;
        let mut wire = Wire::to(&server);
        let start = Instant::now();
        let put = Post::new(vec![b' '; 1_000_000]);
        wire.send(put.head()).await;
        for _ in 0..Limits::DEFAULT.body_timeout.as_secs() - 1 {
            pass(1).await;
            wire.send(vec![b' '; 500]).await;
        }
        wire.answer().await.assert_problem(408);
        assert_took(start, Limits::DEFAULT.body_timeout);
    });
}

#[test]
fn without_minimum_pace_only_total_timeout_applies() {
    on_a_clock(async {
        let server = discarding(|builder| {
            builder.limits(Limits {
                min_body_rate: 0,
                ..Limits::default()
            })
        })
        .await;
        let mut wire = Wire::to(&server);
        let bytes = put().bytes();
        wire.send(put().head()).await;
        pass(Limits::DEFAULT.body_timeout.as_secs() - 1).await;
        wire.send(&bytes[put().head().len()..]).await;
        wire.answer().await.assert_created();
    });
}
