//! The HTTP requests that a component makes through `wasi:http/outgoing-handler`.
//!
//! Connections are pooled. There is no TLS, as on the server itself, and no request is retried.

use std::time::Duration;

use alldata_peer_protocol::client::is_authority;
use http_body_util::BodyExt as _;
use hyper::http::uri::Scheme;
use hyper::{Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::util::http_client::{self, CONNECT_TIMEOUT, HttpClient};

/// How long to wait for the header section of a response, unless the component sets another time.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);

/// An HTTP client; clones share their connections.
#[derive(Clone)]
pub(crate) struct OutboundHttp(HttpClient<WasiBody>);

type HttpResult<T> = Result<T, Error>;

/// How the body of an outgoing request ends.
type Transfer = Box<dyn Future<Output = HttpResult<()>> + Send>;

impl OutboundHttp {
    pub(crate) fn new() -> Self {
        // A component may set a connect time-out for each request.
        Self(http_client::new(None))
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Transfer,
    ) -> Box<dyn Future<Output = HttpResult<(Response<WasiBody>, Transfer)>> + Send> {
        let Self(client) = self.clone();
        let given = options.as_ref();
        let connect = given.and_then(|options| options.connect_timeout);
        let connect = connect.unwrap_or(CONNECT_TIMEOUT);
        let first_byte = given.and_then(|options| options.first_byte_timeout);
        let first_byte = first_byte.unwrap_or(FIRST_BYTE_TIMEOUT);
        Box::new(async move {
            if request.uri().scheme() != Some(&Scheme::HTTP) {
                let host = request.uri().host();
                tracing::warn!(host, "a component may only make http: requests");
                return Err(Error::HttpRequestDenied);
            }
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
