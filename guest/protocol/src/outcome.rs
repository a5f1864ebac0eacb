//! The outcomes of a request, and the response to each.
//!
//! The only place that has status codes and problem documents.

use alloc::format;
use alloc::string::{String, ToString};

use serde::Serialize;

use crate::decode::DecodeError;

/// The media type of every response that has a body (RFC 9457).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// The challenge of a response with 401 (RFC 6750, section 3).
const BEARER_CHALLENGE: &str = "Bearer realm=\"alldata-peer\"";

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The event is stored, now or by an earlier put of the same key and event.
    Stored,
    /// The request has no `Host`, more than one or a malformed one.
    InvalidHost,
    /// The request is refused before its method and its body are looked at.
    InvalidRequest(InvalidRequest),
    /// The request has no credentials, or credentials that are not valid.
    Unauthorized {
        /// Whether it has a token, which is not valid.
        has_token: bool,
    },
    /// The body has this content coding, other than `identity`.
    UnsupportedContentCoding(String),
    /// The body has a transfer coding other than `chunked`.
    UnsupportedTransferCoding,
    /// The method is not `POST`.
    MethodNotAllowed,
    /// The body is not a `_put`.
    Malformed(DecodeError),
    /// The body ended before its end, or its transfer coding is malformed.
    IncompleteBody,
    /// The body is larger than the limit.
    ContentTooLarge {
        /// The limit in bytes, where it is known.
        limit: Option<u64>,
    },
    /// The body did not arrive in time.
    RequestTimeout,
    /// The key holds a different event.
    Conflict,
    /// The sink refuses this event for good, for this reason.
    Rejected(String),
    /// The sink or the server failed. The reason is in the log, never in the response.
    Failed,
    /// The sink or the server cannot store the event now.
    Unavailable {
        /// After how many seconds to try again.
        retry_after_seconds: u32,
    },
    /// The event may or may not be stored.
    Unknown,
}

/// Why a request is refused before its method and its body are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidRequest {
    /// It is not valid HTTP/1.1.
    Syntax,
    /// Its target has a form that is not allowed with its method.
    Target,
    /// Its target is larger than the limit.
    UriTooLong,
    /// Its header section is larger than the limit, or has too many fields.
    HeaderFieldsTooLarge,
    /// It is not HTTP/1.
    Version,
    /// It is sent in plain HTTP to a port for TLS.
    PlainHttp,
}

/// A response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code of RFC 9110.
    pub status: u16,
    /// A header field other than those of the body: its name in lower case, and its value.
    pub header: Option<(&'static str, String)>,
    /// The problem in the body; a success has none.
    pub problem: Option<Problem>,
}

/// A problem document (RFC 9457). Its type is `about:blank`, so it has no member `type` and its
/// title is the phrase of the status code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The phrase of the status code.
    pub title: &'static str,
    /// The status code again.
    pub status: u16,
    /// One sentence that a person can act on.
    pub detail: String,
    /// Whether the event of this request may be in the store because of it.
    pub stored: Stored,
    /// Whether the same put may succeed later.
    pub retry: bool,
}

/// Whether a request that was not acknowledged may still have stored its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// It has not.
    No,
    /// It may or may not have.
    Unknown,
}

impl Outcome {
    /// The response to this outcome.
    #[must_use]
    pub fn response(&self) -> Response {
        use Stored::{No, Unknown};
        match self {
            Self::Stored => Response {
                status: 201,
                header: None,
                problem: None,
            },
            Self::InvalidHost => {
                let detail =
                    "The request must have exactly one field Host: a host, and maybe a port.";
                problem(400, "Bad Request", detail, No, false)
            }
            Self::InvalidRequest(error) => {
                let (status, title, detail) = error.problem();
                problem(status, title, detail, No, false)
            }
            Self::Unauthorized { has_token } => unauthorized(*has_token),
            Self::UnsupportedContentCoding(coding) => {
                let detail =
                    format!("The body has the content coding {coding}: only identity is taken.");
                problem(415, "Unsupported Media Type", &detail, No, false)
                    .with("accept-encoding", "identity".into())
            }
            Self::UnsupportedTransferCoding => {
                let detail = "The only transfer coding that is known here is chunked.";
                problem(501, "Not Implemented", detail, No, false)
            }
            Self::MethodNotAllowed => {
                let detail = "Only POST puts an event here.";
                problem(405, "Method Not Allowed", detail, No, false).with("allow", "POST".into())
            }
            Self::Malformed(error) => problem(400, "Bad Request", &error.to_string(), No, false),
            Self::IncompleteBody => {
                let detail = "The body did not arrive whole: it was cut off, or its transfer coding is malformed.";
                problem(400, "Bad Request", detail, No, true)
            }
            Self::ContentTooLarge { limit } => {
                let detail = match limit {
                    Some(limit) => format!("The body has more than {limit} bytes, the limit."),
                    None => "The body is larger than the limit.".to_string(),
                };
                problem(413, "Content Too Large", &detail, No, false)
            }
            Self::RequestTimeout => {
                let detail = "The body did not arrive in time.";
                problem(408, "Request Timeout", detail, No, true)
            }
            Self::Conflict => {
                let detail = "The key already holds a different event, which stays.";
                problem(409, "Conflict", detail, No, false)
            }
            Self::Rejected(reason) => problem(422, "Unprocessable Content", reason, No, false),
            Self::Failed => {
                let detail = "The server failed; its log says why. The same put may be sent again.";
                problem(500, "Internal Server Error", detail, Unknown, true)
            }
            Self::Unavailable {
                retry_after_seconds: seconds,
            } => {
                let detail = format!("The event can't be taken now: try again in {seconds} s.");
                problem(503, "Service Unavailable", &detail, No, true)
                    .with("retry-after", seconds.to_string())
            }
            Self::Unknown => {
                let detail = "The event may or may not be stored. The same put may be sent again.";
                problem(504, "Gateway Timeout", detail, Unknown, true)
            }
        }
    }
}

/// The response to a request without a valid token.
fn unauthorized(has_token: bool) -> Response {
    let (detail, challenge) = if has_token {
        let detail = "The token in the field Authorization is not valid here.";
        (
            detail,
            format!("{BEARER_CHALLENGE}, error=\"invalid_token\""),
        )
    } else {
        let detail = "The request needs a token in its field Authorization: Bearer, and the token.";
        (detail, BEARER_CHALLENGE.to_string())
    };
    problem(401, "Unauthorized", detail, Stored::No, false).with("www-authenticate", challenge)
}

impl InvalidRequest {
    /// The status code, its phrase, and the detail.
    fn problem(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Syntax => (
                400,
                "Bad Request",
                "The request is malformed: it is no HTTP/1.1.",
            ),
            Self::Target => (
                400,
                "Bad Request",
                "The request target is none that this method may have.",
            ),
            Self::UriTooLong => (
                414,
                "URI Too Long",
                "The request target is larger than the limit.",
            ),
            Self::HeaderFieldsTooLarge => (
                431,
                "Request Header Fields Too Large",
                "The header fields are larger than the limit, or too many.",
            ),
            Self::PlainHttp => (
                400,
                "Bad Request",
                "This port speaks TLS, and the request was sent in plain HTTP: use https.",
            ),
            Self::Version => (
                505,
                "HTTP Version Not Supported",
                "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
            ),
        }
    }
}

/// A response with a problem.
fn problem(
    status: u16,
    title: &'static str,
    detail: &str,
    stored: Stored,
    retry: bool,
) -> Response {
    Response {
        status,
        header: None,
        problem: Some(Problem {
            title,
            status,
            detail: detail.to_string(),
            stored,
            retry,
        }),
    }
}

impl Response {
    /// The body: the problem as JSON, or nothing.
    #[must_use]
    pub fn body(&self) -> String {
        self.problem
            .as_ref()
            .map(Problem::to_json)
            .unwrap_or_default()
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl Problem {
    /// The document as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and booleans always serialize")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{InvalidRequest, Outcome, Stored};
    use crate::decode::DecodeError;

    #[test]
    fn outcomes_have_the_status_of_the_protocol() {
        use Stored::{No, Unknown};
        let retry_after_seconds = 7;
        for (outcome, status, stored, retry) in [
            (Outcome::InvalidHost, 400, No, false),
            (Outcome::Unauthorized { has_token: false }, 401, No, false),
            (Outcome::Unauthorized { has_token: true }, 401, No, false),
            (
                Outcome::UnsupportedContentCoding("gzip".into()),
                415,
                No,
                false,
            ),
            (Outcome::MethodNotAllowed, 405, No, false),
            (Outcome::Malformed(DecodeError::Empty), 400, No, false),
            (Outcome::IncompleteBody, 400, No, true),
            (Outcome::ContentTooLarge { limit: Some(9) }, 413, No, false),
            (Outcome::ContentTooLarge { limit: None }, 413, No, false),
            (Outcome::RequestTimeout, 408, No, true),
            (Outcome::Conflict, 409, No, false),
            (Outcome::Rejected("No.".into()), 422, No, false),
            (Outcome::Failed, 500, Unknown, true),
            (
                Outcome::Unavailable {
                    retry_after_seconds,
                },
                503,
                No,
                true,
            ),
            (Outcome::Unknown, 504, Unknown, true),
        ] {
            let response = outcome.response();
            let problem = response.problem.expect("is a problem");
            assert_eq!((response.status, problem.status), (status, status));
            assert_eq!(
                (problem.stored, problem.retry),
                (stored, retry),
                "{outcome:?}"
            );
            assert!(problem.detail.ends_with('.'), "{outcome:?}");
        }
        let created = Outcome::Stored.response();
        assert_eq!((created.status, created.problem), (201, None));
    }

    #[test]
    fn invalid_request_is_not_stored() {
        for (error, status) in [
            (InvalidRequest::Syntax, 400),
            (InvalidRequest::Target, 400),
            (InvalidRequest::UriTooLong, 414),
            (InvalidRequest::HeaderFieldsTooLarge, 431),
            (InvalidRequest::Version, 505),
            (InvalidRequest::PlainHttp, 400),
        ] {
            let response = Outcome::InvalidRequest(error).response();
            let problem = response.problem.expect("is a problem");
            assert_eq!((response.status, problem.status), (status, status));
            assert_eq!((problem.stored, problem.retry), (Stored::No, false));
        }
    }

    #[test]
    fn four_responses_have_a_header_field() {
        let challenge = |has_token| Outcome::Unauthorized { has_token }.response().header;
        let bearer = "Bearer realm=\"alldata-peer\"";
        assert_eq!(
            challenge(false),
            Some(("www-authenticate", bearer.to_string()))
        );
        let invalid = alloc::format!("{bearer}, error=\"invalid_token\"");
        assert_eq!(challenge(true), Some(("www-authenticate", invalid)));
        let coding = Outcome::UnsupportedContentCoding("gzip".into()).response();
        assert_eq!(
            coding.header,
            Some(("accept-encoding", "identity".to_string()))
        );
        let allow = Outcome::MethodNotAllowed.response().header;
        assert_eq!(allow, Some(("allow", "POST".to_string())));
        let unavailable = Outcome::Unavailable {
            retry_after_seconds: 7,
        };
        assert_eq!(
            unavailable.response().header,
            Some(("retry-after", "7".to_string()))
        );
    }

    #[test]
    fn problem_is_a_document_of_rfc_9457() {
        let problem = Outcome::Conflict.response().problem.expect("is a problem");
        let detail = "The key already holds a different event, which stays.";
        assert_eq!(
            problem.to_json(),
            alloc::format!(
                r#"{{"title":"Conflict","status":409,"detail":"{detail}","stored":"no","retry":false}}"#
            )
        );
    }
}
