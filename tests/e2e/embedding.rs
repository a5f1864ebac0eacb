//! The library as embedders use it: starting, listening, closing, and errors.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use alldata_peer_server_http::sinks::{DiscardSink, MemorySink};
use alldata_peer_server_http::{Error, Limits, PeerServer, PeerServerBuilder, PutError, PutSink};

use crate::support::{DEADLINE, Embedded, Gate, Post, both_components};

#[test]
fn server_reports_its_address() {
    let server = Embedded::start(PeerServer::builder().sink(DiscardSink));
    assert_ne!(server.server.port(), 0);
    assert_eq!(server.server.hostname(), Some("127.0.0.1"));
    assert_eq!(server.server.local_addr().port(), server.server.port());
    assert_eq!(server.server.local_addrs(), [server.address()]);
}

#[test]
fn default_hostname_is_any_ipv4_address() {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let listening = PeerServer::builder().port(0).sink(DiscardSink).listen();
    let server = runtime.block_on(listening).expect("listens");
    assert_eq!(server.local_addr().ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    assert_eq!(server.hostname(), None);
    Post::put("key1", "1")
        .send_to(([127, 0, 0, 2], server.port()).into())
        .assert_created();
}

#[test]
fn hostname_with_several_addresses_listens_on_all() {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let listening = PeerServer::builder()
        .hostname("localhost")
        .port(0)
        .sink(DiscardSink)
        .listen();
    let server = runtime.block_on(listening).expect("listens");
    for address in server.local_addrs() {
        assert_eq!(address.port(), server.port());
        Post::put("key1", "1").send_to(*address).assert_created();
    }
}

#[test]
fn busy_port_is_an_error_with_its_address() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = busy.local_addr().expect("has an address");
    let builder = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(address.port());
    let error = listen_error(builder.sink(DiscardSink));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(matches!(error, Error::Listen { .. }), "{error:?}");
}

#[test]
fn missing_sink_is_an_error() {
    assert!(matches!(listen_error(PeerServer::builder()), Error::NoSink));
}

#[test]
fn setting_out_of_range_is_named() {
    let builder = PeerServer::builder().sink(DiscardSink);
    let error = listen_error(builder.limits(Limits {
        max_body_bytes: 16 * 1024 * 1024 + 1,
        ..Limits::default()
    }))
    .to_string();
    assert_eq!(
        error,
        "max_body_bytes is 16777217, but must be 1 to 16777216"
    );
}

#[test]
fn closing_twice_succeeds() {
    let server = Embedded::start(PeerServer::builder().sink(DiscardSink));
    server.put("key1", "1").assert_created();
    server.close();
    server.close();
}

#[test]
fn idle_connection_does_not_delay_shutdown() {
    let builder = PeerServer::builder().sink(DiscardSink).limits(Limits {
        drain_timeout: DEADLINE * 10,
        ..Limits::default()
    });
    let server = Embedded::start(builder);
    let mut idle = server.connect();
    idle.send(Post::put("key1", "1").bytes())
        .answer()
        .assert_created();
    let untouched = server.connect();
    server.close();
    assert_eq!(idle.rest(), b"");
    drop(untouched);
}

#[test]
fn puts_in_flight_are_answered_before_shutdown() {
    let (server, gate) = gated(PeerServer::builder());
    let mut connection = server.connect();
    connection.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    server.runtime.block_on(async {
        let close = server.server.close();
        tokio::pin!(close);
        // Closing has begun once the future is polled, and does not complete before the put does.
        assert!(futures_util::poll!(&mut close).is_pending());
        gate.open();
        tokio::time::timeout(DEADLINE, close).await.expect("closes");
    });
    let answer = connection.answer();
    answer.assert_created();
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn drain_timeout_ends_remaining_connections() {
    let builder = PeerServer::builder().on_put(|_, _| std::future::pending());
    let server = Embedded::start(builder.limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    }));
    let mut connection = server.connect();
    connection.send(Post::put("key1", "1").head());
    server.close();
    assert_eq!(connection.rest(), b"");
}

#[test]
fn put_outlasting_drain_timeout_completes() {
    let builder = PeerServer::builder().limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    });
    let (server, gate) = gated(builder);
    let mut connection = server.connect();
    connection.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    server.close();
    assert_eq!(connection.rest(), b"");
    gate.open();
    gate.assert_stored("waits");
}

#[test]
fn long_reason_is_sent_completely() {
    let reason = "No. ".repeat(100_000);
    let server = Embedded::failing(PutError::Rejected(reason.clone()));
    let mut connection = server.connect();
    for _ in 0..3 {
        let answer = connection.ask(&Post::put("key1", "1"));
        assert_eq!(answer.detail(422), reason);
    }
}

#[test]
fn closing_flushes_the_sink_once() {
    #[derive(Clone, Default)]
    struct Flushed(Arc<Mutex<u32>>);
    impl PutSink for Flushed {
        async fn put(&self, _: String, _: String) -> Result<(), PutError> {
            Ok(())
        }
        async fn flush(&self) -> Result<(), PutError> {
            *self.0.lock().expect("is not poisoned") += 1;
            Ok(())
        }
    }
    let sink = Flushed::default();
    let server = Embedded::start(PeerServer::builder().sink(sink.clone()));
    server.close();
    server.close();
    assert_eq!(*sink.0.lock().expect("is not poisoned"), 1);
}

#[test]
fn panic_in_flush_does_not_block_closing() {
    struct Panics;
    impl PutSink for Panics {
        async fn put(&self, _: String, _: String) -> Result<(), PutError> {
            Ok(())
        }
        async fn flush(&self) -> Result<(), PutError> {
            panic!("the test asks for it")
        }
    }
    Embedded::start(PeerServer::builder().sink(Panics)).close();
}

#[test]
fn blocking_health_does_not_block_end_of_server() {
    struct Blocks(mpsc::Sender<()>, Mutex<Receiver<()>>);
    impl PutSink for Blocks {
        async fn put(&self, _: String, _: String) -> Result<(), PutError> {
            Ok(())
        }
        fn health(&self) -> Result<(), String> {
            self.0.send(()).expect("the test waits");
            let release = self.1.lock().expect("is not poisoned");
            release.recv().map_err(|error| error.to_string())
        }
    }
    let (enter, entered) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let sink = Blocks(enter, Mutex::new(released));
    let Embedded { runtime, server } = Embedded::start(PeerServer::builder().sink(sink));
    let monitor = server.monitor().clone();
    let reading = thread::spawn(move || monitor.health());
    entered.recv_timeout(DEADLINE).expect("health is read");
    let (end, ended) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drop(server);
        end.send(()).expect("the test waits");
    });
    ended.recv_timeout(DEADLINE).expect("the server is dropped");
    release.send(()).expect("health waits");
    assert!(reading.join().expect("did not panic").is_ready());
    dropping.join().expect("did not panic");
    drop(runtime);
}

#[test]
fn puts_beyond_limit_are_503_until_others_end() {
    let (server, gate) = gated(PeerServer::builder().limits(Limits {
        max_concurrent_requests: 1,
        ..Limits::default()
    }));
    let mut first = server.connect();
    first.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    let refused = server.put("other", "1");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("1"));
    gate.open();
    first.answer().assert_created();
    server.put("other", "1").assert_created();
}

#[test]
fn bytes_beyond_limit_are_503_until_others_end() {
    let (server, gate) = gated(PeerServer::builder().limits(Limits {
        max_buffered_bytes: 1500,
        ..Limits::default()
    }));
    let large = format!("\"{}\"", "x".repeat(1000));
    let mut first = server.connect();
    first.send(Post::put("waits", &large).bytes());
    gate.wait_for_put();
    let refused = server.put("other", &large);
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.put("small", "1").assert_created();
    gate.open();
    first.answer().assert_created();
    server.put("other", &large).assert_created();
}

/// 16 pauses of 100 ms are longer than the second of processor time that this guest has; it only waits.
#[test]
fn trickling_body_outlasting_cpu_limit_is_put() {
    for component in both_components() {
        let builder = PeerServer::builder().compiled_component(component);
        let server = Embedded::start(builder.sink(DiscardSink).limits(Limits {
            min_body_rate: 0,
            max_guest_time: Duration::from_secs(1),
            ..Limits::default()
        }));
        let post = Post::put("key1", "\"0123456789\"").bytes();
        let (first, rest) = post.split_at(post.len() - 16);
        let mut connection = server.connect();
        connection.send(first);
        for byte in rest.chunks(1) {
            assert!(connection.is_quiet_for(Duration::from_millis(100)));
            connection.send(byte);
        }
        connection.answer().assert_created();
    }
}

#[test]
fn fresh_instance_per_request_serves() {
    let builder = PeerServer::builder()
        .sink(MemorySink::new(1 << 20))
        .limits(Limits {
            max_instance_reuse_count: 1,
            ..Limits::default()
        });
    let server = Embedded::start(builder);
    let mut connection = server.connect();
    for number in 0..20 {
        let put = Post::put(&format!("key{number}"), "1");
        connection.send(put.bytes()).answer().assert_created();
    }
}

/// A server whose sink holds back the puts of the key `waits`.
fn gated(builder: PeerServerBuilder) -> (Embedded, Gate) {
    let (builder, gate) = Gate::before(builder, |key, _| key == "waits");
    (Embedded::start(builder), gate)
}

fn listen_error(builder: PeerServerBuilder) -> Error {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    runtime
        .block_on(builder.listen())
        .expect_err("does not start")
}
