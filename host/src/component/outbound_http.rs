//! The HTTP requests that a component makes through `wasi:http/outgoing-handler`.
//!
//! Connections are pooled, and no request is retried. `https:` needs the feature `tls`, and servers with a certificate
//! of an authority that the system trusts.

use std::sync::Arc;
use std::time::Duration;

use alldata_peer_protocol::client::is_authority;
use http_body_util::BodyExt as _;
use hyper::http::uri::Scheme;
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
#[cfg(feature = "tls")]
use tokio::sync::OnceCell;
#[cfg(feature = "tls")]
use tokio::task::spawn_blocking;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::util::http_client::{self, CONNECT_TIMEOUT, HttpClient};
#[cfg(feature = "tls")]
use crate::util::tls::client::{ClientFiles, client_config};

/// How long to wait for the header section of a response, unless the component sets another time.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a TLS connection may take, whatever a component sets: one that is not awaited any more has to end too.
#[cfg(feature = "tls")]
const MAX_TLS_CONNECT_TIME: Duration = Duration::from_secs(60);

/// The HTTP clients of a component; clones share their connections.
#[derive(Clone)]
pub(crate) struct OutboundHttp(Arc<Clients>);

struct Clients {
    plain: HttpClient<WasiBody>,
    /// Made for the first `https:` request, since the authorities of the system are many. `None` if that failed.
    #[cfg(feature = "tls")]
    tls: OnceCell<Option<HttpClient<WasiBody>>>,
}

type HttpResult<T> = Result<T, Error>;

/// How the body of an outgoing request ends.
type Transfer = Box<dyn Future<Output = HttpResult<()>> + Send>;

impl OutboundHttp {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Clients {
            // A component may set a connect time-out for each request.
            plain: HttpClient::plain(None),
            #[cfg(feature = "tls")]
            tls: OnceCell::new(),
        }))
    }

    /// The client for a scheme.
    async fn client(&self, scheme: Option<&Scheme>) -> HttpResult<HttpClient<WasiBody>> {
        if scheme == Some(&Scheme::HTTP) {
            return Ok(self.0.plain.clone());
        }
        #[cfg(feature = "tls")]
        if scheme == Some(&Scheme::HTTPS) {
            let client = self.0.tls.get_or_init(tls_client).await;
            return client.clone().ok_or(Error::HttpRequestDenied);
        }
        let scheme = scheme.map(Scheme::as_str);
        tracing::warn!(scheme, "a component may not make requests of this scheme");
        Err(Error::HttpRequestDenied)
    }
}

#[cfg(feature = "tls")]
async fn tls_client() -> Option<HttpClient<WasiBody>> {
    let config = spawn_blocking(|| client_config(ClientFiles::default())).await;
    match config {
        Ok(Ok(config)) => Some(HttpClient::tls(MAX_TLS_CONNECT_TIME, config)),
        Ok(Err(error)) => {
            tracing::error!(%error, "components cannot make https: requests until the server is started again");
            None
        }
        Err(panicked) => {
            tracing::error!(%panicked, "components cannot make https: requests until the server is started again");
            None
        }
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Transfer,
    ) -> Box<dyn Future<Output = HttpResult<(Response<WasiBody>, Transfer)>> + Send> {
        #[cfg(feature = "otlp")]
        crate::util::trace_context::inject(request.headers_mut());
        let clients = self.clone();
        let given = options.as_ref();
        let connect = given.and_then(|options| options.connect_timeout);
        let connect = connect.unwrap_or(CONNECT_TIMEOUT);
        let first_byte = given.and_then(|options| options.first_byte_timeout);
        let first_byte = first_byte.unwrap_or(FIRST_BYTE_TIMEOUT);
        Box::new(async move {
            let client = clients.client(request.uri().scheme()).await?;
            // The client would use the default port instead of an invalid one.
            let authority = request.uri().authority();
            if !authority.is_some_and(|authority| is_authority(authority.as_str())) {
                return Err(Error::HttpRequestUriInvalid);
            }
            let connection = capture_connection(&mut request);
            let response = client.request(request);
            let response = tokio::select! {
                biased;
                response = tokio::time::timeout(first_byte, response) => response,
                // Nothing was sent; a time-out of the response would leave that open.
                () = no_connection(connection, connect) => return Err(Error::DestinationUnavailable),
            };
            let response = response.map_err(|_elapsed| Error::ConnectionReadTimeout)?;
            let response = response.map_err(|error| request_error(&error))?;
            let response = response.map(|body| body.map_err(Error::Hyper).boxed_unsync());
            // The client itself sends the body of the request to its end.
            let transferred: Transfer = Box::new(async { Ok(()) });
            Ok((response, transferred))
        })
    }
}

/// Ready if a request has no connection in time; pending for ever once it has one.
async fn no_connection(mut connection: CaptureConnection, timeout: Duration) {
    let connected = async { drop(connection.wait_for_connection_metadata().await) };
    if tokio::time::timeout(timeout, connected).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// The error of a request: `ConnectionRefused` only if there was no connection, so that nothing was sent.
fn request_error(error: &legacy::Error) -> Error {
    tracing::debug!(?error, "a component's request failed");
    if error.is_connect() || http_client::is_self_connection(error) {
        Error::ConnectionRefused
    } else {
        Error::ConnectionTerminated
    }
}
