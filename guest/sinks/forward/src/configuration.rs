//! The configuration of the sink, from environment variables.
//!
//! Its messages never contain the token.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use alldata_peer_protocol::client::is_authority;
use alldata_peer_sink_common::env;

const URL: &str = "ALLDATA_PEER_FORWARD_URL";
const TIMEOUT: &str = "ALLDATA_PEER_FORWARD_TIMEOUT_MS";
const TOKEN: &str = "ALLDATA_PEER_FORWARD_TOKEN";

/// The error for an invalid URL.
const FORM: &str = "not http://HOST:PORT/PATH or https://HOST/PATH, without a user name";

/// How long one peer may take, in milliseconds, where nothing else is said: longer than a
/// synced write on a slow disk, and short enough for a client to wait for the next peer.
const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// The longest time-out in milliseconds: an hour, after which nobody waits any more.
const MAX_TIMEOUT_MS: u64 = 3_600_000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// In the order in which they are tried; there is at least one.
    pub(crate) peers: Vec<Peer>,
    pub(crate) timeout_ms: u64,
    pub(crate) token: Option<String>,
}

/// The URL of a peer and its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The URL without its query, which may hold a secret: for the log.
    pub(crate) name: String,
    pub(crate) is_https: bool,
    pub(crate) authority: String,
    pub(crate) path_with_query: String,
}

impl Configuration {
    /// Reads the environment. The error is a sentence about what is wrong with it.
    pub(crate) fn read() -> Result<Self, String> {
        let read = |name| env::read(name);
        Self::parse(read(URL), read(TIMEOUT), read(TOKEN))
    }

    fn parse(
        urls: Option<String>,
        timeout_ms: Option<String>,
        token: Option<String>,
    ) -> Result<Self, String> {
        let urls = urls.ok_or_else(|| format!("{URL} is not set: it names the peers to put to"))?;
        let urls = urls.split(',').map(str::trim).enumerate();
        let peers = urls.map(|(index, url)| {
            // Not as it is: it may hold a password.
            let number = index + 1;
            Peer::parse(url).ok_or_else(|| format!("{URL}: its URL number {number} is {FORM}"))
        });
        let timeout_ms = match timeout_ms {
            None => DEFAULT_TIMEOUT_MS,
            Some(text) => parse_timeout(&text)?,
        };
        if token.as_ref().is_some_and(|token| !is_token(token)) {
            return Err(format!(
                "{TOKEN} has characters that no bearer token has (RFC 6750)"
            ));
        }
        Ok(Self {
            peers: peers.collect::<Result<_, _>>()?,
            timeout_ms,
            token,
        })
    }
}

impl Peer {
    /// `None` where it is no URL of a peer.
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        let (authority, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let is_known = is_https || scheme.eq_ignore_ascii_case("http");
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains('#');
        if !is_known || !is_plain || !is_authority(authority) {
            return None;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        let (name, _query) = url.split_once('?').unwrap_or((url, ""));
        Some(Self {
            name: name.to_string(),
            is_https,
            authority: authority.to_string(),
            path_with_query: format!("{slash}{path}"),
        })
    }
}

fn parse_timeout(text: &str) -> Result<u64, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=MAX_TIMEOUT_MS).contains(number))
        .ok_or_else(|| format!("{TIMEOUT} is {text:?}, but must be 1 to {MAX_TIMEOUT_MS}"))
}

/// Whether the text has the characters of a `b64token` (RFC 6750 section 2.1).
fn is_token(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{Configuration, Peer};

    fn parse(
        url: &str,
        timeout: Option<&str>,
        token: Option<&str>,
    ) -> Result<Configuration, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Configuration::parse(own(Some(url)), own(timeout), own(token))
    }

    fn peer(url: &str) -> Result<Peer, String> {
        Ok(parse(url, None, None)?.peers.remove(0))
    }

    #[test]
    fn url_is_split_into_its_parts() {
        for (url, is_https, authority, path) in [
            ("http://a", false, "a", "/"),
            ("http://a:8080/_put", false, "a:8080", "/_put"),
            ("HTTPS://[::1]:1/x?y=z", true, "[::1]:1", "/x?y=z"),
            ("http://a?b", false, "a", "/?b"),
        ] {
            let peer = peer(url).expect("is a URL");
            let parts = (peer.is_https, &*peer.authority, &*peer.path_with_query);
            assert_eq!(parts, (is_https, authority, path), "{url}");
        }
    }

    #[test]
    fn several_urls_are_peers_in_their_order() {
        let peers = parse("http://a , https://b/", Some("1"), Some("a.b-c~/+=")).expect("is right");
        let urls: Vec<&str> = peers.peers.iter().map(|peer| &*peer.name).collect();
        assert_eq!(urls, ["http://a", "https://b/"]);
        assert_eq!(peers.timeout_ms, 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for url in [
            "",
            "a:8080",
            "ftp://a",
            "http://",
            "http:///p",
            "http://u:p@a/",
            "http://127.0.0.1:99999/",
            "http://a:0/",
            "http://a:b/",
            "http://a/#b",
            "http://a/b c",
            "http://a,",
            "http://é/",
        ] {
            let error = peer(url).expect_err(url);
            assert!(error.starts_with("ALLDATA_PEER_FORWARD_URL: "), "{error}");
        }
        for timeout in ["0", "-1", "1s", "3600001"] {
            let error = parse("http://a", Some(timeout), None).expect_err(timeout);
            assert!(error.contains("must be 1 to 3600000"), "{error}");
        }
        let error = Configuration::parse(None, None, None).expect_err("there is no URL");
        assert!(error.contains("is not set"), "{error}");
    }

    #[test]
    fn secret_in_url_is_not_shown() {
        let error = peer("http://user:geheim@a/").expect_err("has a user name");
        assert!(!error.contains("geheim"), "{error}");
        assert_eq!(
            peer("http://a/b?geheim").expect("is a URL").name,
            "http://a/b"
        );
    }

    #[test]
    fn token_is_not_shown() {
        let error = parse("http://a", None, Some("geheim\r\nX: y")).expect_err("is no token");
        assert!(!error.contains("geheim"), "{error}");
    }
}
