//! Socket activation: listeners that the service manager has opened and passes to `serve` (`LISTEN_FDS`).

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use alldata_peer_server_http::PeerListener;
use anyhow::{Context as _, Result, ensure};
use listenfd::ListenFd;

/// The number of the first descriptor that a service manager passes.
const FIRST_DESCRIPTOR: usize = 3;

/// Takes the listeners that were passed to this process; none without a service manager that does so. Must be
/// called before any thread is started, since it removes the variables.
pub(crate) fn listeners() -> Result<Vec<PeerListener>> {
    let mut passed = ListenFd::from_env();
    let number = passed.len();
    (0..number).map(|index| take(&mut passed, index)).collect()
}

fn take(passed: &mut ListenFd, index: usize) -> Result<PeerListener> {
    let descriptor = FIRST_DESCRIPTOR + index;
    let cannot_use = || format!("cannot use the descriptor {descriptor} of LISTEN_FDS");
    // An error leaves it in its place.
    if let Ok(Some(listener)) = passed.take_unix_listener(index) {
        let stream = UnixStream::from(OwnedFd::from(listener));
        ensure!(stream.peer_addr().is_err(), is_connection(descriptor));
        let listener = UnixListener::from(OwnedFd::from(stream));
        return Ok(PeerListener::from(listener).leave_queue());
    }
    let listener = passed.take_tcp_listener(index);
    let listener = listener.with_context(cannot_use)?;
    let stream = TcpStream::from(OwnedFd::from(listener.with_context(cannot_use)?));
    ensure!(stream.peer_addr().is_err(), is_connection(descriptor));
    let listener = TcpListener::from(OwnedFd::from(stream));
    Ok(PeerListener::from(listener).leave_queue())
}

/// A socket unit with `Accept=yes` starts a program for each connection.
fn is_connection(descriptor: usize) -> String {
    format!(
        "the descriptor {descriptor} of LISTEN_FDS is a connection, not a listener: set Accept=no in the socket unit"
    )
}
