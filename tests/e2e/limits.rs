//! Limits, each from both sides: a request within the limit is served, one beyond it is not.
//!
//! The limits of a body are in `protocol` and `differences`, its time-outs in `pace`, the limit on concurrent
//! requests in `embedding`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, sinks::DiscardSink};
use rusqlite::Connection as Database;

use crate::support::{Connection, Embedded, Peer, Post, run, wait_until};

/// The time for which a silent server is observed.
const PAUSE: Duration = Duration::from_millis(20);

/// The time after which the writer of a store has certainly taken the only put.
const WRITER_PAUSE: Duration = Duration::from_millis(500);

fn serve(set: impl FnOnce(PeerServerBuilder) -> PeerServerBuilder) -> Embedded {
    Embedded::start(set(PeerServer::builder().sink(DiscardSink)))
}

fn put() -> Post {
    Post::put("key1", "1")
}

/// A put whose header section has `bytes` bytes.
fn put_with_head(bytes: usize) -> Post {
    let padding = bytes - put().header("X: ").head().len();
    let post = put().header(&format!("X: {}", "x".repeat(padding)));
    assert_eq!(post.head().len(), bytes);
    post
}

/// A put with `count` header fields.
fn put_with_fields(fields: usize) -> Post {
    let others = fields - 2; // Host and Content-Length.
    (0..others).fold(put(), |post, number| post.header(&format!("X-{number}: x")))
}

/// Asserts that the header section is refused, and the connection closed.
#[track_caller]
fn assert_head_refused(server: &Embedded, post: &Post) {
    assert_refused(server, post, 431);
}

#[track_caller]
fn assert_refused(server: &Embedded, post: &Post, status: u16) {
    let mut connection = server.connect();
    let answer = connection.try_send(post.bytes()).answer();
    answer.assert_problem(status);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(connection.rest(), b"");
}

#[test]
fn head_size_limit_is_exact() {
    let most = Limits::DEFAULT.max_header_bytes as usize;
    let server = serve(|builder| builder);
    server.send(&put_with_head(most)).assert_created();
    assert_head_refused(&server, &put_with_head(most + 1));

    let server = serve(|builder| {
        builder.limits(Limits {
            max_header_bytes: 200,
            ..Limits::default()
        })
    });
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.ask(&put_with_head(200)).assert_created();
    }
    // However it arrives.
    for byte in put_with_head(200).bytes().chunks(1) {
        connection.send(byte);
    }
    connection.answer().assert_created();
    assert_head_refused(&server, &put_with_head(201));
    let long_target = |bytes: usize| put().target(&format!("/{}", "x".repeat(bytes)));
    assert_refused(&server, &long_target(200), 414);
    assert_refused(&server, &long_target(300_000), 414);

    let most = 1024 * 1024;
    let server = serve(|builder| {
        builder.limits(Limits {
            max_header_bytes: 1024 * 1024,
            ..Limits::default()
        })
    });
    server.send(&put_with_head(most)).assert_created();
    assert_head_refused(&server, &put_with_head(most + 1));
    // hyper's own limits on a target and on a field name, whatever the size of the header section.
    server
        .send(&put().target(&format!("/{}", "x".repeat(65_533))))
        .assert_created();
    assert_refused(
        &server,
        &put().target(&format!("/{}", "x".repeat(65_534))),
        414,
    );
    assert_refused(&server, &long_target(65_535), 414);
    let long_name = |bytes: usize| put().header(&format!("{}: x", "x".repeat(bytes)));
    server.send(&long_name(65_535)).assert_created();
    assert_head_refused(&server, &long_name(65_536));
}

#[test]
fn field_count_limit_is_exact() {
    let most = Limits::DEFAULT.max_headers as usize;
    let server = serve(|builder| builder);
    server.send(&put_with_fields(most)).assert_created();
    assert_head_refused(&server, &put_with_fields(most + 1));
    for most in [2, 300] {
        let server = serve(|builder| {
            builder.limits(Limits {
                max_headers: most,
                ..Limits::default()
            })
        });
        let most = most as usize;
        server.send(&put_with_fields(most)).assert_created();
        assert_head_refused(&server, &put_with_fields(most + 1));
    }
}

/// More than the buffers of two sockets hold: the client is still sending when it is refused.
#[test]
fn huge_head_is_refused_with_readable_reason() {
    let server = serve(|builder| builder);
    for _ in 0..5 {
        assert_head_refused(&server, &put_with_head(900_000));
    }
}

/// The store is locked, so that nothing leaves its queue.
fn stuck(arguments: &[&str]) -> (Peer, Database) {
    let peer = Peer::builder().arguments(arguments).start();
    peer.put("before", "1").assert_created();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    (peer, lock)
}

/// Sends puts, and waits until the writer has the first one and the others are queued.
fn wait_in_queue(peer: &Peer, puts: usize, event: &str) -> Vec<Connection> {
    let wait = |number| {
        let mut connection = peer.connect();
        connection.send(Post::put(&format!("key{number}"), event).bytes());
        let pause = if number == 0 { WRITER_PAUSE } else { PAUSE };
        assert!(connection.is_quiet_for(pause), "it does not wait");
        connection
    };
    (0..puts).map(wait).collect()
}

#[track_caller]
fn assert_no_place(peer: &Peer, key: &str, event: &str) {
    let refused = peer.put(key, event);
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn queued_put_limit_is_exact() {
    let (peer, lock) = stuck(&["--max-queue", "3"]);
    // The writer has one, and three wait.
    let waiting = wait_in_queue(&peer, 4, "1");
    assert_no_place(&peer, "other", "1");
    lock.execute_batch("ROLLBACK").expect("unlocks");
    for mut connection in waiting {
        connection.answer().assert_created();
    }
    peer.put("other", "1").assert_created();
}

#[test]
fn queued_byte_limit_is_exact() {
    let (peer, lock) = stuck(&["--max-queue-bytes", "1000"]);
    let event = format!("\"{}\"", "x".repeat(494));
    // The writer has one. Each of those that wait has 500 bytes with its key.
    let waiting = wait_in_queue(&peer, 3, &event);
    assert_no_place(&peer, "k", "1");
    lock.execute_batch("ROLLBACK").expect("unlocks");
    for mut connection in waiting {
        connection.answer().assert_created();
    }
    peer.put("k", "1").assert_created();
}

/// Two large bodies without end use up what is available to large ones, and no more.
#[test]
fn large_bodies_do_not_block_small_ones() {
    let most = 1 << 20;
    let server = serve(|builder| {
        builder.limits(Limits {
            max_body_bytes: most / 2,
            max_buffered_bytes: most,
            ..Limits::default()
        })
    });
    // Room for two, but not for three.
    let large = Post::new(vec![b' '; 370_000]).bytes();
    let stall = || {
        let mut connection = server.connect();
        connection.send(&large[..large.len() - 1]);
        connection
    };
    let mut stalled = [stall(), stall()];
    wait_until("a third large body is refused, and no other", || {
        let is_refused = server.send(&Post::new(vec![b' '; 400_000])).status == 503;
        // The third may have reserved its bytes before one of them was read.
        for connection in &mut stalled {
            if !connection.is_quiet_for(PAUSE) {
                *connection = stall();
                return false;
            }
        }
        is_refused
    });
    for _ in 0..10 {
        server.send(&put()).assert_created();
        let small = Post::put("key1", &format!("\"{}\"", "x".repeat(60_000)));
        server.send(&small).assert_created();
    }
}

/// The built-in component starts with a quarter of a MiB, and needs a few times its body.
#[test]
fn guest_memory_limit_is_configurable() {
    let server = serve(|builder| {
        builder.limits(Limits {
            max_guest_memory_bytes: 8 * 1024 * 1024,
            ..Limits::default()
        })
    });
    let event = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    server.put("key1", &event(1 << 20)).assert_created();
    server.put("key1", &event(10 << 20)).assert_problem(500);
    server.put("key1", &event(1 << 20)).assert_created();
}

#[test]
fn limit_out_of_range_is_wrong_usage() {
    for (flag, value) in [
        ("--max-connections", "0"),
        ("--max-header-size", "1048577"),
        ("--max-headers", "1001"),
        ("--header-read-timeout", "0"),
        ("--idle-timeout", "3601"),
        ("--max-queue", "0"),
        ("--max-queue-bytes", "0"),
        ("--max-guest-memory", "134217729"),
        ("--max-guest-time", "0"),
        ("--min-body-rate", "-1"),
    ] {
        let output = run(&["serve", &format!("{flag}={value}")]);
        let error = output.stderr;
        assert_eq!(output.code, Some(2), "{error}");
        assert!(error.contains(flag), "{error}");
    }
}

/// The table of limits in the documentation has every flag under the heading of limits, with its variable and
/// its default.
#[test]
fn table_of_limits_matches_flags() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = fs::read_to_string(path).expect("reads");
    let section = text.split_once("\n## Limits\n").expect("has limits").1;
    let table = section.split("\n### ").next().expect("has a beginning");
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let flag = cells.next()?.strip_prefix("`--")?.strip_suffix('`')?;
        let variable = format!("`ALLDATA_PEER_{}`", flag.replace('-', "_").to_uppercase());
        assert_eq!(cells.next()?, variable);
        Some((flag.to_owned(), cells.next()?.to_owned()))
    });
    let help = run(&["serve", "--help"]).stdout;
    let limits = help.split_once("\nLimits:").expect("has limits").1;
    let flags = limits.split("\n      --").skip(1).filter_map(|flag| {
        let name = flag.split_whitespace().next()?;
        let default = flag.split_once("[default: ")?.1.split(']').next()?;
        Some((name.to_owned(), default.to_owned()))
    });
    let (rows, flags): (BTreeMap<_, _>, BTreeMap<_, _>) = (rows.collect(), flags.collect());
    assert!(flags.len() > 10, "{limits}");
    assert_eq!(rows, flags);
}
