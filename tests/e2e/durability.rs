//! What was acknowledged is kept, and what is in flight is answered: under load, kills, signals.
//!
//! Never damages a file: what becomes of a store then is in `store_faults`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use alldata_peer_server_http::PeerServer;
use rustix::process::Signal;
use tokio::sync::Semaphore;

use crate::support::{Connection, DEADLINE, Embedded, Peer, Post, run, wait_until};

/// More puts in a row than a connection gets through before its server is ended.
const MANY: usize = 20_000;

/// Events by their keys.
type Events = BTreeMap<String, String>;

#[test]
fn incomplete_request_and_unread_response_do_not_delay_shutdown() {
    let mut peer = Peer::builder()
        .arguments(&["--drain-timeout", "3600"])
        .start();
    let mut half = peer.connect();
    half.send("POST /_put HTTP/1.1\r\nHost:");
    let mut unread = peer.connect();
    unread.send(Post::put("key1", "1").bytes().repeat(3));
    peer.put("key2", "1").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn concurrent_puts_are_all_exported() {
    let peer = Peer::start();
    let acknowledged = Load::start(peer.address(), "put", 64, 16).finish();
    assert_eq!(acknowledged.len(), 1024);
    assert_same(&exported(&peer.store()), &acknowledged);
}

#[test]
fn acknowledged_events_survive_a_kill() {
    let mut acknowledged = Events::new();
    let mut peer = Peer::start();
    let store = peer.store();
    for round in 0..6 {
        let mut load = Load::start(peer.address(), &format!("round{round}"), 16, MANY);
        load.wait_for(400);
        let (status, next) = peer.end(Signal::KILL);
        assert_eq!(status.code(), None, "it ended before the kill");
        acknowledged.append(&mut load.finish());
        // Who looks first at what the kill left changes from round to round.
        if round % 2 == 0 {
            run(&["verify", "--store", &store]).assert_ok();
            assert_holds(&exported(&store), &acknowledged);
        }
        peer = next.start();
        assert_holds(&exported(&store), &acknowledged);
        run(&["verify", "--store", &store]).assert_ok();
    }
}

#[test]
fn retry_after_a_kill_succeeds_and_other_event_conflicts() {
    let peer = Peer::start();
    let mut load = Load::start(peer.address(), "put", 8, MANY);
    load.wait_for(100);
    let (_, next) = peer.end(Signal::KILL);
    let acknowledged = load.finish();
    let peer = next.start();
    // Of those that are stored, some may not have been acknowledged.
    let stored = exported(&peer.store());
    assert_holds(&stored, &acknowledged);
    let mut connection = peer.connect();
    for (key, event) in &stored {
        let mut put = |event| connection.send(Post::put(key, event).bytes()).answer();
        put(event).assert_created();
        put("\"other\"").assert_problem(409);
    }
    assert_same(&exported(&peer.store()), &stored);
}

#[test]
fn sigterm_under_load_loses_nothing_that_was_acknowledged() {
    assert_signal_under_load_loses_nothing(Signal::TERM);
}

#[test]
fn sigint_under_load_loses_nothing_that_was_acknowledged() {
    assert_signal_under_load_loses_nothing(Signal::INT);
}

fn assert_signal_under_load_loses_nothing(signal: Signal) {
    let peer = Peer::start();
    let store = peer.store();
    let mut load = Load::start(peer.address(), "put", 16, MANY);
    load.wait_for(400);
    let (status, ended) = peer.end(signal);
    assert_eq!(status.code(), Some(0));
    let acknowledged = load.finish();
    assert!(acknowledged.len() < 16 * MANY, "the load was over");
    // And nothing was taken that was not answered.
    assert_same(&exported(&store), &acknowledged);
    run(&["verify", "--store", &store]).assert_ok();
    drop(ended);
}

#[test]
fn puts_in_the_sink_at_sigterm_are_answered() {
    assert_puts_in_the_sink_are_answered(Signal::TERM);
}

#[test]
fn puts_in_the_sink_at_sigint_are_answered() {
    assert_puts_in_the_sink_are_answered(Signal::INT);
}

fn assert_puts_in_the_sink_are_answered(signal: Signal) {
    let sink = SlowPeer::start();
    let mut peer = Peer::builder().sink(&sink.url()).start();
    let mut connections: Vec<Connection> = (0..32)
        .map(|number| {
            let mut connection = peer.connect();
            connection.send(Post::put(&format!("key{number}"), "1").bytes());
            connection
        })
        .collect();
    sink.wait_for(connections.len());
    peer.signal(signal);
    wait_until_refused(peer.address());
    sink.go_on();
    for connection in &mut connections {
        let answer = connection.answer();
        answer.assert_created();
        // Or the client would send its next put into a connection that ends.
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest(), b"");
    }
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn queued_puts_at_a_signal_are_stored_and_answered() {
    let mut peer = Peer::start();
    let lock = rusqlite::Connection::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let keys: Vec<String> = (0..16).map(|number| format!("key{number}")).collect();
    let mut connections: Vec<Connection> = keys
        .iter()
        .map(|key| {
            let mut connection = peer.connect();
            let body = start_to_put(&mut connection, key, "{ \"a\": 1 }");
            connection.send(body);
            connection
        })
        .collect();
    peer.signal(Signal::TERM);
    wait_until_refused(peer.address());
    lock.execute_batch("ROLLBACK").expect("unlocks");
    for connection in &mut connections {
        connection.answer().assert_created();
    }
    assert_eq!(peer.wait().code(), Some(0));
    let events = keys.into_iter().map(|key| (key, "{ \"a\": 1 }".to_owned()));
    assert_eq!(exported(&peer.store()), events.collect());
}

#[test]
fn incomplete_request_at_a_signal_is_not_put() {
    let drain = ["--drain-timeout", "1"];
    let mut peer = Peer::builder().arguments(&drain).start();
    let mut connection = peer.connect();
    let body = start_to_put(&mut connection, "half", "{ \"a\": 1 }");
    connection.send(&body[..body.len() / 2]);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(exported(&peer.store()), Events::new());
}

#[test]
fn signal_ends_server_with_idle_connections() {
    let mut peer = Peer::builder()
        .arguments(&["--drain-timeout", "3600"])
        .start();
    let mut silent = peer.connect();
    let mut used = peer.connect();
    used.send(Post::put("key1", "1").bytes())
        .answer()
        .assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(used.rest(), b"");
    assert_eq!(silent.rest(), b"");
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn clean_shutdown_leaves_only_the_database() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut peer = Peer::start();
        Load::start(peer.address(), "put", 4, 25).finish();
        peer.signal(signal);
        assert_eq!(peer.wait().code(), Some(0));
        let files = fs::read_dir(peer.file(".")).expect("is a directory");
        let names: Vec<_> = files
            .map(|file| file.expect("is a file").file_name())
            .collect();
        assert_eq!(names, ["alldata.db"]);
        assert_eq!(exported(&peer.store()).len(), 100);
    }
}

#[test]
fn second_signal_ends_server_with_hanging_sink() {
    let pairs = [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ];
    for (first, second) in pairs {
        let sink = SlowPeer::start();
        let patience = ["--drain-timeout", "3600", "--sink-timeout", "3600"];
        let mut peer = Peer::builder()
            .sink(&sink.url())
            .arguments(&patience)
            .start();
        let mut connection = peer.connect();
        connection.send(Post::put("key1", "1").bytes());
        sink.wait_for(1);
        peer.signal(first);
        wait_until_refused(peer.address());
        // Within a second, it may come from the same hand.
        wait_until("a later signal ends the server", || {
            peer.signal(second);
            peer.has_ended()
        });
        assert_eq!(peer.wait().code(), Some(130), "it was cut short");
        sink.go_on();
    }
}

#[test]
fn hanging_sink_delays_shutdown_only_until_timeout() {
    let sink = SlowPeer::start();
    let arguments = ["--drain-timeout", "1", "--sink-timeout", "3600"];
    let mut peer = Peer::builder()
        .sink(&sink.url())
        .arguments(&arguments)
        .start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    sink.wait_for(1);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    sink.go_on();
}

/// Puts from many connections at a time, each in a row, until they are done or the server is gone.
pub(crate) struct Load {
    acknowledgements: Receiver<(String, String)>,
    /// Those that were waited for.
    seen: Events,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, name: &str, connections: usize, puts: usize) -> Self {
        let (sender, acknowledgements) = mpsc::channel();
        let threads = (0..connections).map(|connection| {
            let prefix = format!("{name}-{connection:02}");
            let sender = sender.clone();
            thread::spawn(move || put_in_a_row(address, &prefix, puts, &sender))
        });
        Self {
            threads: threads.collect(),
            acknowledgements,
            seen: Events::new(),
        }
    }

    /// Waits for so many acknowledgements.
    pub(crate) fn wait_for(&mut self, count: usize) {
        for _ in 0..count {
            let next = self.acknowledgements.recv_timeout(DEADLINE);
            self.seen.extend([next.expect("a put is acknowledged")]);
        }
    }

    /// Waits for the end and returns every event that was acknowledged.
    pub(crate) fn finish(self) -> Events {
        let mut events = self.seen;
        events.extend(self.acknowledgements);
        for thread in self.threads {
            thread.join().expect("each answer was a 201");
        }
        events
    }
}

fn put_in_a_row(
    address: SocketAddr,
    prefix: &str,
    puts: usize,
    acknowledgements: &Sender<(String, String)>,
) {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connects");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("sets an option");
    let mut stream = BufReader::new(stream);
    for number in 0..puts {
        let key = format!("{prefix}-{number:05}");
        let event = format!(
            "{{ \"é of\":\t\"{key}\", \"n\": {number}.0e1, \"pad\": \"{}\" }}",
            "é\\n".repeat(number % 7 * 40)
        );
        let put = Post::put(&key, &event).bytes();
        if stream.get_mut().write_all(&put).is_err() {
            return;
        }
        let Some(head) = answer_head(&mut stream) else {
            return;
        };
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
        acknowledgements.send((key, event)).expect("is waited for");
    }
}

/// The head of an answer without a body; `None` where the server is gone.
fn answer_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
    }
    Some(head)
}

fn exported(store: &str) -> Events {
    run(&["export", "--store", store]).events()
}

/// Sends the head of a put and has the server ask for the body, which is returned.
fn start_to_put(connection: &mut Connection, key: &str, event: &str) -> Vec<u8> {
    let post = Post::put(key, event).header("Expect: 100-continue");
    let head = post.head();
    connection.send(&head);
    assert_eq!(connection.any_answer(false).status, 100);
    post.bytes().split_off(head.len())
}

/// Holds that each of `events` is stored as it was put.
#[track_caller]
fn assert_holds(stored: &Events, events: &Events) {
    for (key, event) in events {
        assert_eq!(stored.get(key), Some(event), "{key}");
    }
}

/// Holds that `events` are stored as they were put, and nothing else.
#[track_caller]
fn assert_same(stored: &Events, events: &Events) {
    assert_holds(stored, events);
    let other = stored.keys().find(|key| !events.contains_key(*key));
    assert_eq!(other, None, "it was not acknowledged");
}

/// Waits until nothing listens at an address any more.
fn wait_until_refused(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, DEADLINE).is_ok() {
        assert!(start.elapsed() < DEADLINE, "it still accepts connections");
        thread::yield_now();
    }
}

/// A peer, as a sink, that answers no put until it is told to go on.
struct SlowPeer {
    server: Embedded,
    arrived: Receiver<String>,
    gate: Arc<Semaphore>,
}

impl SlowPeer {
    fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (sender, arrived) = mpsc::channel();
        let held = Arc::clone(&gate);
        let server = PeerServer::builder().on_put(move |key, _| {
            // The test may not look.
            let _ = sender.send(key);
            let gate = Arc::clone(&held);
            async move {
                // Nothing is ever permitted: this waits for the gate to be closed for good.
                let _ = gate.acquire().await;
                Ok(())
            }
        });
        Self {
            server: Embedded::start(server),
            arrived,
            gate,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/_put", self.server.address())
    }

    /// Waits until it holds so many puts.
    fn wait_for(&self, puts: usize) {
        for _ in 0..puts {
            self.arrived.recv_timeout(DEADLINE).expect("a put arrives");
        }
    }

    fn go_on(&self) {
        self.gate.close();
    }
}
