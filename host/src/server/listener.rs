//! From a host name to listening sockets, and from those to connections.
//!
//! Never gives up accepting: what fails is logged, waited out and tried again.

use std::io::{self, ErrorKind};
use std::net::{self, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::error::Error;
use crate::util::log_limiter::LogLimiter;

/// How many connections the system holds until they are accepted: a burst of as many clients as
/// are served at a time.
const BACKLOG: u32 = 1024;

/// How long to wait after an error of `accept`, so that one which lasts, such as too many open
/// files, does not keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often another free port is taken because the one that is free on the first address is
/// busy on another.
const FREE_PORT_TRIES: usize = 16;

/// A socket that listens, with the address that it was really given.
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
    failing: LogLimiter,
}

/// A socket that has its address, and does not listen yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: TcpSocket,
    address: SocketAddr,
}

/// Takes every address of `hostname`, or any IPv4 address, which nobody else can listen on then.
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

/// Listens on addresses that were taken.
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

/// Takes all of `addresses`, where the first decides the port of the others. An address that this
/// machine does not have is passed over as long as there is another.
fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<Bound>, Error> {
    let mut listeners: Vec<Bound> = Vec::new();
    let mut passed_over = None;
    for address in addresses {
        let mut address = *address;
        if let Some(first) = listeners.first() {
            address.set_port(first.address.port());
        }
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(source) if is_absent(&source) => {
                tracing::warn!(%address, error = %source, "not listening on an address");
                passed_over = Some(Error::Listen { address, source });
            }
            Err(source) => return Err(Error::Listen { address, source }),
        }
    }
    match passed_over {
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
                    tracing::debug!(%error, "a client was gone before it was accepted");
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

    /// Stops listening, and returns the connections that the system holds: their clients take them for
    /// accepted, and may have sent a request.
    pub(crate) fn close(self) -> Vec<(TcpStream, SocketAddr)> {
        // The runtime may not know of them yet, but the system does.
        let listener = match self.socket.into_std() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the last connections");
                return Vec::new();
            }
        };
        let mut held = Vec::new();
        while held.len() < BACKLOG as usize {
            match listener.accept().and_then(to_tokio) {
                Ok((stream, peer)) => held.push((without_delay(stream), peer)),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept the last connections");
                    break;
                }
            }
        }
        held
    }
}

fn to_tokio((stream, peer): (net::TcpStream, SocketAddr)) -> io::Result<(TcpStream, SocketAddr)> {
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Answers are small and complete: waiting to fill a packet only delays them.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    stream
}
