//! Acknowledged events are kept: under load, after kills and signals.
//!
//! Requests in flight at a signal are in `graceful_stop`, damaged stores in `store_damage`.

use rustix::process::Signal;

use crate::load::{Events, Load, assert_holds, assert_same, exported};
use crate::support::{Peer, Post, run};

/// Puts for each connection: more than it can make before its server is ended.
const MAX_PUTS: usize = 20_000;

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
        let mut load = Load::start(peer.address(), &format!("round{round}"), 16, MAX_PUTS);
        load.wait_for(400);
        let (status, next) = peer.end(Signal::KILL);
        assert_eq!(status.code(), None, "the server ended before the kill");
        acknowledged.append(&mut load.finish());
        // The first program to open the store after a kill is a command in even rounds, a server in odd ones.
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
    let mut load = Load::start(peer.address(), "put", 8, MAX_PUTS);
    load.wait_for(100);
    let (_, next) = peer.end(Signal::KILL);
    let acknowledged = load.finish();
    let peer = next.start();
    // Some of the stored events may not have been acknowledged.
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
    let mut load = Load::start(peer.address(), "put", 16, MAX_PUTS);
    load.wait_for(400);
    let (status, ended) = peer.end(signal);
    assert_eq!(status.code(), Some(0));
    let acknowledged = load.finish();
    assert!(acknowledged.len() < 16 * MAX_PUTS, "the load was over");
    // Nothing was stored without a response.
    assert_same(&exported(&store), &acknowledged);
    run(&["verify", "--store", &store]).assert_ok();
    drop(ended);
}
