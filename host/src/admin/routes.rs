//! The paths of the listener for operators.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, HOST};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::admin::access;
use crate::admin::content::{method_not_allowed, response, text};
use crate::admin::exposition::{self, Format};
use crate::admin::options::AdminOptions;
use crate::admin::page;
use crate::admin::process::ProcessMetrics;
use crate::admin::status::Status;
use crate::server::Monitor;
#[cfg(feature = "tls")]
use crate::util::tls::TlsConfig;

/// The paths, for a person who meant another one.
const PATHS: &str = "the paths are /, /status.json, /livez, /readyz and /metrics\n";

/// How many responses are made at a time on threads for blocking work, which the server needs too. Further requests
/// wait.
const MAX_BLOCKING: usize = 8;

/// Responds to operators.
pub(super) struct Routes {
    monitor: Monitor,
    options: AdminOptions,
    registry: Registry,
    /// Permits for threads for blocking work.
    blocking: Arc<Semaphore>,
    /// Whether only names of this machine are taken as the host.
    is_loopback: bool,
}

/// How a request is answered.
enum Route {
    AtOnce(Response<Full<Bytes>>),
    Query(Query),
}

/// The state of a server that a request asks for.
#[derive(Debug, Clone, Copy)]
enum Query {
    Ready,
    Metrics,
    Status,
}

/// The response to a request, whose body is not read. A query is answered on a thread for blocking work, since it
/// asks a sink for its health and reads files of the system; the permit is held until it ends, even if the operator
/// has gone. All else is answered without waiting.
pub(super) async fn respond<B>(
    routes: Arc<Routes>,
    request: Request<B>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    let (parts, _body) = request.into_parts();
    let query = match routes.route(&parts, peer) {
        Route::Query(query) => query,
        Route::AtOnce(response) => return response,
    };
    let permit = Arc::clone(&routes.blocking).acquire_owned().await;
    let respond = move || {
        let response = routes.answer(query, &parts.headers);
        drop(permit);
        response
    };
    let responded = tokio::task::spawn_blocking(respond).await;
    responded.unwrap_or_else(|error| {
        tracing::error!(%error, "a request of an operator failed");
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request failed, see the log\n",
        )
    })
}

impl Routes {
    pub(super) fn new(monitor: Monitor, options: AdminOptions, is_loopback: bool) -> Self {
        let mut registry = Registry::default();
        monitor.register(&mut registry);
        registry.register_collector(Box::new(ProcessMetrics));
        Self {
            monitor,
            options,
            registry,
            blocking: Arc::new(Semaphore::new(MAX_BLOCKING)),
            is_loopback,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&TlsConfig> {
        self.options.tls.as_ref()
    }

    fn route(&self, request: &Parts, peer: SocketAddr) -> Route {
        if self.is_loopback && !is_for_this_machine(&request.headers) {
            let reason = "the host of the request is neither an IP address nor localhost\n";
            return Route::AtOnce(text(StatusCode::FORBIDDEN, reason));
        }
        if let Some(authorizer) = &self.options.authorizer
            && let Some(refusal) = access::refuse(&**authorizer, request, peer)
        {
            return Route::AtOnce(refusal);
        }
        let path = request.uri.path();
        let found = match (page::find(path), path) {
            (Some(file), _) => Route::AtOnce(page::file(file)),
            (None, "/livez") => Route::AtOnce(text(StatusCode::OK, "ok\n")),
            (None, "/readyz") => Route::Query(Query::Ready),
            (None, "/metrics") => Route::Query(Query::Metrics),
            (None, "/status.json") => Route::Query(Query::Status),
            (None, _) => return Route::AtOnce(text(StatusCode::NOT_FOUND, PATHS)),
        };
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Route::AtOnce(method_not_allowed());
        }
        found
    }

    fn answer(&self, query: Query, headers: &HeaderMap) -> Response<Full<Bytes>> {
        match query {
            Query::Ready => self.ready(),
            Query::Metrics => self.metrics(headers),
            Query::Status => self.status(),
        }
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let status = Status::of(&self.monitor, self.options.shows_events);
        match serde_json::to_vec(&status) {
            Ok(status) => response(StatusCode::OK, "application/json", status),
            Err(error) => {
                tracing::error!(%error, "cannot encode the status");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the status cannot be encoded\n",
                )
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let health = self.monitor.health();
        if health.is_ready() {
            return text(StatusCode::OK, "ok\n");
        }
        let reasons = health.reasons.iter();
        let reasons: String = reasons.map(|reason| format!("{reason}\n")).collect();
        text(StatusCode::SERVICE_UNAVAILABLE, reasons)
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let accepted = headers.get_all(ACCEPT).iter();
        let format = Format::of_accept(accepted.filter_map(|value| value.to_str().ok()));
        match exposition::encode(&self.registry, format) {
            Ok(metrics) => response(StatusCode::OK, format.media_type(), metrics),
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the metrics cannot be encoded\n",
                )
            }
        }
    }
}

/// Whether the host of a request is an IP address or `localhost`. A page of another site that a browser on this
/// machine shows could otherwise read the responses, under a name that it has resolve to this machine.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else {
        return true;
    };
    let authority = host.to_str().ok();
    let authority = authority.and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
    authority.is_some_and(|authority| {
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
    })
}
