//! When an idle connection is closed, and when it is not.
//!
//! The clock of the runtime is paused and advances to the next timer, so that minutes take no time.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError};
use tokio::time::{Instant, timeout};

use crate::support::{Post, Wire, both_components};

/// Runs a test on a paused clock.
pub(crate) fn on_a_clock(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("starts a runtime").block_on(test);
}

pub(crate) async fn listen(builder: PeerServerBuilder) -> Arc<PeerServer> {
    let builder = builder.hostname("127.0.0.1").port(0);
    Arc::new(builder.listen().await.expect("listens"))
}

/// A server whose sink takes as many seconds as the event says.
async fn slow_server() -> Arc<PeerServer> {
    let builder = PeerServer::builder().on_put(|_, event| async move {
        pass(event.parse().expect("is a number")).await;
        Ok(())
    });
    let longest = Duration::from_secs(3600);
    listen(builder.limits(Limits {
        sink_timeout: longest,
        body_timeout: longest,
        min_body_rate: 0,
        ..Limits::default()
    }))
    .await
}

/// Advances the clock by `seconds`.
pub(crate) async fn pass(seconds: u64) {
    let nothing = timeout(Duration::from_secs(seconds), pending::<()>());
    nothing.await.expect_err("never comes");
}

/// Asserts that the server closes the connection after the idle time-out, without a response.
async fn assert_ends(wire: &mut Wire, idle_since: Instant) {
    assert_eq!(wire.rest().await, b"");
    assert_idle_since(idle_since);
}

fn assert_idle_since(idle_since: Instant) {
    let idle = idle_since.elapsed();
    let promised = Duration::from_secs(75)..=Duration::from_millis(90_100);
    assert!(promised.contains(&idle), "{idle:?}");
}

#[test]
fn connection_without_request_is_closed() {
    on_a_clock(async {
        let server = slow_server().await;
        for seconds in [0, 7, 20] {
            pass(seconds).await;
            let start = Instant::now();
            assert_ends(&mut Wire::to(&server), start).await;
        }
    });
}

#[test]
fn connection_is_closed_after_idle_timeout() {
    on_a_clock(async {
        let server = slow_server().await;
        for seconds in [0, 1, 14, 15, 16, 29, 44, 59, 60, 74] {
            let mut wire = Wire::to(&server);
            pass(seconds).await;
            wire.ask(&Post::put("key1", "0")).await.assert_created();
            let answered = Instant::now();
            assert_ends(&mut wire, answered).await;
        }
    });
}

#[test]
fn connection_with_regular_requests_stays_open() {
    on_a_clock(async {
        let server = slow_server().await;
        let mut wire = Wire::to(&server);
        for number in 0..100 {
            let post = match number % 3 {
                0 => Post::put("key1", "0"),
                1 => Post::new("{"),
                _ => Post::put("key1", "0").method("PUT"),
            };
            wire.ask(&post).await;
            pass(60 + number % 15).await;
        }
        let start = Instant::now();
        wire.ask(&Post::put("key1", "0")).await.assert_created();
        assert_ends(&mut wire, start).await;
    });
}

#[test]
fn put_waiting_in_sink_is_not_idle() {
    on_a_clock(async {
        let server = slow_server().await;
        let mut wire = Wire::to(&server);
        for seconds in [74, 89, 91, 300, 1] {
            let put = Post::put("key1", &seconds.to_string());
            wire.ask(&put).await.assert_created();
        }
        let start = Instant::now();
        assert_ends(&mut wire, start).await;
    });
}

#[test]
fn queued_puts_are_not_idle() {
    on_a_clock(async {
        let server = slow_server().await;
        let mut wire = Wire::to(&server);
        for _ in 0..3 {
            wire.send(Post::put("key1", "100").bytes()).await;
        }
        for _ in 0..3 {
            wire.answer().await.assert_created();
        }
    });
}

#[test]
fn slow_body_is_not_idle() {
    on_a_clock(async {
        let server = slow_server().await;
        let mut wire = Wire::to(&server);
        let put = Post::put("key1", "0");
        wire.send(put.head()).await;
        for part in put.bytes()[put.head().len()..].chunks(2) {
            pass(70).await;
            wire.send(part).await;
        }
        wire.answer().await.assert_created();
    });
}

/// Nor may a client keep a connection open by not reading its response.
#[test]
fn unread_response_is_not_waited_for() {
    on_a_clock(async {
        for component in both_components() {
            // More than the pipe and the server's buffer hold.
            let reason = "No. ".repeat(500_000);
            let builder = PeerServer::builder().on_put(move |_, _| {
                let rejected = PutError::Rejected(reason.clone());
                async { Err(rejected) }
            });
            let server = listen(builder.compiled_component(component)).await;
            let mut wire = Wire::to(&server);
            wire.send(Post::put("key1", "1").bytes()).await;
            let start = Instant::now();
            timeout(Duration::from_secs(600), &mut wire.serving)
                .await
                .expect("is in time")
                .expect("did not panic");
            assert_idle_since(start);
            let closing = Instant::now();
            server.close().await;
            assert!(
                closing.elapsed() < Duration::from_secs(5),
                "something is left"
            );
        }
    });
}
