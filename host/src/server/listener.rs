//! Resolves a host name, listens on its addresses, and accepts connections.
//!
//! An error of `accept` is logged and retried after a pause.

use std::io::{self, ErrorKind};
use std::net::{self, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::error::Error;
use crate::util::log_limiter::LogLimiter;

/// How many connections the system queues until they are accepted: enough for a burst of new clients.
const BACKLOG: u32 = 1024;

/// The pause after an error of `accept`, so that a persistent one, such as too many open files, does not
/// keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many free ports are tried, if the port that is free on the first address is in use on another.
const FREE_PORT_TRIES: usize = 16;

/// A listening socket, with its actual address.
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
    failing: LogLimiter,
}

/// A bound socket that does not listen yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
}

/// Binds every address of `hostname`, or all IPv4 addresses, so that no other process can listen on them.
pub(crate) async fn bind(hostname: Option<&str>, port: u16) -> Result<Vec<Bound>, Error> {
    let addresses = resolve(hostname, port).await?;
    let mut tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_all(&addresses) {
            Err(Error::Listen { source, .. })
                if tries > 0 && source.kind() == ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

/// Listens on bound addresses.
pub(crate) fn listen(bound: Vec<Bound>) -> Result<Vec<Listener>, Error> {
    let listen = |Bound { socket, address }| {
        let socket = socket.listen(BACKLOG);
        let socket = socket.map_err(|source| Error::Listen { address, source })?;
        Ok(Listener {
            socket,
            address,
            failing: LogLimiter::default(),
        })
    };
    bound.into_iter().map(listen).collect()
}

async fn resolve(hostname: Option<&str>, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let Some(hostname) = hostname else {
        return Ok(vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]);
    };
    let fail = |source| Error::Resolve {
        hostname: hostname.to_owned(),
        source,
    };
    // An IPv6 address may stand in brackets, as in a URL.
    let name = hostname
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(hostname);
    let mut addresses = Vec::new();
    for address in lookup_host((name, port)).await.map_err(fail)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(fail(io::Error::from(ErrorKind::NotFound)));
    }
    Ok(addresses)
}

/// Binds all of `addresses`, with the port of the first. An address that this machine does not have is
/// skipped, unless it is the only one.
fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<Bound>, Error> {
    let mut listeners: Vec<Bound> = Vec::new();
    let mut skipped = None;
    for address in addresses {
        let mut address = *address;
        if let Some(first) = listeners.first() {
            address.set_port(first.address.port());
        }
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(source) if is_absent(&source) => {
                tracing::warn!(%address, error = %source, "not listening on an address");
                skipped = Some(Error::Listen { address, source });
            }
            Err(source) => return Err(Error::Listen { address, source }),
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<Bound> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again must not wait until its old connections have timed out.
    // On Windows the option would let two servers share the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

/// Whether the machine does not have the address or its family.
fn is_absent(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT` on Linux: a kernel without IPv6.
    const FAMILY_NOT_SUPPORTED: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(FAMILY_NOT_SUPPORTED)
}

impl Listener {
    /// The next connection, and the address of its client.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let mut failures: u64 = 0;
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    if failures > 0 {
                        tracing::info!(failures, "accepting connections again");
                    }
                    return (without_delay(stream), peer);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                    tracing::debug!(%error, "a client closed its connection before it was accepted");
                }
                Err(error) => {
                    failures += 1;
                    if let Some(suppressed) = self.failing.check(&error.to_string()) {
                        tracing::warn!(%error, suppressed, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Stops listening, and returns the connections in the queue of the system: to their clients they are
    /// established, and they may have sent a request.
    pub(crate) fn close(self) -> Vec<(TcpStream, SocketAddr)> {
        // The runtime may not have been notified of them yet.
        let listener = match self.socket.into_std() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the last connections");
                return Vec::new();
            }
        };
        let mut queued = Vec::new();
        while queued.len() < BACKLOG as usize {
            match listener.accept().and_then(to_tokio) {
                Ok((stream, peer)) => queued.push((without_delay(stream), peer)),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept the last connections");
                    break;
                }
            }
        }
        queued
    }
}

fn to_tokio((stream, peer): (net::TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Responses are small and complete: waiting to fill a packet only delays them.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    stream
}
