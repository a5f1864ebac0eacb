//! The header of the PROXY protocol, version 1 or 2, at the start of a connection of a trusted proxy.
//!
//! Reads no byte behind it.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::server::connection_state::ConnectionState;

/// What a header of version 2 begins with.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of a header of version 2 without addresses and extensions.
const V2_MIN_BYTES: usize = 16;

/// The command LOCAL in the byte of version and command, which has it in its lower half.
const V2_COMMAND_LOCAL: u8 = 0;

/// What a header of version 1 begins with.
const V1_SIGNATURE: &[u8] = b"PROXY ";

/// The length of the shortest header of version 1, and so of any.
const V1_MIN_BYTES: usize = b"PROXY UNKNOWN\r\n".len();

/// The length of the longest header of version 1, by the specification.
const V1_MAX_BYTES: usize = 107;

/// The longest header of version 2 that is read. Its addresses have at most 216 bytes; extensions, which are ignored, are
/// certificates at most.
const V2_MAX_BYTES: usize = 16 * 1024;

const CONFIG: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: true,
    allow_v2: true,
};

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The connection ended before its first byte, as that of a health check does.
    #[error("it was closed before its first byte")]
    Closed,
    #[error("it was closed within the header, or failed: {0}")]
    Io(#[from] io::Error),
    #[error("it does not begin with a header of the PROXY protocol")]
    Missing,
    #[error("its header is malformed")]
    Malformed,
    #[error("its header has more than {V2_MAX_BYTES} bytes")]
    TooLong,
}

/// The client of a connection, by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxiedClient {
    /// The proxy itself, as for a health check.
    Proxy,
    /// A client with this address.
    Address(SocketAddr),
    /// A client whose address the proxy does not know, or that has none of TCP.
    Unknown,
}

/// Reads the header.
pub(crate) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    state: &ConnectionState,
) -> Result<ProxiedClient, HeaderError> {
    let mut header = vec![0; V1_MIN_BYTES];
    let first = stream.read(&mut header[..1]).await?;
    if first == 0 {
        return Err(HeaderError::Closed);
    }
    state.begin_head();
    stream.read_exact(&mut header[1..]).await?;
    if header.starts_with(V2_SIGNATURE) {
        read_v2(stream, &mut header).await?;
    } else if header.starts_with(V1_SIGNATURE) {
        read_v1(stream, &mut header).await?;
    } else {
        return Err(HeaderError::Missing);
    }
    parse(&header)
}

async fn read_v2(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    header.resize(V2_MIN_BYTES, 0);
    stream.read_exact(&mut header[V1_MIN_BYTES..]).await?;
    let length = u16::from_be_bytes([header[V2_MIN_BYTES - 2], header[V2_MIN_BYTES - 1]]);
    let length = V2_MIN_BYTES + usize::from(length);
    if length > V2_MAX_BYTES {
        return Err(HeaderError::TooLong);
    }
    header.resize(length, 0);
    stream.read_exact(&mut header[V2_MIN_BYTES..]).await?;
    Ok(())
}

/// Reads byte for byte up to the end of the line, since its length is not known.
async fn read_v1(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> Result<(), HeaderError> {
    while !header.ends_with(b"\n") {
        if header.len() == V1_MAX_BYTES {
            return Err(HeaderError::Malformed);
        }
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

/// The client in a whole header.
fn parse(header: &[u8]) -> Result<ProxiedClient, HeaderError> {
    match ProxyHeader::parse(header, CONFIG) {
        Ok((parsed, length)) if length == header.len() => {
            let proxied = parsed.proxied_address();
            let proxied = proxied.filter(|proxied| proxied.protocol == Protocol::Stream);
            let unknown = match is_local(header) {
                true => ProxiedClient::Proxy,
                false => ProxiedClient::Unknown,
            };
            Ok(proxied.map_or(unknown, |proxied| ProxiedClient::Address(proxied.source)))
        }
        _ => Err(HeaderError::Malformed),
    }
}

/// Whether the connection is one of the proxy itself. Version 1 cannot tell.
fn is_local(header: &[u8]) -> bool {
    let command = header.strip_prefix(V2_SIGNATURE).and_then(<[u8]>::first);
    command.is_some_and(|byte| byte & 0x0f == V2_COMMAND_LOCAL)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{
        HeaderError, ProxiedClient, V1_MAX_BYTES, V2_MAX_BYTES, V2_SIGNATURE, read_header,
    };
    use crate::server::connection_state::ConnectionState;

    /// The result, and the bytes that are left.
    fn read(bytes: &[u8]) -> (Result<String, HeaderError>, usize) {
        let (mut rest, state) = (bytes, ConnectionState::default());
        let header = read_header(&mut rest, &state).now_or_never();
        let header = header.expect("does not wait");
        let header = header.map(|client| match client {
            ProxiedClient::Proxy => "proxy".to_owned(),
            ProxiedClient::Unknown => "unknown".to_owned(),
            ProxiedClient::Address(address) => address.to_string(),
        });
        (header, rest.len())
    }

    /// A header of version 2 with this command, this family, and these bytes.
    fn v2(command: u8, family: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).expect("fits").to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, bytes].concat()
    }

    fn v2_ipv4() -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        v2(0x21, 0x11, &addresses)
    }

    #[test]
    fn header_is_read_and_nothing_behind_it() {
        let ipv6 = [
            &[0x20, 1, 0xd, 0xb8][..],
            &[0; 11],
            &[1],
            &[0; 16],
            &[0, 7, 0, 80],
        ]
        .concat();
        let with_extension = [
            &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80][..],
            &[4, 0, 1, 9],
        ]
        .concat();
        for (header, expected) in [
            (v2_ipv4(), "192.0.2.1:4660"),
            (v2(0x21, 0x11, &with_extension), "192.0.2.1:4660"),
            (v2(0x21, 0x21, &ipv6), "[2001:db8::1]:7"),
            (v2(0x20, 0, &[]), "proxy"),
            (v2(0x21, 0, &[]), "unknown"),
            (v2(0x21, 0x31, &[0; 216]), "unknown"),
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(),
                "192.0.2.1:4660",
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(),
                "[2001:db8::1]:7",
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), "unknown"),
            (
                b"PROXY UNKNOWN ffff:f::1 ::1 65535 80\r\n".to_vec(),
                "unknown",
            ),
        ] {
            let (address, rest) = read(&[&header[..], b"rest"].concat());
            let address = address.expect("is valid");
            assert_eq!(
                (&*address, rest),
                (expected, 4),
                "{}",
                header.escape_ascii()
            );
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let long = [b"PROXY UNKNOWN ", &[b'x'; V1_MAX_BYTES][..], b"\r\n"].concat();
        let too_long = v2(0x21, 0x11, &vec![0; V2_MAX_BYTES]);
        for bytes in [
            &b"POST /_put HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660\r\n",
            b"PROXY TCP4 192.0.2.256 10.0.0.1 4660 80\r\n",
            b"PROXY TCP6 192.0.2.1 10.0.0.1 4660 80\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4660 80\r\n",
            b"PROXY",
            &long,
            &too_long,
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2_ipv4()[..20],
        ] {
            let (refused, _) = read(bytes);
            refused.expect_err(&bytes.escape_ascii().to_string());
        }
        assert!(matches!(read(b"").0, Err(HeaderError::Closed)));
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = match random.u8(..3) {
                0 => v2(
                    random.u8(..),
                    random.u8(..),
                    &[7; 300][..random.usize(..300)],
                ),
                1 => b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\nrest".to_vec(),
                _ => b"PROXY TCP6 2001:db8::1 ::1 7 80\r\nrest".to_vec(),
            };
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = read(&bytes);
        }
    }
}
