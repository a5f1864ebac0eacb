//! Why a peer did not acknowledge a put, and what both versions of `wasi:http` have in common.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use alldata_peer_protocol::client::{DEFAULT_RETRY_SECONDS, PeerError, read_response};
#[cfg(not(feature = "wasi-0-3"))]
use wasip2::http::types::ErrorCode;
#[cfg(feature = "wasi-0-3")]
use wasip3::http::types::ErrorCode;

/// Why a peer did not acknowledge a put.
pub(crate) struct PutFailure {
    pub(crate) error: PeerError,
    /// The reason for the log, where there is more than the response.
    pub(crate) reason: Option<String>,
}

impl PutFailure {
    pub(crate) fn new(error: PeerError, reason: impl Into<String>) -> Self {
        Self {
            error,
            reason: Some(reason.into()),
        }
    }

    /// The same failure where it is certain that the event is not stored.
    pub(crate) fn not_stored(self) -> Self {
        match self.error {
            PeerError::Unknown => Self {
                error: PeerError::Unavailable {
                    retry_after_seconds: DEFAULT_RETRY_SECONDS,
                },
                ..self
            },
            _ => self,
        }
    }

    /// The request was sent, and no response arrived.
    pub(crate) fn lost(reason: &str) -> Self {
        Self::new(PeerError::Unknown, reason)
    }
}

/// The header fields of a put with a body of this length in bytes.
pub(crate) fn fields(token: Option<&str>, length: usize) -> Vec<(String, Vec<u8>)> {
    let mut fields = alloc::vec![
        ("content-type".to_string(), b"application/json".to_vec()),
        (
            "content-length".to_string(),
            length.to_string().into_bytes()
        ),
    ];
    if let Some(token) = token {
        fields.push((
            "authorization".to_string(),
            format!("Bearer {token}").into_bytes(),
        ));
    }
    fields
}

/// The result of a put by the parts of its response.
pub(crate) fn read_result(
    status: u16,
    retry_after: Option<Vec<u8>>,
    text: &[u8],
) -> Result<(), PutFailure> {
    let retry_after = retry_after.and_then(|value| String::from_utf8(value).ok());
    read_response(status, retry_after.as_deref(), text).map_err(|error| PutFailure {
        reason: match &error {
            PeerError::Failed(reason) => Some(reason.clone()),
            _ => None,
        },
        error,
    })
}

/// Whether the request may have reached the peer, by the error of `wasi:http`.
///
/// Only errors that every platform reports before it sends mean that nothing was sent. A connection
/// time-out is not one of them: one platform reports it for a late response.
pub(crate) fn classify_error(code: &ErrorCode) -> PutFailure {
    let unavailable = |reason| {
        let error = PeerError::Unavailable {
            retry_after_seconds: DEFAULT_RETRY_SECONDS,
        };
        PutFailure::new(error, reason)
    };
    let failed = |reason: &str| PutFailure::new(PeerError::Failed(reason.into()), reason);
    match code {
        ErrorCode::DnsTimeout | ErrorCode::DnsError(_) => unavailable("its name does not resolve"),
        ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpProhibited
        | ErrorCode::DestinationIpUnroutable => unavailable("there is no way to it"),
        ErrorCode::ConnectionRefused => unavailable("it refused the connection"),
        ErrorCode::ConnectionLimitReached => unavailable("there are too many connections"),
        ErrorCode::TlsCertificateError => unavailable("its certificate is not valid"),
        ErrorCode::HttpRequestDenied => failed("the platform does not allow requests to it"),
        ErrorCode::HttpRequestUriInvalid => failed("the platform does not take its URL"),
        ErrorCode::InternalError(Some(reason)) => PutFailure::new(PeerError::Unknown, &**reason),
        _ => PutFailure::lost("the connection was lost"),
    }
}
