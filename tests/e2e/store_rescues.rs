//! Rescued copies of a store: which of them become the store, and which do not.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::store_files::{
    assert_holds, assert_intact, assert_refused, end, end_with_loss, with_one_event,
};
use crate::support::{Peer, run, serve};

#[test]
fn copy_beside_another_store_refuses_the_start() {
    let peer = with_one_event();
    let (here, away) = (peer.file("alldata.db"), peer.file("away.db"));
    let store = peer.store();
    fs::remove_file(&here).expect("removes");
    peer.log_line("alldata.db.rescued");
    let next = end(peer, Signal::TERM);
    let rescued = with_suffix(&here, ".rescued");
    let backup = fs::read(&rescued).expect("reads");
    fs::write(&here, &backup).expect("writes");
    for arguments in [
        &serve(&store)[..],
        &["import", "/dev/null", "--store", &store],
    ] {
        let output = run(arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("alldata.db.rescued"), "{sentence}");
    }
    // Readers read the store at the path, and warn.
    let output = run(&["get", "before", "--store", &store]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("alldata.db.rescued"), "{output:?}");
    assert!(fs::read(&here).expect("reads") == backup);
    assert_holds(&rescued, "before");
    // Either the copy is used,
    fs::rename(&here, &away).expect("moves");
    let peer = next.start();
    assert!(!rescued.exists());
    assert_intact(&peer, &["before"]);
    // or the store at the path.
    let next = end(peer, Signal::TERM);
    fs::rename(&here, &rescued).expect("moves");
    fs::rename(&away, &here).expect("moves");
    fs::rename(&rescued, with_suffix(&here, ".kept")).expect("renames");
    assert_intact(&next.start(), &["before"]);
}

/// A crash may leave a copy with its temporary name as a second one.
#[test]
fn copy_with_a_second_name_becomes_the_store() {
    for second in [".rescued.partial", ".rescued.partial-2"] {
        let peer = with_one_event();
        let here = peer.file("alldata.db");
        fs::remove_file(&here).expect("removes");
        peer.log_line("alldata.db.rescued");
        let next = end(peer, Signal::TERM);
        let rescued = with_suffix(&here, ".rescued");
        fs::hard_link(&rescued, with_suffix(&here, second)).expect("links");
        let peer = next.start();
        assert!(!with_suffix(&here, second).exists() && !rescued.exists());
        assert_intact(&peer, &["before"]);
        // Also if it has become the store already.
        let next = end(peer, Signal::TERM);
        fs::hard_link(&here, &rescued).expect("links");
        let peer = next.start();
        assert!(!rescued.exists());
        assert_intact(&peer, &["before"]);
    }
}

/// NFS and FUSE rename a file that is removed while it is open, and remove it when it is closed.
#[test]
fn file_hidden_by_the_file_system_counts_as_removed() {
    for name in [
        ".nfs000000000012d68700000001",
        ".fuse_hidden0000004200000001",
    ] {
        let peer = with_one_event();
        let (here, hidden) = (peer.file("alldata.db"), peer.file(name));
        fs::rename(&here, &hidden).expect("renames");
        assert_refused(&peer, "was removed");
        peer.log_line("alldata.db.rescued");
        let next = end(peer, Signal::TERM);
        fs::remove_file(&hidden).expect("removes");
        assert_intact(&next.start(), &["before"]);
    }
}

/// A page of the table that is not read is damaged, and SQLite can't rebuild the store without it.
#[test]
fn removed_damaged_store_is_copied_as_it_is() {
    let peer = Peer::start();
    for number in 0..400 {
        let event = format!("\"{}\"", "x".repeat(200));
        let key = format!("key{number}");
        peer.put(&key, &event).assert_created();
    }
    let here = peer.file("alldata.db");
    let next = end(peer, Signal::TERM);
    damage_leaf(&here);
    let peer = next.start();
    peer.put("after", "1").assert_created();
    fs::remove_file(&here).expect("removes");
    peer.log_line("was removed");
    let line = peer.log_line("were copied to");
    assert!(line.contains("alldata.db.rescued"), "{line}");
    let peer = end(peer, Signal::TERM).start();
    assert_eq!(peer.get("after"), "1\n");
    for number in [0, 399] {
        assert!(peer.get(&format!("key{number}")).contains("xxx"));
    }
}

#[test]
fn end_without_a_copy_fails_and_names_the_loss() {
    for is_removed in [true, false] {
        let peer = with_one_event();
        let here = peer.file("alldata.db");
        peer.limit_file_size(Some(1));
        match is_removed {
            true => fs::remove_file(&here).expect("removes"),
            false => fs::write(&here, "").expect("cuts off"),
        }
        let line = peer.log_line("cannot copy the acknowledged events");
        assert!(line.contains("the server tries again"), "{line}");
        let log = end_with_loss(peer);
        let lost = log.iter().rfind(|line| line.contains("ERROR"));
        let lost = lost.expect("the loss is logged");
        assert!(lost.contains("alldata.db"), "{lost}");
        let expected = match is_removed {
            true => "are lost",
            false => "alldata.db-wal",
        };
        assert!(lost.contains(expected), "{lost}");
    }
}

/// The copy is tried again at the end, when there is room.
#[test]
fn end_makes_the_copy_once_there_is_room() {
    let peer = with_one_event();
    let here = peer.file("alldata.db");
    peer.limit_file_size(Some(1));
    fs::remove_file(&here).expect("removes");
    peer.log_line("cannot copy the acknowledged events");
    peer.limit_file_size(None);
    let next = end(peer, Signal::TERM);
    assert_holds(&with_suffix(&here, ".rescued"), "before");
    let peer = next.start();
    run(&["verify", "--store", &peer.store()]).assert_ok();
}

/// Overwrites the header of a page in the middle, which has rows of the table.
fn damage_leaf(path: &Path) {
    const PAGE_BYTES: usize = 4096;
    const LEAF_OF_TABLE: u8 = 13;
    let mut bytes = fs::read(path).expect("reads");
    let pages = bytes.len() / PAGE_BYTES;
    let is_leaf = |page: &usize| bytes[page * PAGE_BYTES] == LEAF_OF_TABLE;
    let page = (pages / 2..pages).find(is_leaf).expect("has one");
    let start = page * PAGE_BYTES;
    bytes[start..start + 100].fill(0xff);
    fs::write(path, bytes).expect("writes");
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
