//! The requests that a component makes: `wasi:http/outgoing-handler`.
//!
//! Keeps connections for the next request. Speaks no TLS, as the server itself does not, and
//! never sends a request twice.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::http::uri::Scheme;
use hyper::{Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// How long to wait for a connection where the component does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept: less than most servers keep it, so that it is rarely
/// closed just as it is taken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the head of an answer where the component does not say.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);

/// Makes requests; clones share their connections.
#[derive(Clone)]
pub(crate) struct OutgoingRequests(Arc<Client<HttpConnector, WasiBody>>);

type HttpResult<T> = Result<T, Error>;

/// How the body of an outgoing request ends.
type Transfer = Box<dyn Future<Output = HttpResult<()>> + Send>;

impl OutgoingRequests {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self(Arc::new(client))
    }
}

impl WasiHttpHooks for OutgoingRequests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Transfer,
    ) -> Box<dyn Future<Output = HttpResult<(Response<WasiBody>, Transfer)>> + Send> {
        let Self(client) = self.clone();
        let timeout = options.and_then(|options| options.first_byte_timeout);
        let timeout = timeout.unwrap_or(FIRST_BYTE_TIMEOUT);
        Box::new(async move {
            if request.uri().scheme() != Some(&Scheme::HTTP) {
                tracing::warn!(uri = %request.uri(), "a component may only make http: requests");
                return Err(Error::HttpRequestDenied);
            }
            let response = tokio::time::timeout(timeout, client.request(request)).await;
            let response = response.map_err(|_elapsed| Error::ConnectionReadTimeout)?;
            let response = response.map_err(|error| failed(&error))?;
            let response = response.map(|body| body.map_err(Error::Hyper).boxed_unsync());
            // The client itself sees the body of the request through.
            let transferred: Transfer = Box::new(async { Ok(()) });
            Ok((response, transferred))
        })
    }
}

/// What became of a request. Only where there was no connection, nothing was sent.
fn failed(error: &legacy::Error) -> Error {
    tracing::debug!(?error, "a component's request failed");
    match error.is_connect() {
        true => Error::ConnectionRefused,
        false => Error::ConnectionTerminated,
    }
}
