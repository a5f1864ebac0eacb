//! Connections that can't be accepted: the server logs the system's error and tries again.
//!
//! strace injects the errors of `accept`. Resources that are really used up are in `faults`.

use rustix::process::Signal;

use crate::support::{Peer, can_make, no_strace};

/// Errors of `accept`. On Linux they include pending network errors of the new connection.
const ERRORS: [&str; 6] = [
    "ECONNABORTED",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "EPROTO",
    "ENETDOWN",
];

#[test]
fn failed_accept_is_retried() {
    if !can_make("accepting", no_strace()) {
        return;
    }
    for error in ERRORS {
        let inject = format!("inject=accept4:error={error}:when=1..3");
        // strace runs as a grandchild, so that the program stays a child of the test.
        let launcher = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
        let launcher = [&launcher[..], &["-e", "trace=accept4", "-e", &inject]].concat();
        let mut peer = Peer::builder().launched_by(&launcher).start();
        for _ in 0..3 {
            peer.put("key1", "1").assert_created();
        }
        peer.signal(Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0), "{error}");
        let log = peer.rest_of_stderr();
        // Not an error: the client has already gone.
        let is_told = log.iter().any(|line| line.contains("cannot accept"));
        assert_eq!(is_told, error != "ECONNABORTED", "{error}: {log:#?}");
    }
}
