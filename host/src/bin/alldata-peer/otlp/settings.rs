//! What the environment variables of OpenTelemetry say: <https://opentelemetry.io/docs/specs/otel/configuration/>.
//!
//! The libraries read the others themselves: those of headers, of sampling, of batches and of limits.

use std::env;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

/// The protocol of this exporter.
const PROTOCOL: &str = "http/protobuf";

/// The time-out of a request unless a variable sets another one: that of the specification.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of the service unless a variable sets another one, and the beginning of the name that the library has then.
const SERVICE: &str = "alldata-peer";
const UNNAMED_SERVICE: &str = "unknown_service";

/// A variable has a value that this program cannot use. Values may be secrets, and are not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub(crate) struct InvalidSetting {
    name: &'static str,
    reason: &'static str,
}

/// The settings of an exporter.
pub(super) struct Settings {
    endpoint: Uri,
    pub(super) timeout: Duration,
}

impl Settings {
    /// Reads the environment; `None` unless traces are to be exported.
    pub(super) fn read() -> Result<Option<Self>, InvalidSetting> {
        let is_disabled = env::var(DISABLED).is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let has_other_exporter = env::var(EXPORTER).is_ok_and(|value| value == "none");
        let Some((name, endpoint)) = first(ENDPOINTS)? else {
            return Ok(None);
        };
        if is_disabled || has_other_exporter {
            return Ok(None);
        }
        if let Some((name, protocol)) = first(PROTOCOLS)?
            && protocol != PROTOCOL
        {
            let reason = "the only protocol is http/protobuf";
            return Err(InvalidSetting { name, reason });
        }
        let endpoint = parse(&endpoint).map_err(|reason| InvalidSetting { name, reason })?;
        let timeout = first(TIMEOUTS)?.map(|(name, text)| {
            let reason = "it is a number of milliseconds";
            let millis = text.parse().map_err(|_| InvalidSetting { name, reason });
            millis.map(Duration::from_millis)
        });
        let timeout = timeout.transpose()?.unwrap_or(DEFAULT_TIMEOUT);
        Ok(Some(Self { endpoint, timeout }))
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_tls(&self) -> bool {
        self.endpoint.scheme() == Some(&Scheme::HTTPS)
    }

    /// The endpoint for the log, which may have a secret in its path or query.
    pub(super) fn endpoint_name(&self) -> String {
        let scheme = self.endpoint.scheme_str().unwrap_or_default();
        let host = self.endpoint.host().unwrap_or_default();
        match self.endpoint.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }
}

/// The first of these variables that is set. An empty one is not.
fn first(names: [&'static str; 2]) -> Result<Option<(&'static str, String)>, InvalidSetting> {
    for name in names {
        let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let reason = "it is not UTF-8";
        let value = value.into_string();
        return match value {
            Ok(value) => Ok(Some((name, value))),
            Err(_) => Err(InvalidSetting { name, reason }),
        };
    }
    Ok(None)
}

fn parse(endpoint: &str) -> Result<Uri, &'static str> {
    let reason = "an endpoint is http://HOST:PORT/PATH or https://HOST:PORT/PATH";
    let uri: Uri = endpoint.parse().map_err(|_| reason)?;
    let has_scheme = [Scheme::HTTP, Scheme::HTTPS]
        .iter()
        .any(|it| uri.scheme() == Some(it));
    let authority = uri
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let Some(authority) = authority.filter(|_| has_scheme) else {
        return Err(reason);
    };
    if authority.as_str().contains('@') {
        return Err("credentials are given by OTEL_EXPORTER_OTLP_HEADERS");
    }
    if cfg!(not(feature = "tls")) && uri.scheme() == Some(&Scheme::HTTPS) {
        return Err("this program was built without the feature `tls`");
    }
    Ok(uri)
}

/// What describes this process. Variables set its attributes and its name.
pub(super) fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let found = Resource::builder().build();
    let has = |name| found.get(&Key::from_static_str(name));
    let name = has("service.name").map(|name| name.to_string());
    let is_named = name.is_some_and(|name| !name.starts_with(UNNAMED_SERVICE));
    let mut builder = Resource::builder();
    if !is_named {
        builder = builder.with_service_name(SERVICE);
    }
    if has("service.version").is_none() {
        builder = builder.with_attribute(version);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn endpoint_is_an_http_url_without_credentials() {
        for endpoint in ["http://a:4318", "http://a/x?y", "http://[::1]:4318/"] {
            assert!(parse(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "a:4318",
            "ftp://a",
            "http://",
            "/x",
            "http://u:p@a:4318",
            "a b",
        ] {
            assert!(parse(endpoint).is_err(), "{endpoint}");
        }
    }
}
