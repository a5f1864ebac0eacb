//! A request that had no response with 201, as it is logged.

use std::net::IpAddr;

use alldata_peer_protocol::outcome::Outcome;
use serde::Deserialize;

use crate::sink::PutError;
use crate::sink::reason::Reason;
use crate::util::request_id::RequestId;

/// The most bytes of a key that are logged: the longest key fits.
const MAX_KEY_BYTES: usize = 1024;

/// The most bytes of a client's name that are logged: that of a host fits.
const MAX_CLIENT_BYTES: usize = 255;

/// The most bytes of a detail that are logged. It may be the text of a component.
const MAX_DETAIL_BYTES: usize = 512;

/// A refused request, as it is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    /// `None` until it is counted.
    pub(crate) request_id: Option<RequestId>,
    /// The address of the client, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// The name of the client, if it is known.
    pub(crate) client: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) detail: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: reason.describe().status,
            request_id: None,
            address: None,
            client: None,
            key: None,
            detail: None,
        }
    }

    /// The refusal of a request to which the host responds without a guest.
    pub(crate) fn from_outcome(outcome: &Outcome) -> Self {
        let response = outcome.response();
        let detail = response
            .problem
            .map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES));
        let status = response.status;
        let (reason, detail) = match outcome {
            // If the sink has failed, the dispatcher has recorded the detail; if a guest has, its caller
            // has logged it.
            Outcome::Unavailable { .. } => (Reason::TooManyInFlight, None),
            Outcome::Unknown => (Reason::Timeout, None),
            Outcome::Failed => (Reason::Failed, None),
            _ => (Reason::from_status(status), detail),
        };
        Self {
            reason,
            status,
            request_id: None,
            address: None,
            client: None,
            key: None,
            detail,
        }
    }

    /// The refusal of a response of a component, with or without a problem document.
    pub(crate) fn from_response(status: u16, problem: &str) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let problem: Option<Problem> = serde_json::from_str(problem).ok();
        Self {
            reason: Reason::from_status(status),
            status,
            request_id: None,
            address: None,
            client: None,
            key: None,
            detail: problem.map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES)),
        }
    }

    /// The same, with the id of the request, and the address and the name of its client.
    pub(crate) fn of_request(
        self,
        id: RequestId,
        address: Option<IpAddr>,
        client: Option<&str>,
    ) -> Self {
        Self {
            request_id: Some(id),
            address,
            client: client.map(|name| printable(name, MAX_CLIENT_BYTES)),
            ..self
        }
    }

    /// The refusal of a put that the sink did not acknowledge.
    pub(crate) fn from_put_error(
        error: &PutError,
        key: &str,
        unavailable: impl FnOnce() -> Reason,
    ) -> Self {
        let (reason, detail) = match error {
            PutError::Conflict => (Reason::Conflict, None),
            PutError::Rejected(text) => (Reason::Rejected, Some(text)),
            PutError::Unavailable { .. } => (unavailable(), None),
            PutError::Unknown => (Reason::Unknown, None),
            PutError::Failed(text) => (Reason::Failed, Some(text)),
        };
        Self {
            key: Some(printable(key, MAX_KEY_BYTES)),
            detail: detail.map(|text| printable(text, MAX_DETAIL_BYTES)),
            ..Self::new(reason)
        }
    }
}

/// Bounds and escapes text for the log. Characters up to U+007E are left to the log, which escapes control
/// characters.
fn printable(text: &str, max_bytes: usize) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        if printable.len() + char.len_utf8() > max_bytes {
            printable.push('…');
            break;
        }
        match char {
            '\0'..='~' => printable.push(char),
            _ => printable.extend(char.escape_debug()),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::{MAX_DETAIL_BYTES, Refusal, printable};
    use crate::sink::reason::Reason;

    #[test]
    fn problem_detail_is_bounded_and_escaped() {
        let refusal = Refusal::from_response(400, r#"{"detail":"It is no é\u009bJSON."}"#);
        assert_eq!(refusal.reason, Reason::BadRequest);
        assert_eq!(refusal.detail.as_deref(), Some("It is no é\\u{9b}JSON."));
        assert_eq!(Refusal::from_response(418, "tea").detail, None);
        let long = printable(&"é".repeat(MAX_DETAIL_BYTES), MAX_DETAIL_BYTES);
        assert_eq!(long, "é".repeat(MAX_DETAIL_BYTES / 2) + "…");
    }
}
