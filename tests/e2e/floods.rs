//! Data without end, sent as fast as the server reads it: a limit of bytes or time ends each, and other clients
//! are served meanwhile.
//!
//! Slow clients are in `hostile` and `pace`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::{Connection, DEADLINE, Peer, Post, handler_only_file, try_connect};

/// The number of flooding clients: at least as many as the server has threads.
const FLOODS: usize = 4;

/// Less framing than a body may have data, and more than is allowed for little data.
const MUCH_FRAMING_BYTES: usize = 2 << 20;

/// The size of each write.
const PIECE_BYTES: usize = 64 * 1024;

/// More than is read after a last response, including the buffers of the system.
const MAX_FLOOD_BYTES: usize = 128 << 20;

/// The beginning of a request, and the bytes that follow without end.
type Flood = (&'static str, &'static [u8]);

const BLANKS: Flood = ("2", b" ");
const ZEROS: Flood = ("0", b"0");
const ONE_BYTE_CHUNKS: Flood = ("", b"1\r\nx\r\n");
const DATA: Flood = ("ffffffffffffff\r\n", b"x");

fn head(method: &str) -> String {
    format!("{method} /_put HTTP/1.1\r\nHost: peer\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// Sends the request without end until the server closes the connection. Returns the response.
fn flood(address: SocketAddr, method: &str, kind: Flood) -> String {
    send_without_end(begin(address, method, kind), kind)
}

/// Sends the beginning of a request on a new connection.
fn begin(address: SocketAddr, method: &str, (begin, _): Flood) -> TcpStream {
    let mut stream = try_connect(address).expect("connects");
    stream
        .write_all((head(method) + begin).as_bytes())
        .expect("sends");
    stream
}

fn send_without_end(mut stream: TcpStream, (_, piece): Flood) -> String {
    let mut reader = stream.try_clone().expect("is cloned");
    // A client that reads at once gets the response before the connection is reset.
    let reading = thread::spawn(move || {
        let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => read.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("is not ended: {error}"),
            }
        }
        String::from_utf8_lossy(&read).into_owned()
    });
    let pieces = piece.repeat(PIECE_BYTES / piece.len());
    let start = Instant::now();
    while stream.write_all(&pieces).is_ok() {
        assert!(start.elapsed() < DEADLINE, "is read for ever");
        if reading.is_finished() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    reading.join().expect("is answered")
}

/// Floods a server, and puts meanwhile. Returns all responses.
fn flood_beside_good_client(peer: &Peer, method: &str, kind: Flood) -> Vec<String> {
    let (address, is_over) = (peer.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let good = scope.spawn(|| {
            let (mut kept, mut puts) = (Connection::open(address), 0);
            while puts == 0 || !is_over.load(Ordering::Relaxed) {
                puts += 1;
                let put = |side: &str| Post::put(&format!("{side}-{puts}"), "1");
                kept.ask(&put("kept")).assert_created();
                put("new").send_to(address).assert_created();
            }
        });
        let floods: Vec<_> = (0..FLOODS)
            .map(|_| scope.spawn(|| flood(address, method, kind)))
            .collect();
        let answers = floods
            .into_iter()
            .map(|flood| flood.join().expect("ends"))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        good.join().expect("is served");
        answers
    })
}

/// Servers for both entry points, with bodies up to 1 MiB and this time-out.
fn both(body_timeout: &str) -> [Peer; 2] {
    let component = handler_only_file().to_str().expect("is text");
    let set = ["--max-body", "1000000", "--body-timeout", body_timeout];
    [
        set.to_vec(),
        [&set[..], &["--component", component]].concat(),
    ]
    .map(|arguments| {
        Peer::builder()
            .sink("discard:")
            .arguments(&arguments)
            .start()
    })
}

#[track_caller]
fn assert_answered(answers: &[String], statuses: &[&str]) {
    for answer in answers {
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{answer:?}");
        assert!(answer.contains("connection: close"), "{answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    }
}

#[test]
fn flood_of_framing_ends_and_blocks_no_other_put() {
    for peer in both("60") {
        for kind in [BLANKS, ZEROS, ONE_BYTE_CHUNKS] {
            let answers = flood_beside_good_client(&peer, "POST", kind);
            assert_answered(&answers, &["413", "408"]);
        }
    }
}

/// Whichever limit is reached first.
#[test]
fn flood_of_framing_ends_in_time() {
    for peer in both("1") {
        for kind in [BLANKS, ZEROS] {
            let answers = flood_beside_good_client(&peer, "POST", kind);
            assert_answered(&answers, &["413", "408"]);
        }
    }
}

/// A refused body is read and dropped, within limits.
#[test]
fn flood_behind_refusal_ends_and_blocks_no_other_put() {
    for peer in both("1") {
        for kind in [BLANKS, ONE_BYTE_CHUNKS, DATA] {
            let answers = flood_beside_good_client(&peer, "PUT", kind);
            assert_answered(&answers, &["405"]);
        }
        let answers = flood_beside_good_client(&peer, "POST", DATA);
        assert_answered(&answers, &["413", "408"]);
    }
}

/// No time-out ends it, and the reader gets no data.
#[test]
fn flood_of_framing_behind_refusal_ends_by_its_bytes() {
    let component = handler_only_file().to_str().expect("is text");
    let set = ["--body-timeout", "3600", "--min-body-rate", "0"];
    for arguments in [&set[..], &[&set[..], &["--component", component]].concat()] {
        let peer = Peer::builder().sink("discard:").arguments(arguments);
        let peer = peer.start();
        for kind in [BLANKS, ZEROS, ONE_BYTE_CHUNKS] {
            assert_answered(&[flood(peer.address(), "PUT", kind)], &["405"]);
        }
    }
}

/// Also for a body with an announced length, after which the connection could go on.
#[test]
fn flood_of_data_behind_refusal_ends_by_its_bytes() {
    let set = ["--body-timeout", "3600", "--min-body-rate", "0"];
    let peer = Peer::builder().sink("discard:").arguments(&set).start();
    assert_answered(&[flood(peer.address(), "PUT", DATA)], &["405"]);
    let mut stream = try_connect(peer.address()).expect("connects");
    let head = "PUT /_put HTTP/1.1\r\nHost: peer\r\nContent-Length: 999999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sends");
    let (pieces, mut sent) = ([b'x'; PIECE_BYTES], 0);
    while stream.write_all(&pieces).is_ok() {
        sent += PIECE_BYTES;
        assert!(sent < MAX_FLOOD_BYTES, "is read on and on");
    }
}

/// The last response was sent, and further bytes are dropped.
#[test]
fn flood_behind_last_answer_is_cut_off() {
    let peer = Peer::builder().sink("discard:").start();
    for method in ["POST", "PUT"] {
        let (_, piece) = BLANKS;
        let mut stream = begin(peer.address(), method, BLANKS);
        let (pieces, mut sent) = (piece.repeat(PIECE_BYTES), 0);
        while stream.write_all(&pieces).is_ok() {
            sent += PIECE_BYTES;
            assert!(sent < MAX_FLOOD_BYTES, "is read on and on");
        }
    }
}

/// A flood does not delay the end of a server.
#[test]
fn flood_does_not_block_shutdown() {
    let [mut peer, _] = both("1");
    let address = peer.address();
    let floods = [BLANKS, DATA].map(|kind| {
        let stream = begin(address, "POST", kind);
        thread::spawn(move || send_without_end(stream, kind))
    });
    peer.put("key1", "1").assert_created();
    peer.signal(rustix::process::Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    for flood in floods {
        flood.join().expect("ends");
    }
}

/// Long before the body reaches its limit.
#[test]
fn framing_without_data_is_refused() {
    let component = handler_only_file().to_str().expect("is text");
    for arguments in [&[][..], &["--component", component]] {
        let peer = Peer::builder().sink("discard:").arguments(arguments);
        let peer = peer.start();
        for (begin, piece) in [BLANKS, ZEROS, ONE_BYTE_CHUNKS] {
            let framing = piece.repeat(MUCH_FRAMING_BYTES / piece.len());
            let mut connection = peer.connect();
            connection.send(head("POST") + begin).try_send(framing);
            connection.answer().assert_problem(413);
            assert_eq!(connection.rest(), b"");
        }
    }
}

#[test]
fn chunks_with_as_much_framing_as_data_are_put() {
    let component = handler_only_file().to_str().expect("is text");
    for arguments in [&[][..], &["--component", component]] {
        let peer = Peer::builder().arguments(arguments).start();
        for (key, bytes, size) in [("one", 40_000, 1), ("five", 400_000, 5)] {
            let event = format!("\"{}\"", "x".repeat(bytes));
            let put = Post::put(key, &event);
            let body = &put.bytes()[put.head().len()..];
            let chunks: Vec<&[u8]> = body.chunks(size).collect();
            peer.send(&Post::chunks(&chunks)).assert_created();
            assert_eq!(peer.get(key), format!("{event}\n"));
        }
    }
}

#[test]
fn body_in_small_chunks_is_put() {
    let peer = Peer::builder()
        .sink("discard:")
        .arguments(&["--max-body", "10000"])
        .start();
    let event = format!("\"{}\"", "x".repeat(9_000));
    let body = Post::put("key1", &event).bytes();
    let body = &body[Post::put("key1", &event).head().len()..];
    for size in [1, 2, 100] {
        let chunks: Vec<&[u8]> = body.chunks(size).collect();
        peer.send(&Post::chunks(&chunks)).assert_created();
    }
}

/// A client, or a proxy, that reads the response only after it has sent everything.
#[test]
fn client_sending_40_mib_before_reading_gets_413() {
    let peer = Peer::builder().sink("discard:").start();
    let large = vec![b' '; 40 << 20];
    let parts: Vec<&[u8]> = large.chunks(1 << 20).collect();
    for post in [Post::new(large.clone()), Post::chunks(&parts)] {
        for _ in 0..5 {
            peer.send(&post).assert_problem(413);
        }
        peer.send(&post.clone().method("PUT")).assert_problem(405);
    }
}
