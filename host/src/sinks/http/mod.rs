//! The sinks `http:` and `https:`: put to another peer over HTTP, and map its responses to errors.
//!
//! A put without a response has an unknown result.

mod client;
mod credentials;
mod error;
mod health;
#[cfg(feature = "tls")]
mod tls_client;
mod url;

use std::net::IpAddr;

use alldata_peer_protocol::client::{MAX_PROBLEM_BYTES, put_body, read_response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;

use client::PeerClient;
use credentials::Credentials;
pub use error::HttpPutError;
pub use health::HealthError;
#[cfg(feature = "tls")]
use tls_client::TlsClient;
pub(super) use url::without_secrets;
use url::{HttpUrl, Parameters};

use crate::error::Error;
use crate::sink::{BoxSink, PutError, PutSink, SinkInternals};
use crate::util::http_client::{self, CONNECT_TIMEOUT, HttpClient};
use crate::util::log_limiter::LogLimiter;

/// A sink that is another peer.
#[derive(Debug)]
pub struct HttpSink {
    client: PeerClient,
    uri: Uri,
    credentials: Credentials,
    /// The URL for messages.
    name: String,
    failing: LogLimiter,
}

impl HttpSink {
    /// Puts to the peer at `url`, an `http:` or, with the feature `tls`, an `https:` URL. Connects at the first
    /// put. `USER:PASSWORD@` before the host, percent-encoded where needed, is sent as Basic credentials (RFC 7617).
    ///
    /// These parameters of its query name files, and are not sent: `ca` with the authorities of the peer's certificate
    /// (those of the system by default), `cert` and `key` with a certificate of the client and its key, and
    /// `token-file` with a Bearer token (RFC 6750). The token is read again when the peer refuses it, and the server whose
    /// sink this is reads the other files again when they change.
    ///
    /// # Errors
    ///
    /// When `url` is not such a URL, or a file cannot be used.
    pub fn new(url: &str) -> Result<Self, Error> {
        let name = without_secrets(url);
        let fail = |reason| Error::SinkUrl {
            url: name.clone(),
            reason,
        };
        let parsed = HttpUrl::parse(url).map_err(fail)?;
        let is_tls = parsed.uri.scheme() == Some(&Scheme::HTTPS);
        let client = if is_tls {
            tls_client(&parsed.parameters, &name)?
        } else {
            PeerClient::Plain(HttpClient::plain(Some(CONNECT_TIMEOUT)))
        };
        let credentials = Credentials::new(parsed.basic, parsed.parameters.token_file)?;
        if !is_tls && credentials.value().is_some() && !is_loopback(&parsed.uri) {
            tracing::warn!(
                uri = name,
                "credentials are sent without TLS: use an https: URL"
            );
        }
        Ok(Self {
            client,
            uri: parsed.uri,
            credentials,
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
        let authorization = self.credentials.value();
        let mut response = self
            .request(Method::POST, body.clone(), authorization.clone())
            .await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && self.credentials.reload(authorization.as_ref()).await
        {
            response = self
                .request(Method::POST, body, self.credentials.value())
                .await?;
        }
        // A response with 201 has no body that is worth waiting for.
        if response.status() == StatusCode::CREATED {
            return Ok(());
        }
        let (parts, body) = response.into_parts();
        // Read to its end, so that the connection can be reused.
        let body = Limited::new(body, MAX_PROBLEM_BYTES).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let status = parts.status;
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            return Err(HttpPutError::Unauthorized {
                status: status.as_u16(),
            });
        }
        let retry_after = parts.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        read_response(status.as_u16(), retry_after, &body)
            .map_err(|refusal| HttpPutError::Refused(refusal.into()))
    }

    /// Sends a request once.
    async fn request(
        &self,
        method: Method,
        body: Bytes,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, HttpPutError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        #[cfg(feature = "otlp")]
        crate::util::trace_context::inject(request.headers_mut());
        self.client.request(request).await.map_err(|error| {
            if http_client::is_self_connection(&error) {
                let reason = "no process listens on this port".to_owned();
                return HttpPutError::NotConnected { reason };
            }
            let reason = causes(&error);
            if error.is_connect() || is_refused_certificate(&error) {
                HttpPutError::NotConnected { reason }
            } else {
                HttpPutError::Lost { reason }
            }
        })
    }
}

/// Whether the host of a URI is this machine, by its text.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A client with the TLS settings of a URL.
#[cfg(feature = "tls")]
fn tls_client(parameters: &Parameters, _name: &str) -> Result<PeerClient, Error> {
    let client = TlsClient::new(parameters.clone())?;
    Ok(PeerClient::Tls(client.into()))
}

/// Whether the peer refused the certificate of this client, or the lack of one. With TLS 1.3 the client learns that
/// after its handshake, but the peer has read nothing of the request.
fn is_refused_certificate(error: &legacy::Error) -> bool {
    #[cfg(feature = "tls")]
    return crate::util::tls::client::is_refused_certificate(error);
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        false
    }
}

#[cfg(not(feature = "tls"))]
fn tls_client(_: &Parameters, name: &str) -> Result<PeerClient, Error> {
    Err(Error::SinkUrl {
        url: name.to_owned(),
        reason: "this program was built without the feature `tls`".to_owned(),
    })
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

    fn boxed(self) -> BoxSink {
        let internals = SinkInternals {
            reopen: self.client.files(),
            ..SinkInternals::default()
        };
        BoxSink::with_internals(self, internals)
    }
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
        let value = sink.credentials.value().expect("is there");
        // The text is `user:p@ss:w/rd`.
        assert_eq!(value.as_bytes(), b"Basic dXNlcjpwQHNzOncvcmQ=");
        assert!(value.is_sensitive());
        let plain = HttpSink::new("http://a/").expect("is one");
        assert!(plain.credentials.value().is_none());
    }

    #[test]
    fn wrong_url_is_refused_without_its_password() {
        for url in [
            "http://u:geheim@a:99999/",
            "http://u:geheim@a:0/",
            "http://u:geheim@a:x/",
            "http://u:geheim@",
            "http://u:geheim@:80/",
            "https://u:geheim@a/?ca=",
            "ftp://u:geheim@a/",
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
