//! The proxies that are believed about the addresses of their clients.

use std::net::IpAddr;
use std::str::FromStr;

use hyper::HeaderMap;
use ipnet::{IpNet, Ipv4Net};

use crate::error::Error;
use crate::server::forwarded;

/// The text that stands for the clients of Unix sockets.
const UNIX: &str = "unix";

/// The most addresses of a field that are read. A chain of proxies has a few; a client may have made up the rest.
const MAX_FORWARDED_ADDRESSES: usize = 32;

/// The length of the prefix of the IPv6 addresses that stand for those of IPv4 (`::ffff:0:0/96`).
const MAPPED_PREFIX_BITS: u8 = 96;

/// The proxies in front of a server, and how they tell the addresses of their clients. These addresses are for logs,
/// authorizers and sinks; one that the PROXY protocol tells also for the limit on connections of one address. Other
/// clients are not believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    /// The proxies.
    pub proxies: Vec<TrustedProxy>,
    /// The field that each of them sets or appends to. The others are ignored, since clients can set them.
    pub field: ForwardedField,
    /// Whether their connections begin with a header of the PROXY protocol, version 1 or 2. Those that do not are closed.
    /// Connections of others have none.
    pub proxy_protocol: bool,
}

/// A proxy that is believed: an address, a network such as `10.0.0.0/8`, or `unix` for the clients of Unix sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxy(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Network(IpNet),
    Unix,
}

/// The field in which proxies tell the address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedField {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Ip(IpAddr),
    /// A Unix socket that the server has accepted.
    Unix,
    /// A connection that was accepted elsewhere.
    Unknown,
}

impl TrustedProxies {
    pub(crate) fn trusts(&self, origin: Origin) -> bool {
        self.proxies
            .iter()
            .any(|TrustedProxy(kind)| match (kind, origin) {
                (Kind::Network(network), Origin::Ip(address)) => {
                    network.contains(&address.to_canonical())
                }
                (Kind::Unix, Origin::Unix) => true,
                _ => false,
            })
    }

    /// The address of the client of a request, as the proxies tell it: the last one that is not theirs. `None` if the other
    /// end is no proxy, or does not tell.
    pub(crate) fn client_ip(&self, origin: Origin, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(origin) {
            return None;
        }
        match self.field {
            ForwardedField::XForwardedFor => {
                self.last_other(forwarded::of_x_forwarded_for(headers))
            }
            ForwardedField::Forwarded => self.last_other(forwarded::of_forwarded(headers)),
        }
    }

    /// The first address that is not one of a proxy. What is in front of it, or of an unknown one, is the client's word.
    fn last_other(&self, addresses: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut client = None;
        for address in addresses.take(MAX_FORWARDED_ADDRESSES) {
            let Some(address) = address else { break };
            client = Some(address);
            if !self.trusts(Origin::Ip(address)) {
                break;
            }
        }
        client
    }
}

impl FromStr for TrustedProxy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == UNIX {
            return Ok(Self(Kind::Unix));
        }
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse::<IpNet>());
        match network {
            Ok(network) => Ok(Self(Kind::Network(canonical(network.trunc())))),
            Err(_invalid) => Err(Error::TrustedProxy {
                value: text.to_owned(),
            }),
        }
    }
}

/// A network of IPv6 addresses that stand for those of IPv4, as a network of these, since addresses are compared so.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let address = mapped.addr().to_ipv4_mapped();
    let prefix = mapped.prefix_len().checked_sub(MAPPED_PREFIX_BITS);
    let network_of = |(address, prefix)| Ipv4Net::new(address, prefix).ok();
    let canonical = address.zip(prefix).and_then(network_of);
    canonical.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{FORWARDED, HeaderName, HeaderValue};

    use super::{ForwardedField, Origin, TrustedProxies};

    fn proxies(texts: &[&str], field: ForwardedField) -> TrustedProxies {
        let proxies = texts.iter().map(|text| text.parse().expect("is one"));
        TrustedProxies {
            proxies: proxies.collect(),
            field,
            proxy_protocol: false,
        }
    }

    fn ip(text: &str) -> Origin {
        Origin::Ip(text.parse().expect("is an address"))
    }

    #[test]
    fn networks_addresses_and_unix_sockets_are_trusted() {
        let trusted = proxies(
            &["10.1.2.3/8", "192.0.2.1", "2001:db8::/32"],
            ForwardedField::default(),
        );
        for inside in [
            "10.255.0.1",
            "192.0.2.1",
            "::ffff:10.0.0.1",
            "2001:db8:7::1",
        ] {
            assert!(trusted.trusts(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.2", "2001:db9::1", "::1"] {
            assert!(!trusted.trusts(ip(outside)), "{outside}");
        }
        assert!(!trusted.trusts(Origin::Unix) && !trusted.trusts(Origin::Unknown));
        let unix = proxies(&["unix"], ForwardedField::default());
        assert!(unix.trusts(Origin::Unix) && !unix.trusts(Origin::Unknown));
        assert!(!unix.trusts(ip("127.0.0.1")));
        let mapped = ["::ffff:10.1.0.0/104", "::ffff:192.0.2.1"];
        let mapped = proxies(&mapped, ForwardedField::default());
        for inside in ["10.2.0.1", "::ffff:10.0.0.1", "192.0.2.1"] {
            assert!(mapped.trusts(ip(inside)), "{inside}");
        }
        assert!(!mapped.trusts(ip("11.0.0.1")) && !mapped.trusts(ip("192.0.2.2")));
        for invalid in ["", "10.0.0.0/33", "localhost", "unix:", "10.0.0.0/8,", "*"] {
            invalid.parse::<super::TrustedProxy>().expect_err(invalid);
        }
    }

    #[test]
    fn client_is_the_last_address_that_is_not_a_proxy() {
        let trusted = proxies(&["10.0.0.0/8"], ForwardedField::XForwardedFor);
        let field = HeaderName::from_static("x-forwarded-for");
        let client = |origin: &str, value: &str| {
            let mut headers = HeaderMap::new();
            // A client may set the field that is not asked for.
            headers.insert(FORWARDED, HeaderValue::from_static("for=9.9.9.9"));
            headers.insert(&field, HeaderValue::from_str(value).expect("is one"));
            let client = trusted.client_ip(ip(origin), &headers);
            client.map(|address| address.to_string())
        };
        assert_eq!(client("192.0.2.9", "192.0.2.1"), None);
        for (value, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("9.9.9.9, 192.0.2.1", Some("192.0.2.1")),
            ("9.9.9.9, 192.0.2.1, 10.7.7.7", Some("192.0.2.1")),
            ("10.8.8.8, 10.7.7.7", Some("10.8.8.8")),
            ("9.9.9.9, unknown, 10.7.7.7", Some("10.7.7.7")),
            ("9.9.9.9, unknown", None),
            ("", None),
        ] {
            assert_eq!(client("10.0.0.1", value).as_deref(), expected, "{value}");
        }
    }
}
