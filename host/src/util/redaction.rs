//! Removes user and password from a URL, for messages.
//!
//! Knows no schemes, so that it also works for a text that is not the URL of any sink.

/// A URL without user and password, also if it is malformed.
pub(crate) fn without_login(url: &str) -> String {
    let is_scheme = |(scheme, _): &(&str, &str)| {
        let name = scheme.strip_suffix(':').unwrap_or(scheme);
        !name.contains([':', '@', '/'])
    };
    let parts = url.split_once("//").filter(is_scheme);
    let (scheme, rest) = parts.unwrap_or(("", url));
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}//{rest}"),
        None => url.to_owned(),
    }
}
