//! The sink `directory`, composed and served: its files, to the byte, and races for a key.
//!
//! Faults are in `directory_faults`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Barrier;
use std::thread;

use crate::support::{Answer, EventFiles, Peer, Post};

/// The number of puts that race for one key.
const RACERS: usize = 32;

#[test]
fn event_is_a_file_named_after_its_key() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    let event = "{ \"é\":\t[1.50, 1e400, \"\\u00e9\\ud800\"]}";
    for key in [
        "20130927T005240652508858176",
        "../é",
        "a+b",
        ".",
        "tmp",
        "%",
        " ",
        "\0",
    ] {
        put(&peer, key, event).assert_created();
        assert_eq!(store.held(key).as_deref(), Some(event), "{key:?}");
    }
    assert_eq!(
        store
            .place("20130927T005240652508858176")
            .file_name()
            .expect("has a name"),
        "20130927%54005240652508858176"
    );
    assert_eq!(store.files().len(), 8);
    assert_eq!(store.temporaries(), [""; 0]);
}

#[test]
fn keys_differing_in_case_have_names_differing_without_case() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    let keys = ["key", "Key", "KEY", "kEY", "%4bey"];
    for key in keys {
        put(&peer, key, &format!("\"{key}\"")).assert_created();
    }
    for key in keys {
        put(&peer, key, &format!("\"{key}\"")).assert_created();
        put(&peer, key, "1").assert_problem(409);
    }
    let lower: BTreeSet<String> = store
        .files()
        .keys()
        .map(|path| {
            path.file_name()
                .expect("has a name")
                .to_string_lossy()
                .to_lowercase()
        })
        .collect();
    assert_eq!(lower.len(), keys.len());
}

/// The longest keys, and keys of which one is the beginning of the other's path.
#[test]
fn long_keys_have_names_valid_in_file_systems() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    let mut keys: Vec<String> = [
        "k",
        "K",
        "%",
        "/",
        ".",
        "\0",
        "+",
        "é",
        "\u{10ffff}",
        "aB",
        "../.",
    ]
    .iter()
    .map(|part| part.repeat(1024 / part.len()))
    .collect();
    keys.extend([119, 120, 121, 239, 240, 241, 1023].map(|length| "k".repeat(length)));
    keys.extend([39, 40, 41, 80, 81].map(|length| "É".repeat(length)));
    for (number, key) in keys.iter().enumerate() {
        put(&peer, key, &number.to_string()).assert_created();
    }
    for (number, key) in keys.iter().enumerate() {
        let event = number.to_string();
        assert_eq!(store.held(key), Some(event.clone()), "{key:?}");
        put(&peer, key, &event).assert_created();
        put(&peer, key, "\"other\"").assert_problem(409);
    }
    let files = store.files();
    assert_eq!(files.len(), keys.len());
    let names = files.keys().flat_map(|path| path.iter());
    assert!(
        names.map(std::ffi::OsStr::len).max() <= Some(143),
        "eCryptfs takes so much"
    );
}

#[test]
fn first_event_stays_unchanged() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    peer.put("key1", "{\"a\":1,\"b\":[10]}").assert_created();
    let before = fs::metadata(store.place("key1")).expect("is there");
    peer.put("key1", "{ \"b\": [1e1], \"\\u0061\": 1.0 }")
        .assert_created();
    peer.put("key1", "{\"a\":2,\"b\":[10]}").assert_problem(409);
    assert_eq!(store.held("key1").as_deref(), Some("{\"a\":1,\"b\":[10]}"));
    let after = fs::metadata(store.place("key1")).expect("is there");
    let untouched =
        |file: &fs::Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.nlink());
    assert_eq!(untouched(&before), untouched(&after));
    assert_eq!(after.nlink(), 1, "its first name is gone");
    assert_eq!(store.temporaries(), [""; 0]);
}

#[test]
fn large_event_is_stored_and_compared_completely() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    let large = format!("\"{}a\"", "é".repeat(5 << 20));
    peer.put("key1", &large).assert_created();
    assert!(store.held("key1").as_ref() == Some(&large));
    peer.put("key1", &large).assert_created();
    peer.put("key1", &large.replace('a', "b"))
        .assert_problem(409);
    peer.put("key1", "1").assert_problem(409);
}

#[test]
fn exactly_one_of_many_at_once_wins() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    for key in ["race1", "race2", "race3"] {
        assert_one_wins(&store, &[&peer], key);
    }
}

#[test]
fn exactly_one_of_many_wins_also_between_two_servers() {
    let store = EventFiles::new();
    let peers = [store.serve().start(), store.serve().start()];
    for key in ["race1", "race2", "race3"] {
        assert_one_wins(&store, &[&peers[0], &peers[1]], key);
    }
    peers[0].put("key1", "[1,2]").assert_created();
    peers[1].put("key1", "[1, 2]").assert_created();
    peers[1].put("key1", "2").assert_problem(409);
}

/// The comparison would cost as much as the stored event.
#[test]
fn much_longer_stored_event_is_not_compared() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    for (key, blanks, status) in [("near", 4_000, 201), ("far", 1_000_000, 409)] {
        let held = format!("[1,{}2]", " ".repeat(blanks));
        peer.put(key, &held).assert_created();
        assert_eq!(peer.put(key, "[1,2]").status, status, "{key}");
        peer.put(key, &held).assert_created();
        peer.put(key, "[1,3]").assert_problem(409);
        assert_eq!(store.held(key), Some(held));
    }
}

#[test]
fn store_may_be_below_the_given_directory() {
    let store = EventFiles::new();
    fs::create_dir_all(store.root().join("a/b")).expect("creates");
    let builder = Peer::composed_with("directory").arguments(&["--dir", &store.dir()]);
    let peer = builder.env("ALLDATA_PEER_DIRECTORY=/events/a/b/").start();
    peer.put("key1", "1").assert_created();
    assert!(store.root().join("a/b/tmp").is_dir());
    assert_eq!(fs::read_dir(store.root()).expect("lists").count(), 1);
}

/// Puts with the key as it is.
fn put(peer: &Peer, key: &str, event: &str) -> Answer {
    let key = serde_json::to_string(key).expect("is text");
    peer.put(&key[1..key.len() - 1], event)
}

/// Lets different events race for a key, each on its own connection, and asserts that one is acknowledged and
/// stored.
#[track_caller]
fn assert_one_wins(store: &EventFiles, peers: &[&Peer], key: &str) {
    let start = Barrier::new(RACERS);
    let answers: Vec<u16> = thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|number| {
                let mut connection = peers[number % peers.len()].connect();
                let (start, put) = (&start, Post::put(key, &number.to_string()));
                scope.spawn(move || {
                    start.wait();
                    connection.ask(&put).status
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().expect("is answered"))
            .collect()
    });
    let winners: Vec<usize> = (0..RACERS).filter(|racer| answers[*racer] == 201).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert!(
        answers.iter().all(|status| [201, 409].contains(status)),
        "{answers:?}"
    );
    assert_eq!(store.held(key), Some(winners[0].to_string()));
    assert_eq!(store.temporaries(), [""; 0]);
}
