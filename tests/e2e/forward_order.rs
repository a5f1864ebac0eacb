//! The sink `forward` with several peers: which are asked, and how their responses are combined.
//!
//! The responses of a single peer are in `forward_sink`.

use crate::forward_sink::to;
use crate::support::{Exchange, Peer, ScriptedPeer};

/// A peer whose response is defined by the key: by its word at this index.
fn peer_number(place: usize) -> ScriptedPeer {
    ScriptedPeer::start(move |exchange| {
        let key = exchange.read_body().key();
        act(exchange, key.split(' ').nth(place).expect("is told"));
    })
}

fn act(exchange: &mut Exchange, word: &str) {
    match word.split_once('/') {
        Some((status, seconds)) => {
            exchange.answer(status, &format!("Retry-After: {seconds}\r\n"), "");
        }
        None if word == "cut" => exchange.close(),
        None => exchange.answer(word, "", "{\"detail\":\"No.\"}"),
    }
}

#[test]
fn responses_of_several_peers_are_combined() {
    let (first, second) = (peer_number(0), peer_number(1));
    let peer = to(&format!("{} , {}", first.url(), second.url())).start();
    for (answers, status, asked) in [
        ("201 201", 201, 1),
        ("503 201", 201, 2),
        ("500 201", 201, 2),
        ("cut 201", 201, 2),
        ("404 201", 201, 2),
        ("503 409", 409, 2),
        ("503 422", 422, 2),
        ("503 cut", 504, 2),
        ("503 500", 500, 2),
        // Responses that end the search.
        ("409 201", 409, 1),
        ("422 201", 422, 1),
        // The first peer may have stored the event, whatever the second responds.
        ("cut 409", 504, 2),
        ("cut 422", 504, 2),
        ("cut 503", 504, 2),
        ("504 409", 504, 2),
        ("500 409", 500, 2),
        ("500 422", 500, 2),
    ] {
        let answer = peer.put(answers, "1");
        assert_eq!(answer.status, status, "{answers}: {}", answer.text());
        // A peer reports a request before it responds, or right after.
        first.request();
        if asked == 2 {
            second.request();
        }
        let more = (first.more_requests(), second.more_requests());
        assert_eq!(more, (0, 0), "{answers}");
    }
}

#[test]
fn shortest_retry_after_is_returned() {
    let (first, second) = (peer_number(0), peer_number(1));
    let peer = to(&format!("{},{}", first.url(), second.url())).start();
    for (answers, seconds) in [
        ("503/9 503/7", "7"),
        ("503/7 503/9", "7"),
        ("503/70 503", "1"),
    ] {
        let answer = peer.put(answers, "1");
        answer.assert_is(503, "Service Unavailable", "no", true);
        assert_eq!(answer.header("retry-after"), Some(seconds), "{answers}");
    }
}

#[test]
fn second_peer_is_tried_after_unreachable_first() {
    let (nobody, store) = (Peer::nobody(), Peer::start());
    let peer = to(&format!("{},{}", nobody.url(), store.url())).start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    assert_eq!(store.stored(), "{\"key\":\"key1\",\"event\":1}\n");
    peer.log_line(&nobody.url());
}

#[test]
fn second_peer_has_its_own_timeout() {
    let first = ScriptedPeer::start(|exchange| drop(exchange.rest()));
    let second = ScriptedPeer::answering("201 Created");
    let peer = to(&format!("{},{}", first.url(), second.url()))
        .env("ALLDATA_PEER_FORWARD_TIMEOUT_MS=2000")
        .start();
    peer.put("key1", "1").assert_created();
    first.request();
    assert_eq!(second.request().body, b"{\"key\":\"key1\",\"event\":1}");
}
