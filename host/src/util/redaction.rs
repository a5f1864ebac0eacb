//! What may be shown of a URL.
//!
//! Knows no scheme, so that it also takes the login from what is no URL of any sink.

/// A URL without what lets one in, however wrong it is.
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
