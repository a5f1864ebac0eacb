//! The sink `http:`: puts to another peer over HTTP, and maps its responses to errors.
//!
//! A put without a response has an unknown result.

use alldata_peer_protocol::client::{
    DEFAULT_RETRY_SECONDS, MAX_PROBLEM_BYTES, PeerError, is_authority, put_body, read_response,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::sink::{PutError, PutSink};
use crate::util::http_client::{self, CONNECT_TIMEOUT, HttpClient};
use crate::util::log_limiter::LogLimiter;
use crate::util::redaction::without_login;

/// A sink that is another peer.
#[derive(Debug)]
pub struct HttpSink {
    client: HttpClient<Full<Bytes>>,
    uri: Uri,
    /// User and password, which are never logged.
    authorization: Option<HeaderValue>,
    /// The URL for messages.
    name: String,
    failing: LogLimiter,
}

impl HttpSink {
    /// Puts to the peer at `url`, an `http:` URL. Connects at the first put. `USER:PASSWORD@` before
    /// the host, percent-encoded where needed, is sent as Basic credentials (RFC 7617).
    ///
    /// # Errors
    ///
    /// When `url` is not an absolute `http:` URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        let name = without_secrets(url);
        let (uri, authorization) = parse(url).map_err(|reason| Error::SinkUrl {
            url: name.clone(),
            reason,
        })?;
        Ok(Self {
            client: http_client::new(Some(CONNECT_TIMEOUT)),
            uri,
            authorization,
            name,
            failing: LogLimiter::default(),
        })
    }

    /// The URL without user, password and query, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts as the sink does, with the reason if there is no response.
    ///
    /// A put whose response is lost is sent once more: puts are idempotent, and most responses are lost
    /// because the other side has just closed a pooled connection.
    ///
    /// # Errors
    ///
    /// When the peer did not acknowledge the put.
    pub async fn try_put(&self, key: &str, event: &str) -> Result<(), HttpPutError> {
        let body = Bytes::from(put_body(key, event));
        let lost = match self.send(body.clone()).await {
            Err(lost @ HttpPutError::Lost { .. }) => lost,
            result => return result,
        };
        // A refusal of the second request does not undo that the first may have been stored.
        match self.send(body).await {
            result @ (Ok(()) | Err(HttpPutError::Refused(PutError::Conflict))) => result,
            Err(_) => Err(lost),
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), HttpPutError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        if let Some(authorization) = &self.authorization {
            let fields = request.headers_mut();
            fields.insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.client.request(request).await.map_err(|error| {
            if http_client::is_self_connection(&error) {
                let reason = "no process listens on this port".to_owned();
                return HttpPutError::NotConnected { reason };
            }
            let reason = causes(&error);
            if error.is_connect() {
                HttpPutError::NotConnected { reason }
            } else {
                HttpPutError::Lost { reason }
            }
        })?;
        // A response with 201 has no body that is worth waiting for.
        if response.status() == StatusCode::CREATED {
            return Ok(());
        }
        let (parts, body) = response.into_parts();
        // Read to its end, so that the connection can be reused.
        let body = Limited::new(body, MAX_PROBLEM_BYTES).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let retry_after = parts.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        read_response(parts.status.as_u16(), retry_after, &body)
            .map_err(|refusal| HttpPutError::Refused(refusal.into()))
    }
}

impl PutSink for HttpSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        self.try_put(&key, &event).await.map_err(|error| {
            if !matches!(error, HttpPutError::Refused(_))
                && let Some(suppressed) = self.failing.check(&error.to_string())
            {
                tracing::warn!(uri = self.name, %error, suppressed, "no response from the peer");
            }
            error.into()
        })
    }
}

/// Why another peer did not acknowledge a put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpPutError {
    /// The peer responded with this error.
    #[error(transparent)]
    Refused(PutError),
    /// There was no connection, so nothing is stored.
    #[error("no connection: {reason}")]
    NotConnected {
        /// The error of the system.
        reason: String,
    },
    /// The put was sent, but there was no response, so the event may or may not be stored.
    #[error("no response: {reason}")]
    Lost {
        /// The error of the connection.
        reason: String,
    },
}

impl From<HttpPutError> for PutError {
    fn from(error: HttpPutError) -> Self {
        match error {
            HttpPutError::Refused(error) => error,
            // As after a response with 503 and without `Retry-After`.
            HttpPutError::NotConnected { .. } => Self::Unavailable {
                retry_after_seconds: DEFAULT_RETRY_SECONDS,
            },
            HttpPutError::Lost { .. } => Self::Unknown,
        }
    }
}

impl From<PeerError> for PutError {
    fn from(refusal: PeerError) -> Self {
        match refusal {
            PeerError::Conflict => Self::Conflict,
            PeerError::Rejected(reason) | PeerError::NotAccepted(reason) => Self::Rejected(reason),
            PeerError::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable {
                retry_after_seconds,
            },
            PeerError::Unknown => Self::Unknown,
            PeerError::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// A URL without user, password and query, also if it is malformed.
fn without_secrets(url: &str) -> String {
    let url = without_login(url);
    let (name, _query) = url.split_once('?').unwrap_or((&url, ""));
    name.to_owned()
}

/// The URI of requests and their credentials, or the reason why the URL is invalid.
fn parse(url: &str) -> Result<(Uri, Option<HeaderValue>), String> {
    let form = || "the URL of a peer is http://HOST:PORT/PATH".to_owned();
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let mut parts = uri.into_parts();
    if parts.scheme.as_ref().map(hyper::http::uri::Scheme::as_str) != Some("http") {
        return Err(form());
    }
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
    let path = parts.path_and_query.as_ref();
    if path.is_some_and(|path| path.as_str().contains('@')) {
        return Err("an @ that is not before the host is written as %40".to_owned());
    }
    let authorization = login.map(basic).transpose()?;
    parts.authority = Some(host.parse().map_err(|_| form())?);
    let uri = Uri::from_parts(parts).map_err(|_| form())?;
    Ok((uri, authorization))
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

/// The causes of an error in one line, without its own text, which is the same for all.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::{HttpPutError, HttpSink};

    /// More connections than there are ports, of which Linux uses the next one for each connection.
    const CONNECTIONS: usize = 35_000;

    #[tokio::test]
    async fn port_without_listener_is_not_connected() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        // The client's port is one that the system chooses for clients, and no server gets it while this
        // connection is open.
        let client = TcpStream::connect(address).expect("connects");
        let port = client.local_addr().expect("is connected").port();
        let sink = HttpSink::new(&format!("http://127.0.0.1:{port}/")).expect("is a URL");
        for _ in 0..CONNECTIONS {
            let put = sink.try_put("key1", "1").await;
            let is_refused = matches!(put, Err(HttpPutError::NotConnected { .. }));
            assert!(is_refused, "{put:?}");
        }
    }

    #[test]
    fn credentials_are_sent_as_basic_and_not_shown() {
        let sink = HttpSink::new("http://us%65r:p%40ss:w%2Frd@a:1/b?c=secret").expect("is one");
        assert_eq!(sink.uri.to_string(), "http://a:1/b?c=secret");
        assert_eq!(sink.name(), "http://a:1/b");
        let value = sink.authorization.as_ref().expect("is there");
        // The text is `user:p@ss:w/rd`.
        assert_eq!(value.as_bytes(), b"Basic dXNlcjpwQHNzOncvcmQ=");
        assert!(value.is_sensitive());
        let plain = HttpSink::new("http://a/").expect("is one");
        assert!(plain.authorization.is_none());
    }

    #[test]
    fn wrong_url_is_refused_without_its_password() {
        for url in [
            "http://u:geheim@a:99999/",
            "http://u:geheim@a:0/",
            "http://u:geheim@a:x/",
            "http://u:geheim@",
            "http://u:geheim@:80/",
            "https://u:geheim@a/",
            "http://u:geheim#@a/",
            "http://u:geheim/@a/",
            "http://u:1/geheim@a/",
            "http://u:1?geheim@a/",
            "http://u%3A:geheim@a/",
            "http://u:geh eim@a/",
            "u:geheim@a/",
            "http:u:geheim@a/",
            "http://a:99999/?geheim",
        ] {
            let error = HttpSink::new(url).expect_err(url).to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
