//! Causes that prevent the start on a store, and the files that a failed start leaves.
//!
//! Damaged stores are in `store_damage`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Output, Peer, run, run_by, serve};

#[test]
fn url_without_a_path_is_wrong_usage() {
    let directory = directory();
    for (url, reason) in [
        ("sqlite://x.db", "sqlite:x.db"),
        ("sqlite:///tmp/x.db", "sqlite:/tmp/x.db"),
        ("sqlite:x.db?mode=ro", "parameters"),
        ("sqlite:", "path"),
        ("ndjson://x.ndjson", "ndjson:x.ndjson"),
        ("ndjson:x.ndjson?a", "parameters"),
    ] {
        let sentence = in_directory(&directory, &serve(url))
            .assert_failed(2)
            .to_owned();
        assert!(sentence.contains(reason), "{sentence}");
        if url.starts_with("sqlite:") {
            for arguments in [
                &["get", "a", "--store", url][..],
                &["export", "--store", url],
                &["verify", "--store", url],
                &["import", "/dev/null", "--store", url],
            ] {
                let sentence = in_directory(&directory, arguments)
                    .assert_failed(2)
                    .to_owned();
                assert!(sentence.contains(reason), "{sentence}");
            }
        }
    }
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn cause_of_an_unopenable_store_is_named() {
    let directory = directory();
    let place = |name: &str| directory.path().join(name);
    fs::create_dir(place("folder")).expect("makes a directory");
    fs::write(place("file"), "").expect("writes");
    mkfifo(&place("pipe"));
    let before = names(directory.path());
    for (path, cause) in [
        ("missing/x.db", "missing does not exist"),
        ("missing/../x.db", "missing/.. does not exist"),
        ("file/x.db", "file is not a directory"),
        ("folder", "is a directory"),
        ("pipe", "is not a regular file"),
    ] {
        let url = format!("sqlite:{}", place(path).display());
        for arguments in [&serve(&url)[..], &["import", "/dev/null", "--store", &url]] {
            let sentence = run(arguments).assert_failed(1).to_owned();
            assert!(sentence.contains(cause), "{sentence}");
        }
    }
    assert_eq!(names(directory.path()), before);
}

#[test]
fn missing_permission_is_named() {
    let directory = directory();
    let place = directory.path().join("closed");
    fs::create_dir(&place).expect("makes a directory");
    let store = format!("sqlite:{}", place.join("x.db").display());
    set_mode(&place, 0o555);
    let output = run_by(WITHOUT_CAPABILITIES, &serve(&store));
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("Permission denied"), "{sentence}");
    set_mode(&place, 0o755);
    fs::write(place.join("x.db"), "").expect("writes");
    set_mode(&place.join("x.db"), 0o000);
    for arguments in [&serve(&store)[..], &["get", "a", "--store", &store]] {
        let sentence = run_by(WITHOUT_CAPABILITIES, arguments)
            .assert_failed(1)
            .to_owned();
        assert!(sentence.contains("Permission denied"), "{sentence}");
    }
}

#[test]
fn reading_a_special_file_ends_at_once() {
    let directory = directory();
    let pipe = directory.path().join("pipe");
    mkfifo(&pipe);
    for (path, cause) in [
        (pipe.as_path(), "is not a regular file"),
        (directory.path(), "is a directory"),
        (Path::new("/dev/null"), "is not a regular file"),
    ] {
        let store = format!("sqlite:{}", path.display());
        for command in ["verify", "export"] {
            let sentence = run(&[command, "--store", &store])
                .assert_failed(1)
                .to_owned();
            assert!(sentence.contains(cause), "{sentence}");
        }
        let sentence = run(&["get", "a", "--store", &store])
            .assert_failed(1)
            .to_owned();
        assert!(sentence.contains(cause), "{sentence}");
    }
}

#[test]
fn busy_port_leaves_no_new_store() {
    let directory = directory();
    let busy = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = busy.local_addr().expect("is bound").port().to_string();
    let store = format!("sqlite:{}", directory.path().join("x.db").display());
    let output = run(&[
        "serve",
        "--hostname=127.0.0.1",
        "--port",
        &port,
        "--sink",
        &store,
    ]);
    assert!(output.assert_failed(1).contains(&port), "{output:?}");
    let output = run(&["serve", "--hostname=no-such-host.invalid", "--sink", &store]);
    output.assert_failed(1);
    let component = directory.path().join("component.wasm");
    fs::write(&component, "no component").expect("writes");
    let component = component.display().to_string();
    let mut arguments = serve(&store).to_vec();
    arguments.extend(["--component", &component]);
    run(&arguments).assert_failed(1);
    assert_eq!(names(directory.path()), ["component.wasm"]);
}

#[test]
fn verify_store_finds_damage_before_it_listens() {
    let peer = Peer::start();
    for number in 0..400 {
        let event = format!("\"{}\"", "x".repeat(200));
        peer.put(&format!("key{number}"), &event).assert_created();
    }
    let (path, store) = (peer.file("alldata.db"), peer.store());
    let (_, next) = peer.end(Signal::TERM);
    let next = next.arguments(&["--verify-store"]);
    let (_, _next) = next.start().end(Signal::TERM);
    let mut bytes = fs::read(&path).expect("reads");
    let pages = bytes.len() / 4096;
    for page in 4..pages {
        bytes[page * 4096..page * 4096 + 100].fill(0xff);
    }
    fs::write(&path, bytes).expect("writes");
    let mut arguments = serve(&store).to_vec();
    arguments.push("--verify-store");
    let output = run(&arguments);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("damaged"), "{sentence}");
    assert!(sentence.contains("alldata.db"), "{sentence}");
}

/// Root may write everywhere, unless it has no capabilities.
const WITHOUT_CAPABILITIES: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("lists");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("lists")
                .file_name()
                .into_string()
                .expect("is text")
        })
        .collect();
    names.sort();
    names
}

/// Runs the program in this directory.
fn in_directory(directory: &TempDir, arguments: &[&str]) -> Output {
    let path = directory.path().display().to_string();
    run_by(&["env", "-C", &path], arguments)
}

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("runs");
    assert!(made.success());
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("sets");
}

#[test]
fn failed_start_leaves_no_new_store_and_names_the_limit() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let store = format!("sqlite:{}", directory.path().join("new.db").display());
    let slash = format!("{store}/");
    for arguments in [
        &serve(&slash)[..],
        &["import", "/dev/null", "--store", &slash],
    ] {
        let output = run(arguments);
        assert!(output.assert_failed(1).contains("slash"), "{output:?}");
    }
    let import = ["import", "/dev/null", "--store", &store];
    let output = run_by(&["prlimit", "--fsize=100"], &import);
    assert!(output.assert_failed(1).contains("ulimit -f"), "{output:?}");
    let left = || fs::read_dir(directory.path()).expect("lists").count();
    assert_eq!(left(), 0);
    let (mut failed, mut failed_on_wal) = (0, 0);
    for files in 4..24 {
        let output = run_by(&["prlimit", &format!("--nofile={files}")], &import);
        if output.code == Some(0) {
            break;
        }
        failed += 1;
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        let sentence = output.stderr.lines().last().unwrap_or_default();
        assert!(sentence.contains("open files"), "{files}: {sentence}");
        let database = directory.path().join("new.db");
        if sentence.contains("new.db-wal") {
            // Killed while the store was created, after its table was.
            assert_eq!(left(), 0, "{files}: {sentence}");
            failed_on_wal += 1;
        }
        // If it was complete before, the next start uses it.
        let length = fs::metadata(&database).map(|found| found.len());
        assert!(
            length.is_err() || length.is_ok_and(|length| length > 0),
            "{files}: {sentence}"
        );
        run(&import).assert_ok();
        fs::remove_file(database).expect("removes");
    }
    assert!(failed > 0 && failed_on_wal > 0, "no limit was met");
}
