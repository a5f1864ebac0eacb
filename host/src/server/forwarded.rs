//! The addresses in the fields `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! A field is read from its end, where the proxies append, and only as far as its addresses are asked for: what is in
//! front may be the client's, of any length and form.

use std::net::{IpAddr, SocketAddr};
use std::str;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most bytes of an element. The longest address with a port has 47; a proxy may add names of itself and of the host
/// to an element of `Forwarded`.
const MAX_ELEMENT_BYTES: usize = 1024;

/// The addresses of `X-Forwarded-For`, from the last one on, each of the party that the next one saw. `None` in the place
/// of one that is unknown or malformed.
pub(super) fn of_x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    values.rev().flat_map(|value| {
        let elements = value.as_bytes().rsplit(|byte| *byte == b',');
        elements.map(address)
    })
}

/// The same of the parameters `for` of `Forwarded`.
pub(super) fn of_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(FORWARDED).iter();
    values.rev().flat_map(|value| {
        let elements = PartsFromEnd::new(value.as_bytes(), b',');
        elements.map(|element| forwarded_for(element?))
    })
}

/// The address of the parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in PartsFromEnd::new(element, b';') {
        let pair = pair?.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..at], &pair[at + 1..]);
        let value = match value.strip_prefix(b"\"") {
            // Addresses need no escapes.
            Some(rest) => rest.strip_suffix(b"\""),
            None => Some(value),
        };
        let value = value.filter(|value| !value.iter().any(|byte| matches!(byte, b'"' | b'\\')));
        if name.eq_ignore_ascii_case(b"for") && found.replace(value?).is_some() {
            // Each parameter is there at most once.
            return None;
        }
    }
    address(found?)
}

/// The parts of a value between separators, except for those in quotations, from the last one on. `None` for one that is
/// too long, or has the end of a quotation and not its beginning; nothing follows it.
struct PartsFromEnd<'a> {
    /// What is in front of the parts so far.
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> PartsFromEnd<'a> {
    fn new(value: &'a [u8], separator: u8) -> Self {
        Self {
            rest: Some(value),
            separator,
        }
    }
}

impl<'a> Iterator for PartsFromEnd<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let mut is_quoted = false;
        let from = rest.len().saturating_sub(MAX_ELEMENT_BYTES);
        for at in (from..rest.len()).rev() {
            match rest[at] {
                b'"' if !is_quoted => is_quoted = true,
                b'"' if !is_escaped(&rest[from..at]) => is_quoted = false,
                byte if byte == self.separator && !is_quoted => {
                    self.rest = Some(&rest[..at]);
                    return Some(Some(&rest[at + 1..]));
                }
                _ => {}
            }
        }
        Some((from == 0 && !is_quoted).then_some(rest))
    }
}

/// Whether a byte of a quotation is escaped by what is in front of it.
fn is_escaped(before: &[u8]) -> bool {
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// An address with or without a port; one of IPv6 may be in brackets.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let bytes = bytes.trim_ascii();
    if bytes.len() > MAX_ELEMENT_BYTES {
        return None;
    }
    let text = str::from_utf8(bytes).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let plain = text.parse().ok();
    let address = plain.or_else(bracketed).or_else(with_port);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{FORWARDED, HeaderName, HeaderValue};

    use super::{X_FORWARDED_FOR, of_forwarded, of_x_forwarded_for};

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("is one");
            headers.append(name, value);
        }
        headers
    }

    fn texts(addresses: impl Iterator<Item = Option<std::net::IpAddr>>) -> Vec<String> {
        let text =
            |address: Option<std::net::IpAddr>| address.map_or("-".to_owned(), |it| it.to_string());
        addresses.map(text).collect()
    }

    #[track_caller]
    fn assert_x_forwarded_for(values: &[&str], expected: &[&str]) {
        let headers = headers(&X_FORWARDED_FOR, values);
        assert_eq!(texts(of_x_forwarded_for(&headers)), expected, "{values:?}");
    }

    #[track_caller]
    fn assert_forwarded(values: &[&str], expected: &[&str]) {
        let headers = headers(&FORWARDED, values);
        assert_eq!(texts(of_forwarded(&headers)), expected, "{values:?}");
    }

    #[test]
    fn addresses_come_from_the_last_one_on() {
        assert_x_forwarded_for(&[], &[]);
        let values = [
            "192.0.2.1,  192.0.2.2:80",
            "2001:db8::1, [2001:db8::2], [::1]:7",
        ];
        let expected = [
            "::1",
            "2001:db8::2",
            "2001:db8::1",
            "192.0.2.2",
            "192.0.2.1",
        ];
        assert_x_forwarded_for(&values, &expected);
        assert_x_forwarded_for(&["::ffff:192.0.2.1"], &["192.0.2.1"]);
        assert_x_forwarded_for(&["192.0.2.1, unknown, \u{e9}"], &["-", "-", "192.0.2.1"]);
        assert_x_forwarded_for(&["\u{e9}, 192.0.2.1"], &["192.0.2.1", "-"]);
        assert_x_forwarded_for(&["", "192.0.2.256,,1"], &["-", "-", "-", "-"]);
    }

    #[test]
    fn parameters_of_forwarded_are_read() {
        assert_forwarded(&["for=192.0.2.1"], &["192.0.2.1"]);
        let values = [
            "proto=http; For=\"[2001:db8::1]:47\" ;by=203.0.113.43",
            "for=192.0.2.43, for=\"198.51.100.17:80\"",
        ];
        assert_forwarded(&values, &["198.51.100.17", "192.0.2.43", "2001:db8::1"]);
        for unknown in [
            "for=unknown",
            "for=_hidden",
            "by=192.0.2.1",
            "",
            "for",
            "for=\"\\1\"",
        ] {
            assert_forwarded(&[unknown], &["-"]);
        }
        assert_forwarded(&["for=192.0.2.1;for=192.0.2.2"], &["-"]);
    }

    /// A proxy appends its element to the value that the client has sent.
    #[test]
    fn quotation_of_client_does_not_hide_the_element_of_a_proxy() {
        for client in ["for=\"", "for=9.9.9.9;x=\"", "for=9.9.9.9;x=\"\\", "\"\\\""] {
            for proxy in [
                "for=192.0.2.1",
                "for=\"[2001:db8::1]\"",
                "by=\"a\";for=\"192.0.2.1:1\"",
            ] {
                let headers = headers(&FORWARDED, &[&format!("{client}, {proxy}")]);
                let first = texts(of_forwarded(&headers).take(1));
                let expected = match proxy.contains("2001") {
                    true => "2001:db8::1",
                    false => "192.0.2.1",
                };
                assert_eq!(first, [expected], "{client}, {proxy}");
            }
        }
    }

    #[test]
    fn escapes_and_separators_in_quotations_end_no_element() {
        for quoted in ["a,b;c", "\\\"", "\\\\", "\\\\\\\", for=9.9.9.9;"] {
            let element = format!("for=192.0.2.1;host=\"{quoted}\"");
            assert_forwarded(&[&element], &["192.0.2.1"]);
            let values = format!("for=192.0.2.2, {element}");
            assert_forwarded(&[&values], &["192.0.2.1", "192.0.2.2"]);
        }
        let long = format!("for=\"{}\", for=192.0.2.1", "a".repeat(2000));
        assert_forwarded(&[&long], &["192.0.2.1", "-"]);
    }

    #[test]
    fn no_text_panics() {
        let mut random = fastrand::Rng::with_seed(7);
        let alphabet = b"for=by;,\"\\ []:.0123456789abcdef";
        for _ in 0..20_000 {
            let length = random.usize(..40);
            let text: Vec<u8> = (0..length)
                .map(|_| alphabet[random.usize(..alphabet.len())])
                .collect();
            let text = String::from_utf8(text).expect("is ASCII");
            let _ = of_forwarded(&headers(&FORWARDED, &[&text])).count();
            let _ = of_x_forwarded_for(&headers(&X_FORWARDED_FOR, &[&text])).count();
        }
    }
}
