//! The end of a server by `close`: puts that have arrived completely are carried out, whether their clients
//! wait for the responses or have gone.
//!
//! Signals are in `graceful_stop`, pipelined requests in `pipelining`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::{Connection, DEADLINE, Embedded, Post, both_components, handler_only};

/// More than the time that a closing server gives to connections without a request.
const PAUSE: Duration = Duration::from_secs(2);

/// A sink that holds back each put, and then stores it.
struct HeldBack {
    entered: Receiver<()>,
    stored: Receiver<String>,
    gate: Arc<Semaphore>,
}

impl HeldBack {
    fn set(builder: PeerServerBuilder) -> (PeerServerBuilder, Self) {
        let (enter, entered) = mpsc::channel();
        let (store, stored) = mpsc::channel();
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let builder = builder.on_put(move |key, _| {
            let (enter, store, gate) = (enter.clone(), store.clone(), Arc::clone(&held));
            async move {
                // The test may not receive keys.
                let _ = enter.send(());
                let _closed = gate.acquire().await;
                let _ = store.send(key);
                Ok(())
            }
        });
        let longest = Duration::from_secs(3600);
        let builder = builder.limits(Limits {
            drain_timeout: longest,
            sink_timeout: longest,
            ..Limits::default()
        });
        (
            builder,
            Self {
                entered,
                stored,
                gate,
            },
        )
    }
}

fn in_chunks(key: &str) -> Post {
    let body = format!("{{\"key\":\"{key}\",\"event\":1}}");
    Post::chunks(&[body.as_bytes()])
}

/// How a client goes away.
type Go = fn(Connection);

/// Closes the connection with a reset, since a response is unread.
fn reset(mut connection: Connection) {
    // It has arrived.
    assert!(!connection.is_quiet_for(DEADLINE));
    drop(connection);
}

fn end_both_sides(mut connection: Connection) {
    connection.finish();
    drop(connection);
}

/// Asserts that the server waits for the put in its sink when it closes.
fn assert_waits(server: &Embedded, sink: &HeldBack, case: &str) {
    server.runtime.block_on(async {
        let mut close = pin!(server.server.close());
        let early = timeout(PAUSE, &mut close).await;
        assert!(early.is_err(), "{case}: the put is not waited for");
        sink.gate.close();
        timeout(DEADLINE, close).await.expect("closes");
    });
    assert_eq!(sink.stored.try_recv().as_deref(), Ok("key1"), "{case}");
}

#[test]
fn put_of_disconnected_client_is_waited_for() {
    let bad = Post::new("{").bytes();
    let goes: [(&str, &[u8], Go); 3] = [
        ("FIN", b"", drop),
        ("one side and then the other", b"", end_both_sides),
        ("RST", &bad, reset),
    ];
    let behind = [in_chunks("key1"), in_chunks("key2")].map(|put| put.bytes());
    let puts = [
        ("sized", Post::put("key1", "1").bytes()),
        ("chunked", in_chunks("key1").bytes()),
        ("with another behind it", behind.concat()),
    ];
    thread::scope(|scope| {
        for component in both_components() {
            let has_protocol = !std::ptr::eq(component, handler_only());
            for (how, before, go) in &goes {
                for (framing, put) in &puts {
                    scope.spawn(move || {
                        let builder = PeerServer::builder().compiled_component(component);
                        let (builder, sink) = HeldBack::set(builder);
                        let server = Embedded::start(builder);
                        let mut connection = server.connect();
                        connection.send([before, &put[..]].concat());
                        sink.entered.recv_timeout(DEADLINE).expect("is put");
                        go(connection);
                        let case = format!("protocol: {has_protocol}, {how}, {framing}");
                        assert_waits(&server, &sink, &case);
                    });
                }
            }
        }
    });
}

/// A server on a single-threaded runtime, which runs only while the test waits.
struct Still {
    runtime: Runtime,
    server: PeerServer,
    puts: Receiver<String>,
}

impl Still {
    fn start() -> Self {
        let (store, puts) = mpsc::channel();
        let builder = PeerServer::builder().on_put(move |key, _| {
            let stored = store.send(key);
            async move { stored.map_err(|error| PutError::Failed(error.to_string())) }
        });
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("starts a runtime");
        let listening = builder.hostname("127.0.0.1").port(0).listen();
        let server = runtime.block_on(listening).expect("listens");
        Self {
            runtime,
            server,
            puts,
        }
    }

    /// A connection that waits in the system's queue until the server runs.
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.local_addr()).expect("connects");
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("sets an option");
        stream
    }

    /// Puts, and asserts a 201.
    fn ask(&self, stream: &mut TcpStream) {
        stream
            .write_all(&Post::put("before", "1").bytes())
            .expect("sends");
        let answered = self.runtime.block_on(async {
            let reading = stream.try_clone().expect("is a socket");
            let mut answer = [0; 512];
            let read = tokio::task::spawn_blocking(move || (&reading).read(&mut answer));
            timeout(DEADLINE, read).await
        });
        assert!(
            answered
                .expect("is in time")
                .expect("reads")
                .expect("reads")
                > 0
        );
        assert_eq!(self.puts.try_recv().as_deref(), Ok("before"));
    }

    fn close(&self) {
        let closing = async { timeout(DEADLINE, self.server.close()).await };
        self.runtime.block_on(closing).expect("closes");
    }
}

#[test]
fn put_received_before_close_is_stored() {
    for put in [Post::put("key1", "1"), in_chunks("key1")] {
        for connection in [
            "not accepted yet",
            "without a request",
            "with an earlier put",
        ] {
            for has_gone in [false, true] {
                let still = Still::start();
                let mut stream = still.connect();
                match connection {
                    // Both are accepted in their order.
                    "without a request" => still.ask(&mut still.connect()),
                    "with an earlier put" => still.ask(&mut stream),
                    _ => {}
                }
                stream.write_all(&put.bytes()).expect("sends");
                let client = (!has_gone).then_some(stream);
                still.close();
                let case = format!("{connection}, gone: {has_gone}");
                assert_eq!(still.puts.try_recv().as_deref(), Ok("key1"), "{case}");
                if let Some(mut client) = client {
                    let mut answer = String::new();
                    client.read_to_string(&mut answer).expect("reads");
                    assert!(answer.starts_with("HTTP/1.1 201 "), "{case}: {answer}");
                    assert!(answer.contains("connection: close"), "{case}: {answer}");
                }
            }
        }
    }
}
