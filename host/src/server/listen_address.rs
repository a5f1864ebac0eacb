//! The addresses of a server: those that it is asked to listen on, and those that it listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Error;
#[cfg(unix)]
use crate::server::unix_socket;

/// The prefix of the path of a Unix socket.
const UNIX: &str = "unix:";

/// The mode of a Unix socket unless it is given: only the user of the server can connect.
const DEFAULT_MODE: u32 = 0o600;

/// The bits that a mode may have.
const MODE_BITS: u32 = 0o777;

/// An address to listen on. As text it is `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `unix:PATH|MODE`.
///
/// ```
/// use alldata_peer_server_http::ListenAddress;
///
/// let address: ListenAddress = "unix:/run/peer.sock|0660".parse()?;
/// assert_eq!(
///     address,
///     ListenAddress::Unix {
///         path: "/run/peer.sock".into(),
///         mode: 0o660
///     }
/// );
/// # Ok::<(), alldata_peer_server_http::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port on all addresses of a host name, or on one address.
    Tcp {
        /// The host name or the IP address.
        host: String,
        /// The port. With 0 the system chooses a free one.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The file of the socket.
        path: PathBuf,
        /// Its mode. A client needs the permission to write.
        mode: u32,
    },
}

/// An address that a server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; of an abstract one, `@` and its name.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Checks the address without listening on it. Host names are not resolved.
    ///
    /// # Errors
    ///
    /// When the path of a Unix socket is too long for the system.
    pub fn check(&self) -> Result<(), Error> {
        #[cfg(unix)]
        if let Self::Unix { path, .. } = self {
            return unix_socket::check_path(path).map_err(|source| Error::ListenUnix {
                path: path.clone(),
                source,
            });
        }
        Ok(())
    }
}

impl FromStr for ListenAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let address = match text.strip_prefix(UNIX) {
            Some(rest) => unix(rest),
            None => tcp(text),
        };
        address.map_err(|reason| Error::ListenAddress {
            address: text.to_owned(),
            reason,
        })
    }
}

fn tcp(text: &str) -> Result<ListenAddress, &'static str> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or("it is HOST:PORT, [IPV6]:PORT or unix:PATH")?;
    if host.is_empty() {
        return Err("the host name is missing; 0.0.0.0 is any IPv4 address, [::] any address");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address stands in brackets, as in [::1]:8080");
    }
    let port = port.parse().map_err(|_| "the port is not in 0..=65535")?;
    Ok(ListenAddress::Tcp {
        host: host.to_owned(),
        port,
    })
}

fn unix(text: &str) -> Result<ListenAddress, &'static str> {
    let (path, mode) = match text.rsplit_once('|') {
        None => (text, DEFAULT_MODE),
        Some((path, mode)) => {
            let mode = u32::from_str_radix(mode, 8).ok();
            let mode = mode.filter(|mode| mode & !MODE_BITS == 0);
            (path, mode.ok_or("the mode is not octal, such as 0660")?)
        }
    };
    if cfg!(not(unix)) {
        return Err("this system has no Unix sockets");
    }
    if path.is_empty() {
        return Err("the path is missing");
    }
    Ok(ListenAddress::Unix {
        path: path.into(),
        mode,
    })
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ListenAddress;

    #[test]
    fn addresses_are_parsed() {
        let tcp = |host: &str, port| ListenAddress::Tcp {
            host: host.to_owned(),
            port,
        };
        let unix = |path: &str, mode| ListenAddress::Unix {
            path: path.into(),
            mode,
        };
        for (text, address) in [
            ("127.0.0.1:0", tcp("127.0.0.1", 0)),
            ("localhost:8080", tcp("localhost", 8080)),
            ("[::1]:8080", tcp("[::1]", 8080)),
            ("unix:a:1", unix("a:1", 0o600)),
            ("unix:/run/a|0660", unix("/run/a", 0o660)),
        ] {
            assert_eq!(text.parse::<ListenAddress>().expect(text), address);
        }
        for text in [
            "",
            "8080",
            ":8080",
            "::1:8080",
            "a:65536",
            "a:-1",
            "a:",
            "unix:",
            "unix:|0600",
            "unix:a|",
            "unix:a|999",
            "unix:a|1777",
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
