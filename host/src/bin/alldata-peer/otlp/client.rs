//! The HTTP client of the exporter. It runs on a runtime of its own, since the thread of the exporter has none.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[cfg(feature = "tls")]
use alldata_peer_server_http::rustls::{self, ClientConfig, RootCertStore};
use anyhow::Result;
#[cfg(feature = "tls")]
use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full, Limited};
#[cfg(feature = "tls")]
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use super::settings::Settings;

/// The largest response in bytes: it is a short message.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// With TLS, it also connects without.
#[cfg(feature = "tls")]
type Connector = HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// The reason of the last failed request.
pub(super) type LastError = Arc<Mutex<Option<String>>>;

/// Sends requests on a runtime.
pub(super) struct RuntimeClient {
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
    runtime: Handle,
    last_error: LastError,
}

impl RuntimeClient {
    /// # Errors
    ///
    /// When the endpoint is an `https:` URL, and the system has no authorities.
    pub(super) fn new(
        settings: &Settings,
        runtime: &Handle,
        last_error: LastError,
    ) -> Result<Self> {
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector(settings)?),
            timeout: settings.timeout,
            runtime: runtime.clone(),
            last_error,
        })
    }
}

#[cfg(feature = "tls")]
fn connector(settings: &Settings) -> Result<Connector> {
    let mut roots = RootCertStore::empty();
    if settings.is_tls() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(
            !roots.is_empty(),
            "cannot export traces by https: the system has no certificates of authorities"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot export traces by https")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    Ok(builder.https_or_http().enable_http1().build())
}

#[cfg(not(feature = "tls"))]
fn connector(_: &Settings) -> Result<Connector> {
    Ok(HttpConnector::new())
}

/// The header fields of requests may have a token, so they are not shown.
impl fmt::Debug for RuntimeClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RuntimeClient")
            .finish_non_exhaustive()
    }
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for RuntimeClient {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sending<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let response = self.client.request(request.map(Full::new));
        let sending = async move {
            let (head, body) = response.await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let timeout = self.timeout;
        let sending = self
            .runtime
            .spawn(async move { tokio::time::timeout(timeout, sending).await? });
        Box::pin(async move {
            let result: Result<_, HttpError> =
                sending.await.unwrap_or_else(|ended| Err(ended.into()));
            if let Err(error) = &result {
                let mut last = self
                    .last_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *last = Some(with_causes(&**error));
            }
            result
        })
    }
}

/// An error and its causes in one line.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
