//! Hostile clients: they use up connections, time and files, and abort at the worst moment. Other clients get
//! their 201s meanwhile.
//!
//! Malformed requests are in `framing`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::{Connection, DEADLINE, Peer, Post};

/// The number of slow clients: many more than threads.
const SLOW_CLIENTS: usize = 200;

/// The number of idle connections.
const IDLE_CLIENTS: usize = 5000;

/// The number of open files that a test needs for these connections and itself.
const FILES: u64 = 2 * IDLE_CLIENTS as u64;

/// A client that behaves well: it puts on a kept connection and on a new one.
struct GoodClient<'peer> {
    peer: &'peer Peer,
    kept: Connection,
    puts: usize,
}

impl<'peer> GoodClient<'peer> {
    fn of(peer: &'peer Peer) -> Self {
        let kept = peer.connect();
        Self {
            peer,
            kept,
            puts: 0,
        }
    }

    /// Puts, and asserts that both puts are acknowledged.
    #[track_caller]
    fn put(&mut self) {
        self.puts += 1;
        let put = |side: &str| Post::put(&format!("good-{side}-{}", self.puts), "1");
        self.kept.ask(&put("kept")).assert_created();
        self.peer.send(&put("new")).assert_created();
    }
}

/// A stream in non-blocking mode.
fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connects");
    stream.set_nonblocking(true).expect("sets an option");
    stream
}

/// The bytes that have arrived on a stream, and whether it has ended.
fn poll(stream: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(bytes) => read.extend_from_slice(&buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

/// Lets many clients send a request, one byte each in turn, until the server has closed all connections.
/// Returns the bytes that each read.
fn trickle(peer: &Peer, request: &[u8]) -> Vec<Vec<u8>> {
    let mut clients: Vec<Option<TcpStream>> = (0..SLOW_CLIENTS)
        .map(|_| Some(open(peer.address())))
        .collect();
    let mut read = vec![Vec::new(); SLOW_CLIENTS];
    let mut good = GoodClient::of(peer);
    let start = Instant::now();
    for byte in request.iter().cycle() {
        assert!(
            start.elapsed() < DEADLINE,
            "slow clients are served for ever"
        );
        for (client, read) in clients.iter_mut().zip(&mut read) {
            let Some(stream) = client else { continue };
            // The connection may be closed by now, which the read shows next.
            let _ = stream.write(&[*byte]);
            if poll(stream, read) {
                *client = None;
            }
        }
        good.put();
        if clients.iter().all(Option::is_none) {
            break;
        }
    }
    read
}

#[test]
fn slow_heads_are_ended_and_block_no_other_put() {
    let peer = Peer::builder()
        .arguments(&["--header-read-timeout", "1"])
        .start();
    // A header section without end.
    let head = format!("X-Slow: {}\r\n", "x".repeat(20)).repeat(1000);
    for read in trickle(&peer, format!("POST /_put HTTP/1.1\r\n{head}").as_bytes()) {
        assert_eq!(read, b"");
    }
}

#[test]
fn slow_bodies_are_ended_and_block_no_other_put() {
    let peer = Peer::builder().arguments(&["--body-timeout", "1"]).start();
    let head = Post::new(vec![b' '; 1_000_000]).head();
    // The header section is sent at once: byte by byte it would be too late.
    let mut clients: Vec<(TcpStream, Vec<u8>)> = (0..SLOW_CLIENTS)
        .map(|_| (open(peer.address()), Vec::new()))
        .collect();
    for (client, _) in &mut clients {
        client.write_all(&head).expect("is sent at once");
    }
    let mut good = GoodClient::of(&peer);
    let start = Instant::now();
    while !clients.is_empty() {
        assert!(
            start.elapsed() < DEADLINE,
            "slow clients are served for ever"
        );
        clients.retain_mut(|(client, read)| {
            let _ = client.write(b" ");
            let has_ended = poll(client, read);
            if has_ended {
                let answer = String::from_utf8_lossy(read);
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            }
            !has_ended
        });
        good.put();
    }
}

/// Raises the limit of the test's own open files.
fn lend_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|maximum| maximum >= FILES),
        "this test needs {FILES} open files: raise the hard limit (ulimit -Hn)"
    );
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("sets the limit");
}

#[test]
fn thousands_of_idle_connections_block_no_other_put() {
    lend_files();
    let mut peer = Peer::start();
    let mut good = GoodClient::of(&peer);
    let mut idle: Vec<TcpStream> = Vec::new();
    while idle.len() < IDLE_CLIENTS {
        let mut stream = open(peer.address());
        match idle.len() % 3 {
            // One in three has begun a request, and one in three has completed one.
            0 => {}
            1 => stream.write_all(b"POST /_p").expect("is sent at once"),
            _ => {
                let put = Post::put(&format!("idle-{}", idle.len()), "1");
                stream.write_all(&put.bytes()).expect("is sent at once");
            }
        }
        idle.push(stream);
        if idle.len().is_multiple_of(100) {
            good.put();
        }
    }
    good.put();
    // Nor do they delay the end of the server.
    drop(good);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("sets an option");
    drop(stream);
}

#[test]
fn reset_in_any_phase_is_harmless() {
    let peer = Peer::start();
    let mut good = GoodClient::of(&peer);
    let parts: [&[u8]; 2] = [br#"{"key":"reset","#, br#""event":1}"#];
    let requests = [
        Post::put("reset", "1").bytes(),
        Post::chunks(&parts).bytes(),
        Post::put("reset", "1")
            .header("Expect: 100-continue")
            .bytes(),
        Post::put("reset", "1").method("PUT").bytes(),
        [
            Post::put("reset", "1").bytes(),
            Post::put("reset", "2").bytes(),
        ]
        .concat(),
    ];
    for request in requests {
        for sent in 0..=request.len() {
            let mut stream =
                TcpStream::connect_timeout(&peer.address(), DEADLINE).expect("connects");
            stream.write_all(&request[..sent]).expect("sends");
            reset(stream);
            if sent.is_multiple_of(16) {
                good.put();
            }
        }
    }
    good.put();
    // Also while the response is on its way.
    for _ in 0..100 {
        let mut connection =
            TcpStream::connect_timeout(&peer.address(), DEADLINE).expect("connects");
        let puts = Post::put("reset", "1").bytes().repeat(20);
        connection.write_all(&puts).expect("sends");
        connection.read_exact(&mut [0; 1]).expect("is answered");
        reset(connection);
    }
    good.put();
    // Each was put or not, and nothing else was.
    let stored = peer.get("reset");
    assert!(["1\n", "2\n"].contains(&&*stored), "{stored}");
}

#[test]
fn clients_without_reads_block_no_other_put() {
    let peer = Peer::builder().arguments(&["--idle-timeout", "1"]).start();
    let mut good = GoodClient::of(&peer);
    // More responses than the buffers of two sockets hold, and nobody reads one.
    let requests = Post::new("{").bytes().repeat(100);
    let mut clients: Vec<Option<TcpStream>> = (0..20).map(|_| Some(open(peer.address()))).collect();
    let start = Instant::now();
    while clients.iter().any(Option::is_some) {
        assert!(start.elapsed() < DEADLINE, "they are served for ever");
        for client in &mut clients {
            let Some(stream) = client else { continue };
            match stream.write(&requests) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => *client = None,
            }
        }
        good.put();
    }
}
