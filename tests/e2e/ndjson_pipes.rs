//! `ndjson:` with a pipe, with and without a reader.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use crate::support::Peer;

fn start() -> Peer {
    let directory = tempfile::tempdir().expect("makes a directory");
    make_pipe(&directory.path().join("pipe"));
    Peer::builder()
        .directory(directory)
        .sink("ndjson:pipe")
        .start()
}

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("runs").success());
}

fn reader(peer: &Peer) -> BufReader<File> {
    BufReader::new(File::open(peer.file("pipe")).expect("opens"))
}

fn line(reader: &mut BufReader<File>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("reads");
    line
}

#[test]
fn pipe_without_a_reader_refuses_puts_until_one_comes() {
    let peer = start();
    for turn in 0..2 {
        peer.put("lost", "1").assert_problem(500);
        let mut reader = reader(&peer);
        peer.put(&format!("key{turn}"), "1").assert_created();
        let expected = format!("{{\"key\":\"key{turn}\",\"event\":1}}\n");
        assert_eq!(line(&mut reader), expected);
    }
    drop(reader(&peer));
    peer.put("lost", "1").assert_problem(500);
    let line = peer.log_line("put failed");
    assert!(line.contains("nobody reads it"), "{line}");
}

/// Anything but a regular file can't be moved away.
#[test]
fn pipe_takes_lines_whatever_becomes_of_its_path() {
    let peer = start();
    let mut reader = reader(&peer);
    peer.put("key1", "1").assert_created();
    fs::remove_file(peer.file("pipe")).expect("removes");
    peer.put("key2", "2").assert_created();
    assert_eq!(line(&mut reader), "{\"key\":\"key1\",\"event\":1}\n");
    assert_eq!(line(&mut reader), "{\"key\":\"key2\",\"event\":2}\n");
}
