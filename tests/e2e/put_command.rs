//! `put` with a peer that is slow, hostile or missing: its time-out and its output.

use crate::support::{Output, ScriptedPeer, run};

fn put(to: &str) -> Output {
    run(&["put", "key1", "1", "--timeout", "1", "--to", to])
}

#[test]
fn unresponsive_peer_times_out() {
    let answers = [
        "",
        "HTTP/1.1 ",
        "HTTP/1.1 500 X\r\nX: ",
        "HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nx",
        "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n2",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ];
    for begun in answers {
        let peer = ScriptedPeer::start(move |exchange| {
            exchange.read_body().send(begun);
        });
        let output = put(&peer.url());
        let sentence = output.assert_failed(1);
        assert!(
            sentence.contains("no response in 1 s"),
            "{begun:?}: {sentence}"
        );
        assert!(sentence.contains(&peer.url()), "{sentence}");
    }
}

#[test]
fn acknowledgement_with_endless_body_counts() {
    let peer = ScriptedPeer::start(|exchange| {
        let head = "HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n";
        exchange.read_body().send(head);
    });
    put(&peer.url()).assert_ok();
}

#[test]
fn control_characters_of_an_answer_do_not_reach_the_terminal() {
    for status in ["422 X", "400 X", "413 X", "500 X"] {
        let peer = ScriptedPeer::start(move |exchange| {
            let detail = r"a\u001b[31m\r\nerror: b\u009b2J\u0007\u202e";
            let body = format!("{{\"detail\":\"{detail}\"}}");
            exchange.read_body().answer(status, "", &body);
        });
        let output = put(&peer.url());
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("error: b"), "{sentence:?}");
        let is_safe = |char: char| !char.is_control() && char != '\u{202e}';
        assert!(sentence.chars().all(is_safe), "{sentence:?}");
    }
}

#[test]
fn invalid_port_is_wrong_usage() {
    for authority in [
        "127.0.0.1:99999",
        "127.0.0.1:65536",
        "[::1]:99999",
        "a:0",
        "a:b",
    ] {
        let output = put(&format!("http://{authority}/"));
        let sentence = output.assert_failed(2);
        assert!(sentence.contains(authority), "{sentence}");
    }
}
