//! The errors of the sink `http:`, and their meaning for the client of this server.

use alldata_peer_protocol::client::{DEFAULT_RETRY_SECONDS, PeerError};

use crate::sink::PutError;

/// Why another peer did not acknowledge a put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpPutError {
    /// The peer responded with this error.
    #[error(transparent)]
    Refused(PutError),
    /// The peer, or a proxy before it, refused the credentials or the lack of them, so nothing is stored.
    #[error("the credentials are refused with {status}")]
    Unauthorized {
        /// The status code: 401 or 403.
        status: u16,
    },
    /// There was no connection, so nothing is stored.
    #[error("no connection: {reason}")]
    NotConnected {
        /// The error of the system.
        reason: String,
    },
    /// The put was sent, but there was no response, so the event may or may not be stored.
    #[error("no response: {reason}")]
    Lost {
        /// The error of the connection.
        reason: String,
    },
}

impl From<HttpPutError> for PutError {
    fn from(error: HttpPutError) -> Self {
        match error {
            HttpPutError::Refused(error) => error,
            // As after a response with 503 and without `Retry-After`. Another token may be accepted.
            HttpPutError::NotConnected { .. } | HttpPutError::Unauthorized { .. } => {
                Self::Unavailable {
                    retry_after_seconds: DEFAULT_RETRY_SECONDS,
                }
            }
            HttpPutError::Lost { .. } => Self::Unknown,
        }
    }
}

impl From<PeerError> for PutError {
    fn from(refusal: PeerError) -> Self {
        match refusal {
            PeerError::Conflict => Self::Conflict,
            PeerError::Rejected(reason) | PeerError::NotAccepted(reason) => Self::Rejected(reason),
            PeerError::Unavailable {
                retry_after_seconds,
            } => Self::Unavailable {
                retry_after_seconds,
            },
            PeerError::Unknown => Self::Unknown,
            PeerError::Failed(reason) => Self::Failed(reason),
        }
    }
}
