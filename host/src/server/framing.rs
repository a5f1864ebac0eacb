//! Validates the parts of a header section that hyper leaves unchecked, and that other recipients may read
//! differently: host, target and framing.

use std::net::Ipv6Addr;

use alldata_peer_protocol::outcome::{InvalidRequest, Outcome};
use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri, Version};

use crate::server::present_fields::PresentFields;

/// Refuses a request that hyper accepts, but that another server may read as a different one: for another
/// host or target (RFC 9112, section 3.2), or with another body (section 6.1).
///
/// # Errors
///
/// The outcome of the request.
pub(crate) fn validate(head: &Parts, fields: PresentFields) -> Result<(), Outcome> {
    // A pass over a few fields takes less time than a lookup.
    let hosts = head.headers.iter().filter(|(name, _)| **name == HOST);
    let mut hosts = hosts.map(|(_, value)| value);
    let is_host = match hosts.next() {
        Some(host) => is_host(host.as_bytes()) && hosts.next().is_none(),
        None => head.version == Version::HTTP_10,
    };
    if !is_host {
        return Err(Outcome::InvalidHost);
    }
    if !is_target(&head.method, &head.uri) {
        return Err(Outcome::InvalidRequest(InvalidRequest::Target));
    }
    validate_codings(&head.headers, fields)
}

/// Refuses a body with another transfer coding than `chunked`, which hyper would not decode.
///
/// # Errors
///
/// The outcome of the request.
pub(crate) fn validate_codings(headers: &HeaderMap, fields: PresentFields) -> Result<(), Outcome> {
    if !fields.transfer_encoding {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let is_known = codings.next().is_none_or(is_chunked) && codings.next().is_none();
    if is_known {
        Ok(())
    } else {
        Err(Outcome::UnsupportedTransferCoding)
    }
}

/// Whether this is a value of `Host`: `uri-host [":" port]`, or empty, as a client sends it for a target
/// without an authority (RFC 9110, section 7.2). The server accepts an empty one (RFC 9112, section 3.3),
/// since it has only one host.
fn is_host(value: &[u8]) -> bool {
    value.is_empty() || is_authority(value)
}

/// Whether a target is in a form that its method may have (RFC 9112, sections 3.2.1 to 3.2.4).
fn is_target(method: &Method, target: &Uri) -> bool {
    match (target.scheme(), target.authority()) {
        (Some(scheme), Some(authority)) => {
            // `http` has the rest of RFC 3986, section 3.1, already.
            let is_scheme = scheme
                .as_str()
                .starts_with(|char: char| char.is_ascii_alphabetic());
            let is_authority = is_authority(authority.as_str().as_bytes());
            *method != Method::CONNECT && is_scheme && is_authority
        }
        (None, Some(authority)) => {
            *method == Method::CONNECT && is_authority(authority.as_str().as_bytes())
        }
        (_, None) => match target.path() {
            "*" => *method == Method::OPTIONS,
            path => *method != Method::CONNECT && path.starts_with('/'),
        },
    }
}

/// Whether this is `host [":" port]` by RFC 3986, section 3.2, without user information (RFC 9110,
/// section 4.2.4), and with a host (section 4.2.1).
fn is_authority(value: &[u8]) -> bool {
    let (host, rest) = match value.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else {
                return false;
            };
            (is_ip_literal(&literal[..end]), &literal[end + 1..])
        }
        None => {
            let end = value.iter().position(|byte| *byte == b':');
            let (name, rest) = value.split_at(end.unwrap_or(value.len()));
            (!name.is_empty() && is_name(name), rest)
        }
    };
    let is_port = match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host && is_port
}

/// Whether this is an IP literal without its brackets: an IPv6 address, or a future version.
fn is_ip_literal(literal: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(literal) else {
        return false;
    };
    let Some(future) = text.strip_prefix(['v', 'V']) else {
        return text.parse::<Ipv6Addr>().is_ok();
    };
    let Some((version, address)) = future.split_once('.') else {
        return false;
    };
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = |byte| is_name_byte(byte) || byte == b':';
    is_version && !address.is_empty() && address.bytes().all(is_address)
}

/// Whether this is a `reg-name`; an IPv4 address is one.
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let is_known = match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(u8::is_ascii_hexdigit);
                digit() && digit()
            }
            byte => is_name_byte(*byte),
        };
        if !is_known {
            return false;
        }
    }
    true
}

/// `unreserved` and `sub-delims`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_those_of_rfc_3986() {
        for host in [
            "",
            "peer",
            "peer:",
            "peer:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "[::ffff:1.2.3.4]:",
            "[v1.a:b]",
            "a_b.example",
            "PEER.example.",
            "xn--nme-ela",
            "n%C3%A4me",
            "a,b;c=d!$&'()*+~",
            "1",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in [
            "user@x",
            "user:pw@x",
            "@",
            "a b",
            "a\tb",
            "h/path",
            "/",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[12345::]",
            "[v.a]",
            "[v1.]",
            "[vx.a]",
            "]",
            "a]",
            "a[b",
            ":80",
            ":",
            "peer:80a",
            "peer:-1",
            "peer:+1",
            "peer:80:80",
            "peer: 80",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "<a>",
            "a|b",
            "a^b",
            "a`b",
            "{a}",
            "%",
            "a%2",
            "a%zz",
            "http://a",
            "n\u{e4}me",
            "a\u{7f}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
        assert!(!is_host(b"\xff") && !is_host(b"[\xff]"));
    }
}
