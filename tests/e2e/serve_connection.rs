//! Connections that were accepted elsewhere: served like the server's own, also when it closes.
//!
//! Idle ones are in `idle`.

use std::sync::Arc;

use alldata_peer_server_http::sinks::MemorySink;
use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutSink as _};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::support::{DEADLINE, Embedded, Gate, Post, Wire, both_components};

/// A server whose sink holds back puts of one event, until the test releases them.
struct Trial {
    runtime: Runtime,
    server: Arc<PeerServer>,
    gate: Gate,
}

impl Trial {
    fn start(builder: PeerServerBuilder) -> Self {
        let (builder, gate) = Gate::before(builder, |_, event| event == "\"waits\"");
        let Embedded { runtime, server } = Embedded::start(builder);
        Self {
            runtime,
            server: Arc::new(server),
            gate,
        }
    }

    fn wait_for_put(&self, key: &str) {
        assert_eq!(self.gate.wait_for_put(), key);
    }
}

#[test]
fn put_over_any_stream_is_stored() {
    let trial = Trial::start(PeerServer::builder());
    trial.runtime.block_on(async {
        let mut wire = Wire::to(&trial.server);
        for number in 0..10 {
            let put = Post::put(&format!("key{number}"), &number.to_string());
            wire.ask(&put).await.assert_created();
            trial.gate.assert_stored(&format!("key{number}"));
            wire.ask(&Post::new("{")).await.assert_problem(400);
        }
        // More than the pipe holds at a time.
        let large = format!("\"{}\"", "x".repeat(3_000_000));
        wire.ask(&Post::put("large", &large)).await.assert_created();
        let last = Post::put("last", "1").header("Connection: close");
        wire.ask(&last).await.assert_created();
        assert_eq!(wire.rest().await, b"");
    });
}

/// The host name and the port would make `listen` fail.
#[test]
fn server_without_listener_serves_given_connections() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let runtime = Runtime::new().expect("starts a runtime");
    let sink = Arc::new(MemorySink::new(1024));
    let builder = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(busy.local_addr().expect("has an address").port())
        .on_put({
            let sink = Arc::clone(&sink);
            move |key, event| {
                let sink = Arc::clone(&sink);
                async move { sink.put(key, event).await }
            }
        });
    let server = Arc::new(runtime.block_on(builder.build()).expect("starts"));
    assert_eq!(server.local_addrs(), []);
    runtime.block_on(async {
        let mut wire = Wire::to(&server);
        wire.ask(&Post::put("key1", "1")).await.assert_created();
        assert_eq!(sink.get("key1").as_deref(), Some("1"));
        let closing = timeout(DEADLINE, server.close());
        closing.await.expect("closes");
        assert_eq!(wire.rest().await, b"");
    });
}

#[test]
fn closing_ends_idle_connections() {
    let trial = Trial::start(PeerServer::builder().limits(Limits {
        drain_timeout: DEADLINE * 10,
        ..Limits::default()
    }));
    trial.runtime.block_on(async {
        let mut untouched = Wire::to(&trial.server);
        let mut idle = Wire::to(&trial.server);
        idle.ask(&Post::put("key1", "1")).await.assert_created();
        let closing = timeout(DEADLINE, trial.server.close());
        closing.await.expect("closes");
        assert_eq!(untouched.rest().await, b"");
        assert_eq!(idle.rest().await, b"");
    });
}

#[test]
fn closing_answers_puts_in_flight() {
    let trial = Trial::start(PeerServer::builder());
    trial.runtime.block_on(async {
        let mut wire = Wire::to(&trial.server);
        wire.send(Post::put("key1", "\"waits\"").bytes()).await;
        trial.wait_for_put("key1");
        let server = Arc::clone(&trial.server);
        let closing = tokio::spawn(async move { server.close().await });
        // Only a server that closes ends an idle connection at once.
        assert_eq!(Wire::to(&trial.server).rest().await, b"");
        assert!(!closing.is_finished());
        trial.gate.open();
        let answer = wire.answer().await;
        answer.assert_created();
        assert_eq!(answer.header("connection"), Some("close"));
        let closed = timeout(DEADLINE, closing).await.expect("closes");
        closed.expect("did not panic");
        trial.gate.assert_stored("key1");
    });
}

#[test]
fn drain_timeout_ends_served_connections() {
    let builder = PeerServer::builder().limits(Limits {
        drain_timeout: std::time::Duration::from_millis(1),
        ..Limits::default()
    });
    let trial = Trial::start(builder);
    trial.runtime.block_on(async {
        let mut wire = Wire::to(&trial.server);
        wire.send(Post::put("key1", "\"waits\"").bytes()).await;
        trial.wait_for_put("key1");
        trial.server.close().await;
        assert_eq!(wire.rest().await, b"");
        trial.gate.open();
    });
    trial.gate.assert_stored("key1");
}

#[test]
fn put_completes_after_its_connection_is_dropped() {
    for component in both_components() {
        let trial = Trial::start(PeerServer::builder().compiled_component(component));
        trial.runtime.block_on(async {
            let mut wire = Wire::to(&trial.server);
            wire.send(Post::put("key1", "\"waits\"").bytes()).await;
            trial.wait_for_put("key1");
            wire.serving.abort();
            let ended = (&mut wire.serving).await;
            assert!(ended.is_err_and(|error| error.is_cancelled()));
            // A server that closes waits for it.
            let server = Arc::clone(&trial.server);
            let closing = tokio::spawn(async move { server.close().await });
            assert_eq!(Wire::to(&trial.server).rest().await, b"");
            assert!(!closing.is_finished());
            trial.gate.open();
            let closed = timeout(DEADLINE, closing).await.expect("closes");
            closed.expect("did not panic");
        });
        trial.gate.assert_stored("key1");
    }
}

/// The sink was flushed, and gets no more puts.
#[test]
fn connection_after_close_is_not_served() {
    let trial = Trial::start(PeerServer::builder());
    trial.runtime.block_on(trial.server.close());
    // On a single thread, so that the request has arrived before it is read.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("starts a runtime");
    runtime.block_on(async {
        let mut wire = Wire::to(&trial.server);
        wire.send(Post::put("late", "1").bytes()).await;
        assert_eq!(wire.rest().await, b"");
    });
    trial.gate.assert_nothing_stored();
}

/// Each waits in the sink alone, and the client gets the responses in order.
#[test]
fn puts_of_one_connection_are_sequential() {
    let trial = Trial::start(PeerServer::builder());
    trial.runtime.block_on(async {
        let mut wire = Wire::to(&trial.server);
        let keys = ["key1", "key2", "key3"];
        let puts = keys.map(|key| Post::put(key, "\"waits\"").bytes());
        wire.send(puts.concat()).await;
        for key in keys {
            trial.wait_for_put(key);
            assert!(trial.gate.has_no_other(), "two at a time");
            trial.gate.open();
            wire.answer().await.assert_created();
            trial.gate.assert_stored(key);
        }
    });
}
