//! The URL of the sink `http:`, with its credentials and the files of its TLS settings.

use std::path::PathBuf;

use alldata_peer_protocol::client::is_authority;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{PathAndQuery, Scheme};
use percent_encoding::percent_decode_str;

use crate::util::redaction::without_login;

/// The names of the parameters that are taken from the query. Others are sent to the peer.
const CA: &str = "ca";
const CERT: &str = "cert";
const KEY: &str = "key";
const TOKEN_FILE: &str = "token-file";

/// A parsed URL.
#[derive(Debug)]
pub(super) struct HttpUrl {
    /// The URI of requests.
    pub(super) uri: Uri,
    /// Basic credentials, from a user name and a password.
    pub(super) basic: Option<HeaderValue>,
    pub(super) parameters: Parameters,
}

/// The files that a URL names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The authorities of the peer's certificate.
    pub(super) ca: Option<PathBuf>,
    /// The certificate of this client.
    pub(super) cert: Option<PathBuf>,
    /// The private key of that certificate.
    pub(super) key: Option<PathBuf>,
    pub(super) token_file: Option<PathBuf>,
}

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// A sentence that tells why the URL is invalid. It contains no password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let form =
            || "the URL of a peer is http://HOST:PORT/PATH or https://HOST:PORT/PATH".to_owned();
        let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        let mut parts = uri.into_parts();
        let is_tls = match &parts.scheme {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(form()),
        };
        let authority = parts.authority.ok_or_else(form)?;
        let (login, host) = match authority.as_str().rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority.as_str()),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(form());
        }
        if !is_authority(host) {
            return Err("its port is not one of 1 to 65535".to_owned());
        }
        // The text before it may belong to a password that contains a slash or a question mark.
        let path = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.as_str().contains('@') {
            return Err("an @ that is not before the host is written as %40".to_owned());
        }
        let (path, parameters) = Parameters::take_from(&path)?;
        parameters.check(is_tls, login.is_some())?;
        let basic = login.map(basic).transpose()?;
        parts.authority = Some(host.parse().map_err(|_| form())?);
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| form())?;
        Ok(Self {
            uri,
            basic,
            parameters,
        })
    }
}

impl Parameters {
    /// The parameters in a query, and the path with the rest of the query.
    fn take_from(path: &PathAndQuery) -> Result<(PathAndQuery, Self), String> {
        let mut parameters = Self::default();
        let mut rest = Vec::new();
        let pairs = path.query().map(|query| query.split('&'));
        for pair in pairs.into_iter().flatten() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, slot) = match name {
                CA => (CA, &mut parameters.ca),
                CERT => (CERT, &mut parameters.cert),
                KEY => (KEY, &mut parameters.key),
                TOKEN_FILE => (TOKEN_FILE, &mut parameters.token_file),
                _ => {
                    rest.push(pair);
                    continue;
                }
            };
            // Unlike in a form, a plus sign in the name of a file is a plus sign.
            let value = percent_decode_str(value).decode_utf8();
            let value =
                value.map_err(|_| format!("the percent-encoded value of {name} is not UTF-8"))?;
            if value.is_empty() {
                return Err(format!("{name} names no file"));
            }
            if slot.replace(PathBuf::from(&*value)).is_some() {
                return Err(format!("{name} is given twice"));
            }
        }
        let mut text = path.path().to_owned();
        if !rest.is_empty() {
            text += &format!("?{}", rest.join("&"));
        }
        // A part of a valid text is valid.
        let path = text.parse().map_err(|error| format!("{error}"))?;
        Ok((path, parameters))
    }

    fn check(&self, is_tls: bool, has_login: bool) -> Result<(), String> {
        let is_given = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        if is_given && !is_tls {
            return Err(format!("{CA}, {CERT} and {KEY} are for https: URLs"));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(format!("{CERT} and {KEY} are given together"));
        }
        if self.token_file.is_some() && has_login {
            return Err(format!(
                "credentials are a user name and a password, or {TOKEN_FILE}, not both"
            ));
        }
        Ok(())
    }
}

/// A URL without user, password and query, also if it is malformed.
pub(in crate::sinks) fn without_secrets(url: &str) -> String {
    let url = without_login(url);
    let (name, _query) = url.split_once('?').unwrap_or((&url, ""));
    name.to_owned()
}

/// The credentials of `USER:PASSWORD` (RFC 7617).
fn basic(login: &str) -> Result<HeaderValue, String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decode = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (decode(user), decode(password));
    if user.contains(&b':') {
        return Err("its user name contains a colon, which Basic credentials cannot".to_owned());
    }
    let credentials = BASE64_STANDARD.encode([&user[..], b":", &password].concat());
    let mut value = HeaderValue::try_from(format!("Basic {credentials}"))
        .map_err(|_| "its user name and password cannot be sent in a header field".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{HttpUrl, Parameters};

    #[test]
    fn parameters_are_taken_from_the_query() {
        let url = "https://a/b?x=1&ca=c%20a.pem&cert=c.pem&key=k+.pem&token-file=t&y";
        let url = HttpUrl::parse(url).expect("is one");
        assert_eq!(url.uri.to_string(), "https://a/b?x=1&y");
        let wanted = Parameters {
            ca: Some("c a.pem".into()),
            cert: Some("c.pem".into()),
            key: Some("k+.pem".into()),
            token_file: Some("t".into()),
        };
        assert_eq!(url.parameters, wanted);
        let url = HttpUrl::parse("http://a/b?token-file=t").expect("is one");
        assert_eq!(url.uri.to_string(), "http://a/b");
    }

    #[test]
    fn invalid_parameters_are_refused_with_their_names() {
        for (url, reason) in [
            ("http://a/?ca=x", "ca, cert and key are for https: URLs"),
            ("https://a/?cert=x", "cert and key are given together"),
            ("https://a/?key=x", "cert and key are given together"),
            ("https://a/?ca=x&ca=y", "ca is given twice"),
            ("https://a/?ca=", "ca names no file"),
            (
                "https://a/?ca=%ff",
                "the percent-encoded value of ca is not UTF-8",
            ),
            (
                "https://u:p@a/?token-file=x",
                "credentials are a user name and a password, or token-file, not both",
            ),
        ] {
            assert_eq!(HttpUrl::parse(url).expect_err(url), reason);
        }
    }
}
