//! The largest events, unusual keys, and more lines than puts in progress.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alldata_peer_server_http::PutError;
use alldata_peer_server_http::sinks;

use super::{Cluster, STREAM, Single, can_start, url};
use crate::sinks::put;
use crate::support::{Output, Peer, run, run_with_input};

/// The largest message in the test of that limit, in bytes.
const MAX_PAYLOAD: usize = 4096;

/// More lines than puts that may wait for a stream.
const LINES: usize = 10_000;

#[test]
fn largest_event_is_stored_and_one_byte_more_is_rejected() {
    if !can_start("the largest events") {
        return;
    }
    let nats = Single::with(&format!("max_payload: {MAX_PAYLOAD}"));
    let mut largest = 0;
    nats.block_on(async {
        let sink = sinks::open(&nats.url()).await.expect("opens");
        // The connection is not lost; otherwise the following puts would show nothing.
        for bytes in MAX_PAYLOAD - 400..MAX_PAYLOAD + 2 {
            let event = format!("\"{}\"", "x".repeat(bytes - 2));
            let key = format!("{bytes}");
            match put(&sink, &key, &event).await {
                Ok(()) => {
                    assert!(largest == 0 || largest == bytes - 1, "{bytes}");
                    largest = bytes;
                }
                Err(PutError::Rejected(_)) => assert!(largest > 0, "{bytes}"),
                Err(error) => panic!("{bytes}: {error}"),
            }
        }
    });
    assert!(largest < MAX_PAYLOAD, "a message has headers");
    let output = run(&["export", "--store", &nats.url()]);
    assert_eq!(output.events().len(), largest + 401 - MAX_PAYLOAD);
}

#[test]
fn too_large_event_leaves_the_stream_healthy() {
    if !can_start("events that are too large") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    for _ in 0..3 {
        let refused = peer.put("a", &large);
        refused.assert_is(422, "Unprocessable Content", "no", false);
        peer.put("b", "1").assert_created();
    }
    // The settings of the stream are a limit too.
    nats.update(|config| config.max_message_size = 1000);
    let refused = peer.put("a", &format!("\"{}\"", "x".repeat(2000)));
    refused.assert_is(422, "Unprocessable Content", "no", false);
    peer.put("a", "1").assert_created();
}

/// A peer passes a put on to the leader, whichever server it is connected to.
#[test]
fn any_key_is_stored_through_each_of_three_servers() {
    if !can_start("keys through three servers") {
        return;
    }
    let cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    let peers: Vec<Peer> = (0..3)
        .map(|node| {
            let url = format!("nats://{}/{STREAM}", cluster.address(node));
            Peer::builder().sink(&url).start()
        })
        .collect();
    let mut held = BTreeMap::new();
    for (number, key) in keys().into_iter().enumerate() {
        let quoted = serde_json::to_string(&key).expect("is text");
        let quoted = &quoted[1..quoted.len() - 1];
        let event = number.to_string();
        for turn in 0..peers.len() {
            let peer = &peers[(number + turn) % peers.len()];
            peer.put(quoted, &event).assert_created();
            peer.put(quoted, "\"other\"").assert_problem(409);
        }
        // A command line can't contain zero bytes.
        if !key.contains('\0') {
            let variables = [("ALLDATA_PEER_STORE", store.as_str())];
            let output = Output::with_environment(&["get", "--", &key], &variables);
            assert_eq!(output.assert_ok(), format!("{event}\n"), "{key:?}");
        }
        held.insert(key, event);
    }
    assert_eq!(run(&["export", "--store", &store]).events(), held);
    run(&["verify", "--store", &store]).assert_ok();
}

#[test]
fn import_of_more_lines_than_the_quota_succeeds() {
    if !can_start("large imports into a stream") {
        return;
    }
    let nats = Single::start();
    let mut lines = String::new();
    for number in 0..LINES {
        writeln!(lines, "{{\"key\":\"key{number}\",\"event\":{number}}}").expect("is written");
    }
    for (new, present) in [(LINES, 0), (0, LINES)] {
        let output = run_with_input(&["import", "-", "--store", &nats.url()], &lines);
        assert_eq!(output.code, Some(0), "{output:?}");
        let summary = format!("{LINES} events: {new} new, {present} present\n");
        assert_eq!(output.stdout, summary);
    }
    let output = run(&["export", "--store", &nats.url()]);
    let mut exported: Vec<&str> = output.assert_ok().lines().collect();
    let mut imported: Vec<&str> = lines.lines().collect();
    exported.sort_unstable();
    imported.sort_unstable();
    assert!(exported == imported, "{} lines", exported.len());
}

/// All characters with a meaning in a subject or a URL, and the longest keys.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        ".",
        "..",
        "*",
        ">",
        "a.b",
        "a.>",
        "a.*",
        " ",
        "\t\r\n",
        "$JS",
        "%",
        "%41",
        "A",
        "a",
        "%2e",
        "-x",
        "é",
        "e\u{301}",
        "\u{1f600}",
        "\0",
        "\u{7f}",
        "\"\\",
    ]
    .map(str::to_owned)
    .into();
    keys.extend(["k".repeat(1024), "é".repeat(512), ".".repeat(1024)]);
    keys.push("\u{1f600}".repeat(256));
    keys
}
