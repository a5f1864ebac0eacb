//! A server on a Unix socket, and on no TCP port.
//!
//! `cargo run --example unix_socket -- peer.sock` prints each event and stops on Ctrl-C. To put one:
//! `curl --unix-socket peer.sock -d '{"key":"1","event":{}}' http://peer/_put`

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints its events and its errors"
)]

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alldata_peer_server_http::PeerServer;
use tokio::net::{UnixListener, UnixSocket};
use tokio::sync::Semaphore;

/// How many connections are served at a time: the server does not count those that it is given.
const MAX_CONNECTIONS: usize = 1000;

/// How many further connections the system holds.
const BACKLOG: u32 = 1024;

/// How long to wait after an error of `accept`, such as too many open files, which may last.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.ok_or("usage: unix_socket PATH")?;
    let server = PeerServer::builder()
        .on_put(|key, event| async move {
            println!("{key} {event}");
            Ok(())
        })
        .build()
        .await?;
    let server = Arc::new(server);
    let listener = listen(&path)?;
    println!("listening on {}", path.display());

    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let permit = Arc::clone(&permits).acquire_owned();
        let accepting = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            accepted = accepting => accepted,
            result = &mut interrupted => break result?,
        };
        match accepted {
            Ok((stream, _address)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    server.serve_connection(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // No further connections; those that are open get the responses to their requests.
    drop(listener);
    fs::remove_file(&path)?;
    server.close().await;
    Ok(())
}

/// Listens on a socket file that only this user may connect to.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // The file of a server that was killed stays, and `bind` fails if there is one. It is stale if
    // nothing listens on it.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let is_refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(is_refused) {
        fs::remove_file(path)?;
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Before `listen`, so that at no time another user can connect.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}
