//! The server as a service: responds to requests that another HTTP server has read.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use alldata_peer_protocol::outcome::Outcome;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::uri::Scheme;
use hyper::{HeaderMap, Request, Response};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::server::context::ServerContext;
use crate::server::request_body::{BoxError, RequestBody};
use crate::server::response::respond;
use crate::server::service::PeerService;
use crate::server::shutdown::{Phase, Shutdown};
use crate::sink::BUSY_RETRY_SECONDS;
use crate::util::request_id::RequestId;

/// A [`tower_service::Service`] and [`hyper::service::Service`] that responds to puts, for a router such as axum's
/// or for any other HTTP server; see [`PeerServer::service`](crate::PeerServer::service).
///
/// ```
/// use alldata_peer_server_http::{PeerServer, sinks};
/// use axum::Router;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let stop = async {};
/// let peer = PeerServer::builder()
///     .sink(sinks::open("memory:").await?)
///     .build()
///     .await?;
/// let router: Router = Router::new().route_service("/_put", peer.service());
/// axum::serve(listener, router).with_graceful_shutdown(stop).await?;
/// peer.close().await;
/// # Ok(())
/// # }
/// ```
///
/// [`close`](crate::PeerServer::close) awaits the requests of the service. Those that come later get 503, as after the
/// server was dropped, so end the HTTP server first.
///
/// Every request is a put, whatever its path. Clones are cheap, and serve for the same server. The service must be
/// called on a Tokio runtime with time enabled. It is always ready: instead of waiting it responds with 503.
///
/// # Protections
///
/// These hold as on a connection of the server itself: the authorizer; `max_body_bytes`, `max_buffered_bytes`,
/// `body_timeout` and `min_body_rate` of [`Limits`](crate::Limits); `max_concurrent_requests`; the limits of
/// the component; the time-out of the sink; the log and the metrics of requests. A body that ends with an error is
/// never put. A put whose body was read to its end is carried out, even if the future is dropped. A body that exceeds
/// the limit of a layer above ([`http_body_util::Limited`]) is refused with 413.
///
/// The HTTP server that reads the requests has to take care of:
///
/// * connections: their number, idle ones (`idle_timeout`), and their metrics;
/// * header sections: `max_header_bytes`, `max_headers`, `header_read_timeout`;
/// * the framing of messages. The listeners of this crate refuse requests that two servers could read in two ways, and
///   limit the bytes of chunk framing; hyper alone does less. `Host` and the form of the target are not checked here;
/// * clients that get a response while they still send: on HTTP/1 the response has `Connection: close` where the
///   rest of the request is not read, and the rest is read for a while if the service was not shut down. Lingering
///   after the last response is up to the HTTP server;
/// * responses that are read slowly.
///
/// # Extensions of a request
///
/// [`ClientAddress`] tells the address at the other end of the connection, for the authorizer, the log and a sink. If it
/// is that of a proxy that [`trusted_proxies`](crate::PeerServerBuilder::trusted_proxies) names, the proxy's field tells
/// the client. [`Identity`] names a client that a layer above has authenticated, for the log and a sink; an authorizer
/// replaces it.
///
/// [`Identity`]: crate::Identity
#[derive(Clone)]
pub struct PutService {
    /// Does not keep the sink open once the server was dropped.
    context: Weak<ServerContext>,
    shutdown: Arc<Shutdown>,
}

/// The address at the other end of a connection, as an extension of a request to a [`PutService`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// The body of a response of a [`PutService`].
pub struct ResponseBody(Either<Full<Bytes>, HyperOutgoingBody>);

/// The future of a response of a [`PutService`].
type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

impl PutService {
    pub(crate) fn new(context: &Arc<ServerContext>, shutdown: &Arc<Shutdown>) -> Self {
        Self {
            context: Arc::downgrade(context),
            shutdown: Arc::clone(shutdown),
        }
    }

    async fn respond(self, request: Request<RequestBody>) -> Response<ResponseBody> {
        let Some(server) = self.context.upgrade() else {
            return refuse(request.headers());
        };
        // Taken before the check, so that a server that closes at the same time waits for this request. It is dropped
        // after what refers to the server, so that the sink is not dropped after the server.
        let _token = server.tasks.token();
        if self.shutdown.has_begun(Phase::Draining) {
            drop(server);
            return refuse(request.headers());
        }
        let extensions = request.extensions();
        let peer = extensions.get().map(|ClientAddress(address)| *address);
        let is_tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        let context = server.detached_request(peer, is_tls);
        drop(server);
        let service = PeerService(Arc::clone(&context));
        let response = service.call_unframed(request, &self.shutdown).await;
        response.map(ResponseBody)
    }

    fn call<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let responding = self.clone().respond(request.map(RequestBody::other));
        Box::pin(async move { Ok(responding.await) })
    }
}

/// The response to a request that comes after the end of the server.
fn refuse(headers: &HeaderMap) -> Response<ResponseBody> {
    let unavailable = Outcome::Unavailable {
        retry_after_seconds: BUSY_RETRY_SECONDS,
    };
    let id = RequestId::from_traceparent(headers).unwrap_or_else(RequestId::random);
    respond(&unavailable, id).map(ResponseBody)
}

impl<B> tower_service::Service<Request<B>> for PutService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        Self::call(self, request)
    }
}

impl<B> hyper::service::Service<Request<B>> for PutService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<B>) -> ResponseFuture {
        Self::call(self, request)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for PutService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PutService").finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResponseBody")
            .finish_non_exhaustive()
    }
}
