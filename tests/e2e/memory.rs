//! The memory of the program after a burst, and that of a large put.
//!
//! Limits during a burst are in `limits`.

use std::fs;

use crate::support::{Connection, EventFiles, Peer, Post, wait_until};

/// The number of clients that send an event at once, and its size in bytes: in all several times the memory of
/// the idle program.
const BURSTS: [(usize, usize); 2] = [(400, 300_000), (8, 15_000_000)];

/// The same for a composed component, where each request has its own instance.
const COMPOSED_BURST: (usize, usize) = (800, 60_000);

/// The resident memory of the program, in pages.
fn resident_pages(peer: &Peer) -> u64 {
    let path = format!("/proc/{}/statm", peer.id());
    let statm = fs::read_to_string(path).expect("reads");
    let pages = statm.split(' ').nth(1).expect("is the second number");
    pages.parse().expect("is a number")
}

/// The peak resident memory of the program so far, in bytes.
fn peak_bytes(peer: &Peer) -> u64 {
    let path = format!("/proc/{}/status", peer.id());
    let status = fs::read_to_string(path).expect("reads");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    kibibytes
        .expect("is a line")
        .parse::<u64>()
        .expect("is a number")
        * 1024
}

/// Asserts that the memory of events which clients send at once is returned to the system after the responses,
/// each with one of `statuses`.
#[track_caller]
fn assert_given_back(peer: &Peer, (clients, event_bytes): (usize, usize), statuses: &[u16]) {
    let before = resident_pages(peer);
    let event = format!("\"{}\"", "x".repeat(event_bytes));
    let mut clients: Vec<(Connection, Vec<u8>)> = (0..clients)
        .map(|number| {
            let mut first = Post::put(&format!("key{number}"), &event).bytes();
            let rest = first.split_off(first.len() - 1);
            let mut connection = peer.connect();
            connection.send(first);
            (connection, rest)
        })
        .collect();
    wait_until("all bodies are in memory", || {
        resident_pages(peer) > 2 * before
    });
    for (connection, rest) in &mut clients {
        connection.send(rest);
    }
    for (mut connection, _) in clients {
        let status = connection.answer().status;
        assert!(statuses.contains(&status), "{status}");
    }
    wait_until("the memory is given back", || {
        resident_pages(peer) < 2 * before
    });
}

#[test]
fn memory_of_instances_of_burst_is_given_back() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    peer.put("before", "1").assert_created();
    assert_given_back(&peer, COMPOSED_BURST, &[201]);
}

#[test]
fn memory_of_burst_is_given_back() {
    for burst in BURSTS {
        let peer = Peer::start();
        for number in 0..100 {
            peer.put(&format!("before-{number}"), "1").assert_created();
        }
        assert_given_back(&peer, burst, &[201, 503]);
    }
}

/// The server holds the body, whose memory becomes that of the event, and the guest has a copy. Another copy would exceed this.
#[test]
fn large_put_takes_memory_for_its_body_and_one_copy() {
    const EVENT_BYTES: usize = 16_000_000;
    // For buffers, and code that was not executed before.
    const OTHER_BYTES: u64 = 6_000_000;
    let peer = Peer::builder().sink("discard:").start();
    peer.put("small", "1").assert_created();
    let before = peak_bytes(&peer);
    let event = format!("\"{}\"", "x".repeat(EVENT_BYTES - 2));
    for number in 0..4 {
        peer.put(&format!("large-{number}"), &event)
            .assert_created();
    }
    let taken = peak_bytes(&peer) - before;
    let most = 2 * EVENT_BYTES as u64 + OTHER_BYTES;
    assert!(taken < most, "{taken} bytes, more than {most}");
}
