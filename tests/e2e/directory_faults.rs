//! Faults of the sink `directory`: kills, full disks, damaged files, missing permissions.
//!
//! Its files without a fault are in `directory_sink`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::load::Load;
use crate::support::{DEADLINE, EventFiles, Peer, Post, can_make, no_own_disk};

/// Files that a crash may leave between the creation of a file and its removal, and worse ones.
#[test]
fn leftover_files_are_harmless() {
    let store = EventFiles::new();
    let tmp = store.root().join("tmp");
    fs::create_dir_all(tmp.join("a-directory")).expect("creates");
    fs::write(tmp.join("0123456789abcdef"), "{\"half").expect("writes");
    symlink("/nowhere", tmp.join("fedcba9876543210")).expect("links");
    let before = store.temporaries();
    // From a put that was interrupted before its event was linked, and after.
    fs::create_dir_all(store.place("key1").parent().expect("has one")).expect("creates");
    fs::create_dir_all(store.place("key2").parent().expect("has one")).expect("creates");
    fs::write(tmp.join("0000000000000000"), "2").expect("writes");
    fs::hard_link(tmp.join("0000000000000000"), store.place("key2")).expect("links");
    let peer = store.serve().start();
    peer.put("key1", "1").assert_created();
    peer.put("key2", "2").assert_created();
    peer.put("key2", "3").assert_problem(409);
    assert_eq!(store.files().len(), 2);
    assert_eq!(store.temporaries().len(), before.len() + 1);
}

#[test]
fn acknowledged_events_survive_kill_under_load() {
    let store = EventFiles::new();
    let mut acknowledged = BTreeMap::new();
    let mut peer = store.serve().start();
    for round in 0..4 {
        let mut load = Load::start(peer.address(), &format!("put-{round}"), 8, 2000);
        load.wait_for(100);
        let (status, _directory) = peer.end(Signal::KILL);
        assert_eq!(status.code(), None, "it ended before the kill");
        acknowledged.append(&mut load.finish());
        // Events that were not acknowledged are complete too, if they are visible.
        let files = store.files();
        for (path, bytes) in &files {
            serde_json::from_slice::<serde_json::Value>(bytes)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        peer = store.serve().start();
        for (key, event) in &acknowledged {
            assert_eq!(store.held(key).as_ref(), Some(event), "{key}");
        }
    }
    let mut connection = peer.connect();
    for (key, event) in acknowledged.iter().step_by(7) {
        connection.ask(&Post::put(key, event)).assert_created();
        connection.ask(&Post::put(key, "0")).assert_problem(409);
    }
}

#[test]
fn kill_during_write_leaves_no_event() {
    let store = EventFiles::new();
    let event = format!("\"{}\"", "x".repeat(14 << 20));
    let peer = store.serve().start();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", &event).bytes());
    let start = Instant::now();
    while !store.is_written_to() {
        assert!(start.elapsed() < DEADLINE, "nothing is written");
        thread::yield_now();
    }
    drop(peer.end(Signal::KILL));
    // Unless the kill was too late.
    let held = store.held("key1");
    assert!(held.is_none_or(|held| held == event), "half of it is there");
    let peer = store.serve().start();
    peer.put("key1", &event).assert_created();
    assert!(store.held("key1") == Some(event));
}

#[test]
fn damaged_file_is_a_conflict_and_stays() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    let event = "{\"a\": \"some text\"}";
    for (key, damaged) in [
        ("cut", &event.as_bytes()[..9]),
        ("empty", b""),
        ("junk", b"\xff\xfe\0junk"),
        ("longer", b"{\"a\": \"some text\"}}"),
    ] {
        peer.put(key, event).assert_created();
        fs::write(store.place(key), damaged).expect("writes");
        peer.put(key, event).assert_problem(409);
        assert_eq!(fs::read(store.place(key)).expect("reads"), damaged, "{key}");
    }
    assert_eq!(store.temporaries(), [""; 0]);
}

/// Anything but a file at an event's path is neither followed nor replaced, and its put is not acknowledged.
#[test]
fn non_file_in_place_of_event_is_a_failure() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    fs::create_dir_all(store.place("directory")).expect("creates");
    let link = store.place("link");
    fs::create_dir_all(link.parent().expect("has one")).expect("creates");
    symlink("../elsewhere", &link).expect("links");
    for key in ["directory", "link"] {
        peer.put(key, "1").assert_problem(500);
        peer.log_line(&format!("\"{key}\""));
    }
    assert!(!store.root().join("elsewhere").exists());
    peer.put("key1", "1").assert_created();
}

#[test]
fn missing_directory_setting_fails_with_reason_in_log() {
    let store = EventFiles::new();
    let missing = "ALLDATA_PEER_DIRECTORY is not set";
    for (variable, reason) in [
        ("ALLDATA_PEER_DIRECTORY=", missing),
        ("ALLDATA_PEER_OTHER=/events", missing),
        (
            "ALLDATA_PEER_DIRECTORY=/elsewhere",
            "\"/elsewhere\", which is in no directory",
        ),
        (
            "ALLDATA_PEER_DIRECTORY=/events/../..",
            "cannot open \"/events/../..\"",
        ),
        (
            "ALLDATA_PEER_DIRECTORY=/events/below",
            "cannot open \"/events/below\": no-entry",
        ),
    ] {
        let builder = Peer::composed_with("directory").arguments(&["--dir", &store.dir()]);
        let peer = builder.env(variable).start();
        let detail = peer.put("key1", "1").detail(500);
        assert!(
            detail.contains("log") && !detail.contains("events"),
            "{detail}"
        );
        let line = peer.log_line("sink directory: ");
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(fs::read_dir(store.root()).expect("lists").count(), 0);
}

#[test]
fn read_only_directory_fails_puts_and_keeps_events() {
    let store = EventFiles::new();
    // Root may write everywhere, unless it has no capabilities.
    let launcher: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        false => &["env"],
    };
    let peer = store.serve().launched_by(launcher).start();
    peer.put("key1", "1").assert_created();
    fs::set_permissions(store.root(), Permissions::from_mode(0o555)).expect("sets");
    peer.put("key2", "2").assert_problem(500);
    let line = peer.log_line("sink directory: ");
    assert!(line.contains(": access"), "{line}");
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    fs::set_permissions(store.root(), Permissions::from_mode(0o755)).expect("sets");
    peer.put("key2", "2").assert_created();
}

#[test]
fn partially_written_file_is_never_visible() {
    let store = EventFiles::new();
    let peer = store.serve().start();
    peer.limit_file_size(Some(100_000));
    let large = format!("\"{}\"", "x".repeat(200_000));
    peer.put("key1", &large).assert_problem(500);
    peer.log_line("cannot write a file in \"tmp\"");
    assert!(store.files().is_empty() && store.temporaries().is_empty());
    peer.put("key2", "2").assert_created();
    peer.limit_file_size(None);
    peer.put("key1", &large).assert_created();
    assert_eq!(store.held("key1"), Some(large));
}

/// Runs on a file system of its own, if the test may mount one.
#[test]
fn full_disk_is_reported_until_space_is_freed() {
    if !can_make("a full disk", no_own_disk()) {
        return;
    }
    let unshare = ["unshare", "--mount", "--map-root-user"];
    let store = EventFiles::new();
    let mount = format!(
        "mount -t tmpfs -o size=1m none {} && exec \"$0\" \"$@\"",
        store.root().display()
    );
    let launcher = [&unshare[..], &["sh", "-c", &mount]].concat();
    let peer = store.serve().launched_by(&launcher).start();
    let half = format!("\"{}\"", "x".repeat(600_000));
    peer.put("key1", &half).assert_created();
    let answer = peer.put("key2", &half);
    let detail = answer.assert_is(503, "Service Unavailable", "no", true);
    assert_eq!(answer.header("retry-after"), Some("60"), "{detail}");
    peer.log_line("cannot write a file in \"tmp\": insufficient-space");
    peer.put("key1", &half).assert_created();
    peer.put("key3", "3").assert_created();
    peer.put("key2", "2").assert_created();
    assert!(store.files().is_empty(), "the file system was its own");
}
