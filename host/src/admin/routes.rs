//! The paths of the listener for operators.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, HOST};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;

use crate::admin::access;
use crate::admin::content::{method_not_allowed, response, text};
use crate::admin::exposition::{self, Format};
use crate::admin::options::AdminOptions;
use crate::admin::page;
use crate::admin::process::ProcessMetrics;
use crate::admin::status::Status;
use crate::server::Monitor;
#[cfg(feature = "tls")]
use crate::tls::TlsConfig;

/// The paths, for a person who meant another one.
const PATHS: &str = "the paths are /, /status.json, /livez, /readyz and /metrics\n";

/// Responds to operators.
pub(super) struct Routes {
    monitor: Monitor,
    options: AdminOptions,
    registry: Registry,
    /// Whether only names of this machine are taken as the host.
    is_loopback: bool,
}

/// The response to a request, whose body is not read. Made on a thread for blocking work, since files are looked
/// at, which may be on a disk that hangs.
pub(super) async fn respond<B>(
    routes: Arc<Routes>,
    request: Request<B>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    let (parts, _body) = request.into_parts();
    let respond = move || routes.respond(&parts, peer);
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
            is_loopback,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls(&self) -> Option<&TlsConfig> {
        self.options.tls.as_ref()
    }

    fn respond(&self, request: &Parts, peer: SocketAddr) -> Response<Full<Bytes>> {
        if self.is_loopback && !is_for_this_machine(&request.headers) {
            let reason = "the host of the request is neither an IP address nor localhost\n";
            return text(StatusCode::FORBIDDEN, reason);
        }
        if let Some(authorizer) = &self.options.authorizer
            && let Some(refusal) = access::refuse(&**authorizer, request, peer)
        {
            return refusal;
        }
        let path = request.uri.path();
        let file = page::find(path);
        let is_path = matches!(path, "/livez" | "/readyz" | "/metrics" | "/status.json");
        if !is_path && file.is_none() {
            return text(StatusCode::NOT_FOUND, PATHS);
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return method_not_allowed();
        }
        match (file, path) {
            (Some(file), _) => page::file(file),
            (None, "/livez") => text(StatusCode::OK, "ok\n"),
            (None, "/readyz") => self.ready(),
            (None, "/metrics") => self.metrics(&request.headers),
            (None, _) => self.status(),
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
