//! Where the program keeps compiled components, and that it serves whatever is there.
//!
//! Never measures what keeping them saves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Output, Peer, PeerBuilder, handler_only_file, run};

/// A server on a free port, which is to fail before it has one.
const SERVE: [&str; 5] = ["serve", "--hostname", "127.0.0.1", "--port", "0"];

#[test]
fn what_was_compiled_is_kept_and_used_by_the_next_start() {
    let directory = directory();
    // It is made, also with what is above it, and its name is no matter.
    let kept = directory.path().join("not yet/k\u{e9}pt = 1");
    serve_and_put(keeping_in(&kept));
    let files = compiled(&kept);
    assert_eq!(files.len(), 1, "{files:?}");
    serve_and_put(keeping_in(&kept));
    assert!(compiled(&kept) == files, "it was compiled again");
    let other = handler_only_file().to_str().expect("is text");
    serve_and_put(keeping_in(&kept).arguments(&["--component", other]));
    assert_eq!(compiled(&kept).len(), 2);
}

#[test]
fn a_directory_may_be_named_from_where_the_program_runs() {
    let builder = Peer::builder().arguments(&["--compile-cache", "kept"]);
    let peer = builder.sink("memory:").start();
    peer.put("key1", "1").assert_created();
    assert_eq!(compiled(&peer.file("kept")).len(), 1);
}

#[test]
fn a_damaged_file_does_no_harm() {
    let directory = directory();
    serve_and_put(keeping_in(directory.path()));
    let (path, whole) = only(directory.path());
    let half = &whole[..whole.len() / 2];
    let damages = [b"".as_slice(), b"nonsense", half, &vec![0; whole.len()]];
    for damage in damages {
        fs::write(&path, damage).expect("writes");
        serve_and_put(keeping_in(directory.path()));
        let (again, bytes) = only(directory.path());
        assert!(
            again == path && bytes.len() > whole.len() / 2,
            "it is not replaced"
        );
    }
    // Something is in the place of the file, and stays there.
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes a directory");
    serve_and_put(keeping_in(directory.path()));
}

#[test]
fn a_directory_that_can_not_be_made_is_an_error_that_names_it() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writes");
    for path in [file.join("below"), file, PathBuf::from("/dev/null/kept")] {
        let path = path.to_str().expect("is text");
        let with = ["--sink", "memory:"];
        let flag = run(&[&SERVE[..], &with, &["--compile-cache", path]].concat());
        let variables = [("ALLDATA_PEER_COMPILE_CACHE", path)];
        let variable = Output::with_environment(&[&SERVE[..], &with].concat(), &variables);
        for output in [flag, variable] {
            let sentence = output.assert_failed(1);
            assert!(sentence.contains(path), "{sentence}");
        }
    }
}

#[test]
fn without_another_word_it_is_the_users_directory_for_caches() {
    let directory = directory();
    serve_and_put(of_user(directory.path()).own_compile_cache());
    assert_eq!(compiled(directory.path()).len(), 1);
    let below = fs::read_dir(directory.path()).expect("lists");
    let names: Vec<_> = below
        .map(|entry| entry.expect("lists").file_name())
        .collect();
    assert_eq!(names, ["alldata-peer"]);
}

#[test]
fn nothing_is_kept_where_that_is_what_is_asked_for() {
    let directory = directory();
    let by_flag = of_user(directory.path()).arguments(&["--compile-cache", ""]);
    serve_and_put(by_flag);
    let by_variable = of_user(directory.path()).own_env("ALLDATA_PEER_COMPILE_CACHE", "");
    serve_and_put(by_variable);
    let mut entries = fs::read_dir(directory.path()).expect("lists");
    assert!(entries.next().is_none(), "something is kept");
}

#[test]
fn a_user_without_a_directory_is_served_all_the_same() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writes");
    let below = file.join("below");
    for home in [file.as_path(), &below, Path::new("relative")] {
        let builder = of_user(home).own_compile_cache();
        let home = home.to_str().expect("is text");
        serve_and_put(builder.own_env("HOME", home));
    }
}

#[test]
fn many_starts_at_once_share_a_directory() {
    let directory = directory();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| serve_and_put(keeping_in(directory.path())));
        }
    });
    assert_eq!(compiled(directory.path()).len(), 1);
}

fn keeping_in(directory: &Path) -> PeerBuilder {
    let directory = directory.to_str().expect("is text");
    Peer::builder().arguments(&["--compile-cache", directory])
}

/// A server of somebody who has this directory for caches.
fn of_user(caches: &Path) -> PeerBuilder {
    Peer::builder().own_env("XDG_CACHE_HOME", caches.to_str().expect("is text"))
}

fn serve_and_put(builder: PeerBuilder) {
    let peer = builder.sink("memory:").start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
}

/// The compiled components that are kept below a directory, each by its path and the number of its
/// file, which is another one once it is written again.
fn compiled(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let (mut directories, mut files) = (vec![directory.to_owned()], BTreeMap::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("lists") {
            let path = entry.expect("lists").path();
            if path.is_dir() {
                directories.push(path);
            // Beside them are notes on how often they were used.
            } else if path.extension().is_none() {
                let number = fs::metadata(&path).expect("is there").ino();
                files.insert(path, number);
            }
        }
    }
    files
}

/// The path and the bytes of the only one that is kept.
fn only(directory: &Path) -> (PathBuf, Vec<u8>) {
    let files = compiled(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    let path = files.into_keys().next().expect("is there");
    let bytes = fs::read(&path).expect("reads");
    (path, bytes)
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}
