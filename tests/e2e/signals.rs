//! Signals: which end a server, which do not, and when a second one cuts the end short.

use rustix::process::Signal;

use crate::support::{Connection, Exchange, Peer, Post, ScriptedPeer, wait_until};

#[test]
fn write_beyond_file_size_limit_is_answered_and_heals() {
    for (sink, cause) in [
        ("sqlite:alldata.db", "ulimit -f"),
        ("ndjson:events.ndjson", "File too large"),
    ] {
        let peer = Peer::builder().sink(sink).start();
        peer.put("key1", "1").assert_created();
        peer.limit_file_size(Some(64 * 1024));
        let large = format!("\"{}\"", "x".repeat(128 * 1024));
        peer.put("key2", &large).assert_problem(500);
        peer.log_line(cause);
        peer.limit_file_size(None);
        peer.put("key2", &large).assert_created();
    }
}

#[test]
fn hangup_and_user_signals_do_not_end_a_server() {
    let mut peer = Peer::start();
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
    ] {
        peer.signal(signal);
        let line = peer.log_line(name);
        assert!(line.contains("ignored"), "{line}");
        peer.put(name, "1").assert_created();
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn immediate_second_signal_does_not_cut_shutdown_short() {
    for second in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (mut peer, mut connection, mut put) = peer_with_put_in_flight();
        // As GNU `timeout` does.
        peer.signal(Signal::TERM);
        peer.signal(second);
        peer.log_line("closing");
        put.answer("201 Created", "", "");
        connection.answer().assert_created();
        assert_eq!(peer.wait().code(), Some(0));
    }
}

#[test]
fn later_second_signal_cuts_shutdown_short() {
    let (mut peer, _connection, _put) = peer_with_put_in_flight();
    peer.signal(Signal::TERM);
    peer.log_line("closing");
    wait_until("a later signal ends the server", || {
        peer.signal(Signal::TERM);
        peer.has_ended()
    });
    assert_eq!(peer.wait().code(), Some(130));
}

/// A server that has sent a put to another peer, which has not responded yet.
fn peer_with_put_in_flight() -> (Peer, Connection, Exchange) {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let peer = Peer::builder().sink(&other.url()).start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "1").bytes());
    (peer, connection, other.request())
}

#[test]
fn blocked_signal_still_ends_server() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT")] {
        let block = format!("--block-signal={name}");
        let mut peer = Peer::builder().launched_by(&["env", &block]).start();
        peer.put("key1", "1").assert_created();
        peer.signal(signal);
        assert_eq!(peer.wait().code(), Some(0));
    }
}
