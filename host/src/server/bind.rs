//! Resolves a host name and binds its addresses.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, lookup_host};

use crate::error::Error;

/// How many free ports are tried, if the port that is free on the first address is in use on another.
const FREE_PORT_TRIES: usize = 16;

/// A bound socket that does not listen yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) socket: TcpSocket,
    pub(super) address: SocketAddr,
}

/// Binds every address of `hostname`, or all IPv4 addresses.
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
