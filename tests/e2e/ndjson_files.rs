//! The file of `ndjson:` while a server has it open: moved, removed, replaced, truncated, and restored; and
//! files that can't be opened.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::process::Signal;

use crate::store_files::end_with_loss;
use crate::support::{Peer, run, serve};

pub(crate) const NAME: &str = "dir/events.ndjson";
const FIRST: &str = "{\"key\":\"key1\",\"event\":1}\n";

/// A server with one event in its file.
pub(crate) fn start() -> Peer {
    let directory = tempfile::tempdir().expect("makes a directory");
    fs::create_dir(directory.path().join("dir")).expect("makes a directory");
    let sink = format!("ndjson:{NAME}");
    let peer = Peer::builder().directory(directory).sink(&sink).start();
    peer.put("key1", "1").assert_created();
    peer
}

/// Asserts that puts fail, that the log says why, and that nothing is written to a file of another program.
#[track_caller]
fn assert_refused(peer: &Peer, reason: &str) {
    for number in 0..2 {
        let problem = peer.put(&format!("lost{number}"), "1").assert_problem(500);
        assert_eq!(problem["stored"], "unknown");
    }
    let line = peer.log_line("put failed");
    assert!(line.contains(reason) && line.contains(NAME), "{line}");
}

#[track_caller]
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("reads")
}

#[test]
fn moved_file_refuses_puts_until_it_is_back() {
    let mut peer = start();
    let (path, aside) = (peer.file(NAME), peer.file("aside"));
    fs::rename(&path, &aside).expect("moves");
    assert_refused(&peer, "it was moved");
    assert_eq!(read(&aside), FIRST);
    fs::rename(&aside, &path).expect("moves");
    peer.put("key2", "2").assert_created();
    peer.log_line("is in its place again");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!(
        read(&path),
        format!("{FIRST}{{\"key\":\"key2\",\"event\":2}}\n")
    );
}

/// As NFS does when an open file is removed.
#[test]
fn file_hidden_by_the_file_system_counts_as_removed() {
    let peer = start();
    let hidden = peer.file("dir/.nfs000000000012d68700000001");
    fs::rename(peer.file(NAME), hidden).expect("renames");
    assert_refused(&peer, "it was removed");
}

#[test]
fn moved_directory_refuses_puts_until_it_is_back() {
    let peer = start();
    let (path, aside) = (peer.file("dir"), peer.file("aside"));
    fs::rename(&path, &aside).expect("moves");
    assert_refused(&peer, "it was moved");
    fs::rename(&aside, &path).expect("moves");
    peer.put("key2", "2").assert_created();
}

#[test]
fn removed_file_or_directory_refuses_puts() {
    let mut peer = start();
    fs::remove_file(peer.file(NAME)).expect("removes");
    assert_refused(&peer, "it was removed");
    assert!(!peer.file(NAME).exists());
    // Also if another file takes its place.
    fs::write(peer.file(NAME), "").expect("writes");
    peer.put("key2", "2").assert_problem(500);
    assert_eq!(read(&peer.file(NAME)), "");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let log = peer.rest_of_stderr().join("\n");
    assert!(log.contains("is not closed as it was written"), "{log}");

    let peer = start();
    fs::remove_dir_all(peer.file("dir")).expect("removes");
    assert_refused(&peer, "it was removed");
}

#[test]
fn another_file_in_its_place_gets_no_line() {
    let peer = start();
    let (path, aside) = (peer.file(NAME), peer.file("aside"));
    // By a link, so that the first file stays.
    fs::hard_link(&path, &aside).expect("links");
    fs::write(peer.file("other"), "other\n").expect("writes");
    fs::rename(peer.file("other"), &path).expect("moves");
    assert_refused(&peer, "another file is at its path");
    assert_eq!(
        (read(&path), read(&aside)),
        ("other\n".into(), FIRST.into())
    );
    fs::rename(&aside, &path).expect("moves");
    peer.put("key2", "2").assert_created();
}

#[test]
fn link_to_another_file_gets_no_line() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let link = directory.path().join("events.ndjson");
    symlink("first", &link).expect("links");
    let peer = Peer::builder()
        .directory(directory)
        .sink("ndjson:events.ndjson");
    let peer = peer.start();
    peer.put("key1", "1").assert_created();
    fs::write(peer.file("second"), "").expect("writes");
    fs::remove_file(&link).expect("removes");
    symlink("second", &link).expect("links");
    peer.put("key2", "2").assert_problem(500);
    peer.log_line("another file is at its path");
    assert_eq!(read(&peer.file("second")), "");
    assert_eq!(read(&peer.file("first")), FIRST);
}

/// Asserts that a file stays as another program has left it, and is written to again once it is restored.
#[track_caller]
fn assert_restored(peer: &Peer, text: &str) {
    let path = peer.file(NAME);
    assert_eq!(read(&path), text);
    fs::write(&path, FIRST).expect("restores");
    peer.put("key2", "2").assert_created();
    let second = "{\"key\":\"key2\",\"event\":2}\n";
    assert_eq!(read(&path), [FIRST, second].concat());
}

#[test]
fn truncated_file_refuses_puts_until_it_is_restored() {
    for text in ["", "{\"key\""] {
        let peer = start();
        fs::write(peer.file(NAME), text).expect("truncates");
        assert_refused(&peer, "it was truncated from 25 to");
        assert_restored(&peer, text);
    }
}

#[test]
fn longer_file_at_its_path_takes_lines() {
    let peer = start();
    let path = peer.file(NAME);
    let other = "{\"key\":\"other\",\"event\":1}\n";
    fs::write(&path, [FIRST, other].concat()).expect("writes");
    peer.put("key2", "2").assert_created();
    let second = "{\"key\":\"key2\",\"event\":2}\n";
    assert_eq!(read(&path), [FIRST, other, second].concat());
}

#[test]
fn locked_file_is_reported_as_locked() {
    let peer = start();
    let sink = format!("ndjson:{}", peer.file(NAME).display());
    let output = run(&serve(&sink));
    let sentence = output.assert_failed(1);
    let locked = "another process has locked it: two servers must not write to one file";
    assert!(sentence.contains(locked), "{sentence}");
    assert!(!sentence.contains("would block"), "{sentence}");
    peer.put("key2", "2").assert_created();
}

#[test]
fn unopenable_file_is_reported_with_the_cause() {
    let peer = start();
    for (name, cause) in [
        ("none/events.ndjson", "none does not exist"),
        ("dir", "it is a directory"),
        ("dir/events.ndjson/a", "events.ndjson is not a directory"),
    ] {
        let path = peer.file(name);
        let output = run(&serve(&format!("ndjson:{}", path.display())));
        let sentence = output.assert_failed(1);
        assert!(sentence.contains(cause), "{sentence}");
        assert!(sentence.contains(&path.display().to_string()), "{sentence}");
    }
}

/// Also if another file is at that path by now.
#[test]
fn relative_path_is_resolved_at_the_start() {
    let directory = tempfile::tempdir().expect("makes a directory");
    fs::create_dir(directory.path().join("dir")).expect("makes a directory");
    let peer = Peer::builder()
        .directory(directory)
        .launched_by(&["sh", "-c", "cd dir && exec \"$0\" \"$@\""])
        .sink("ndjson:events.ndjson")
        .start();
    peer.put("key1", "1").assert_created();
    fs::rename(peer.file("dir"), peer.file("aside")).expect("moves");
    assert_refused(&peer, "it was moved");
    fs::create_dir(peer.file("dir")).expect("makes a directory");
    peer.put("key2", "2").assert_problem(500);
    assert_eq!(read(&peer.file("aside/events.ndjson")), FIRST);
    fs::remove_dir(peer.file("dir")).expect("removes");
    fs::rename(peer.file("aside"), peer.file("dir")).expect("moves");
    peer.put("key3", "3").assert_created();
}

#[test]
fn overwritten_file_refuses_puts_until_it_is_restored() {
    let other = FIRST.replace("key1", "key0");
    for text in [other.clone(), other.repeat(1000)] {
        let peer = start();
        fs::write(peer.file(NAME), &text).expect("overwrites");
        assert_refused(&peer, "it was overwritten");
        assert_restored(&peer, &text);
    }
}

/// Lines that an earlier server has written count too.
#[test]
fn file_overwritten_before_the_first_put_refuses_puts() {
    let (_, builder) = start().end(Signal::TERM);
    let peer = builder.sink(&format!("ndjson:{NAME}")).start();
    let other = FIRST.replace("key1", "key0");
    fs::write(peer.file(NAME), &other).expect("overwrites");
    assert_refused(&peer, "it was overwritten");
    assert_eq!(read(&peer.file(NAME)), other);
}

#[test]
fn removed_file_is_copied_while_no_put_comes_in() {
    let peer = start();
    let (path, copy) = (peer.file(NAME), peer.file(&format!("{NAME}.rescued")));
    fs::remove_file(&path).expect("removes");
    let line = peer.log_line("copied to");
    assert!(line.contains(&copy.display().to_string()), "{line}");
    assert_eq!(read(&copy), FIRST);
    // Nothing is written to the copy, or to a new file.
    assert_refused(&peer, "it was removed");
    assert_eq!(read(&copy), FIRST);
    let (status, builder) = peer.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    let peer = builder.sink(&format!("ndjson:{NAME}")).start();
    let line = peer.log_line("events.ndjson.rescued");
    assert!(line.contains("WARN"), "{line}");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&copy), FIRST);
    assert_eq!(files(&peer), ["events.ndjson", "events.ndjson.rescued"]);
}

#[test]
fn removed_file_is_copied_at_the_end() {
    let peer = start();
    fs::remove_file(peer.file(NAME)).expect("removes");
    // An existing copy stays unchanged.
    let copy = peer.file(&format!("{NAME}.rescued"));
    fs::write(&copy, "mine").expect("writes");
    let (status, builder) = peer.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    let peer = builder.sink(&format!("ndjson:{NAME}")).start();
    assert_eq!(read(&copy), "mine");
    assert_eq!(read(&peer.file(&format!("{NAME}.rescued-2"))), FIRST);
}

#[test]
fn removed_file_without_a_copy_fails_the_end() {
    let peer = start();
    peer.limit_file_size(Some(1));
    fs::remove_file(peer.file(NAME)).expect("removes");
    peer.log_line("can't be copied");
    end_with_loss(peer);
}

#[test]
fn replaced_file_is_copied() {
    let peer = start();
    fs::write(peer.file("other"), "other\n").expect("writes");
    fs::rename(peer.file("other"), peer.file(NAME)).expect("moves");
    peer.log_line("copied to");
    assert_eq!(read(&peer.file(NAME)), "other\n");
    assert_eq!(read(&peer.file(&format!("{NAME}.rescued"))), FIRST);
}

#[test]
fn removed_directory_is_created_again_for_the_copy() {
    let peer = start();
    fs::remove_dir_all(peer.file("dir")).expect("removes");
    peer.log_line("copied to");
    assert_eq!(files(&peer), ["events.ndjson.rescued"]);
    assert_eq!(read(&peer.file(&format!("{NAME}.rescued"))), FIRST);
}

/// The names of the files beside that of a server.
fn files(peer: &Peer) -> Vec<String> {
    let entries = fs::read_dir(peer.file("dir")).expect("lists");
    let names = entries.map(|entry| entry.expect("is read").file_name());
    let mut names: Vec<String> = names.map(|name| name.display().to_string()).collect();
    names.sort();
    names
}
