//! The paths of the listener for operators.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, HOST};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;

use crate::admin::content::{method_not_allowed, respond, text};
use crate::admin::exposition::{self, Format};
use crate::admin::process::ProcessMetrics;
use crate::server::Monitor;

/// Responds to operators.
pub(super) struct Routes {
    monitor: Monitor,
    registry: Registry,
}

impl Routes {
    pub(super) fn new(monitor: Monitor) -> Self {
        let mut registry = Registry::default();
        monitor.register(&mut registry);
        registry.register_collector(Box::new(ProcessMetrics));
        Self { monitor, registry }
    }

    /// The response to a request, whose body is not read.
    pub(super) fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !is_for_this_machine(request.headers()) {
            let reason = "the host of the request is neither an IP address nor localhost\n";
            return text(StatusCode::FORBIDDEN, reason);
        }
        let path = request.uri().path();
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            return text(
                StatusCode::NOT_FOUND,
                "the paths are /livez, /readyz and /metrics\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed();
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            _ => self.metrics(request.headers()),
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
            Ok(metrics) => respond(StatusCode::OK, format.media_type(), metrics),
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
