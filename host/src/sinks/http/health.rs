//! The health of a peer, as its listener for operators tells it: 200, or 503 with the reasons.

use alldata_peer_protocol::client::MAX_PROBLEM_BYTES;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Limited};
use hyper::{Method, StatusCode};

use super::{HttpPutError, HttpSink};

/// Why a peer is not known to be healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// It responded with another status code than 200.
    #[error("{status}: {reasons}")]
    NotReady {
        /// The status code.
        status: u16,
        /// The body of the response: the reasons, separated by semicolons.
        reasons: String,
    },
    /// There was no response, or the credentials were refused.
    #[error(transparent)]
    NoResponse(HttpPutError),
}

impl HttpSink {
    /// Asks the peer for its health: `GET` to the URL of this sink, which is that of `/readyz` or `/livez` then.
    ///
    /// # Errors
    ///
    /// When the response is another one than 200, or there is none.
    pub async fn check_health(&self) -> Result<(), HealthError> {
        let authorization = self.credentials.value();
        let response = self.request(Method::GET, Bytes::new(), authorization).await;
        let (parts, body) = response.map_err(HealthError::NoResponse)?.into_parts();
        let status = parts.status;
        if status == StatusCode::OK {
            return Ok(());
        }
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            return Err(HealthError::NoResponse(HttpPutError::Unauthorized {
                status: status.as_u16(),
            }));
        }
        let body = Limited::new(body, MAX_PROBLEM_BYTES).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let reasons: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        Err(HealthError::NotReady {
            status: status.as_u16(),
            reasons: reasons.join("; "),
        })
    }
}
