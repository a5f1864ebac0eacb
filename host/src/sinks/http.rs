//! Puts to another peer over HTTP, and maps its answers back.
//!
//! Never decides on its own whether an event was stored: what the other peer did not say is
//! unknown.

use std::time::Duration;

use alldata_peer_guest::client::{
    DEFAULT_RETRY_SECONDS, MAX_PROBLEM_BYTES, Refusal, put_body, read_answer,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::error::Error;
use crate::seldom::Seldom;
use crate::sink::{PutError, PutSink};

/// How long to wait for a connection. A peer on the same network answers in a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept: less than a peer keeps it, so that it is rarely closed
/// just as it is taken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A sink that is another peer.
#[derive(Debug)]
pub struct HttpSink {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    failing: Seldom,
}

impl HttpSink {
    /// Puts to the peer at `url`, an `http:` URL. Connects at the first put.
    ///
    /// # Errors
    ///
    /// When `url` is not an absolute `http:` URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        let fail = |reason: String| Error::SinkUrl {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url.parse().map_err(|error| fail(format!("{error}")))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
            return Err(fail("a peer's URL is http://HOST:PORT/PATH".to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            uri,
            failing: Seldom::default(),
        })
    }

    /// Puts as the sink does, and tells why where there is no answer.
    ///
    /// A put whose answer is lost is sent once more: a put may be sent as often as one likes, and
    /// most lost answers are those of a kept connection that the other side had just closed.
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
        // What the first send may have stored, a refusal of the second does not undo.
        match self.send(body).await {
            result @ (Ok(()) | Err(HttpPutError::Refused(PutError::Conflict))) => result,
            Err(_) => Err(lost),
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), HttpPutError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let response = self.client.request(request).await.map_err(|error| {
            let reason = causes(&error);
            match error.is_connect() {
                true => HttpPutError::NotConnected { reason },
                false => HttpPutError::Lost { reason },
            }
        })?;
        let (head, body) = response.into_parts();
        // Read to its end, so that the connection can be used again.
        let body = Limited::new(body, MAX_PROBLEM_BYTES).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let retry_after = head.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok());
        read_answer(head.status.as_u16(), retry_after, &body)
            .map_err(|refusal| HttpPutError::Refused(refusal.into()))
    }
}

impl PutSink for HttpSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        self.try_put(&key, &event).await.map_err(|error| {
            if !matches!(error, HttpPutError::Refused(_))
                && let Some(left_out) = self.failing.say(&error.to_string())
            {
                tracing::warn!(uri = %self.uri, %error, left_out, "no answer from the peer");
            }
            error.into()
        })
    }
}

/// Why another peer did not acknowledge a put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpPutError {
    /// The peer answered so.
    #[error(transparent)]
    Refused(PutError),
    /// There was no connection, so nothing is stored.
    #[error("no connection: {reason}")]
    NotConnected {
        /// What the system said.
        reason: String,
    },
    /// The put was sent, but no answer came, so the event may or may not be stored.
    #[error("no answer: {reason}")]
    Lost {
        /// What became of the connection.
        reason: String,
    },
}

impl From<HttpPutError> for PutError {
    fn from(error: HttpPutError) -> Self {
        match error {
            HttpPutError::Refused(error) => error,
            HttpPutError::NotConnected { .. } => Self::Unavailable {
                retry_after_seconds: DEFAULT_RETRY_SECONDS,
            },
            HttpPutError::Lost { .. } => Self::Unknown,
        }
    }
}

impl From<Refusal> for PutError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict => Self::Conflict,
            Refusal::Rejected(reason) | Refusal::Unfit(reason) => Self::Rejected(reason),
            Refusal::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable {
                retry_after_seconds,
            },
            Refusal::Unknown => Self::Unknown,
            Refusal::Failed(reason) => Self::Failed(reason),
        }
    }
}

/// The causes of an error in one line, without its own text, which only says that it was sending.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.join(": ")
}
