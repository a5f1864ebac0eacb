//! The stores of the npm package that keep events on a disk: what is acknowledged is synced.
//!
//! That nothing is lost is in `faults::javascript`.

use std::fs;
use std::process::{Command, Stdio};

use crate::javascript_server::JavaScriptServer;
use crate::request_table::Platform as _;
use crate::support::{Lines, Post, Runtime, can_make, wait_until};

/// The number of puts, one after the other, of which each has to be synced.
const PUTS: usize = 20;

#[test]
fn workerd_syncs_each_put() {
    syncs_each_put(Runtime::Workerd, JavaScriptServer::workerd);
}

/// Counts the calls that sync a file while puts are made, each after the response to the one before.
#[track_caller]
fn syncs_each_put(runtime: Runtime, start: fn() -> JavaScriptServer) {
    let strace = Command::new("strace").arg("--version").output();
    let strace = strace.err().map(|_| "there is no strace");
    if !can_make("counting syncs", runtime.missing().or(strace)) {
        return;
    }
    let server = start();
    let mut connection = server.connect();
    // What is done once is done now.
    connection.ask(&Post::put("first", "1")).assert_created();
    let log = tempfile::NamedTempFile::new().expect("is created");
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(log.path())
        .arg(format!("--attach={}", server.process.id()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    Lines::of(strace.stderr.take().expect("is piped")).with("attached");
    let syncs = || {
        let log = fs::read_to_string(log.path()).expect("reads");
        log.matches("sync(").count()
    };
    for number in 1..=PUTS {
        let post = Post::put(&format!("key{number}"), "1");
        connection.ask(&post).assert_created();
        // strace writes a call down after it was made.
        wait_until("the put is synced", || syncs() >= number);
    }
    drop(server);
    strace.wait().expect("ends with the server");
}
