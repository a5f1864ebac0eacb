//! The addresses in the fields `X-Forwarded-For` and `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The addresses of `X-Forwarded-For`, from the last one on, each of the party that the next one saw. `None` in the place
/// of one that is unknown or malformed.
pub(super) fn of_x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    values.rev().flat_map(|value| match value.to_str() {
        Ok(text) => text.rsplit(',').map(address).collect(),
        Err(_not_ascii) => vec![None],
    })
}

/// The same of the parameters `for` of `Forwarded`.
pub(super) fn of_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(FORWARDED).iter();
    values.rev().flat_map(|value| {
        // A quotation that does not end may be the client's, which would take the rest of the value with it.
        let elements = value.to_str().ok().and_then(|text| split(text, ','));
        match elements {
            Some(elements) => elements.into_iter().rev().map(forwarded_for).collect(),
            None => vec![None],
        }
    })
}

/// The address of the parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, ';')? {
        let pair = pair.trim();
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = match value.strip_prefix('"') {
            // Addresses need no escapes.
            Some(rest) => rest
                .strip_suffix('"')
                .filter(|inner| !inner.contains(['"', '\\'])),
            None => Some(value).filter(|value| !value.contains('"')),
        };
        if name.eq_ignore_ascii_case("for") && found.replace(value?).is_some() {
            // Each parameter is there at most once.
            return None;
        }
    }
    address(found?)
}

/// The parts of a text between separators, except for those in quotations. `None` if a quotation does not end.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if char == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + char.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

/// An address with or without a port; one of IPv6 may be in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
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
        assert_x_forwarded_for(&["192.0.2.1, unknown, \u{e9}"], &["-"]);
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
                let first = of_forwarded(&headers).next().flatten();
                let first = first.map_or("-".to_owned(), |address| address.to_string());
                assert_ne!(first, "9.9.9.9", "{client}, {proxy}");
            }
        }
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
