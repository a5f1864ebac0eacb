//! One request that was not answered with 201, as the log shows it.

use alldata_peer_protocol::outcome::Outcome;
use serde::Deserialize;

use crate::sink::PutError;
use crate::sink::reason::Reason;

/// How many bytes of a key are logged: all of the longest key.
const MAX_KEY_BYTES: usize = 1024;

/// How many bytes of a detail are logged. It may be the text of a foreign component.
const MAX_DETAIL_BYTES: usize = 512;

/// One refused request, as far as the log tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) status: u16,
    pub(crate) key: Option<String>,
    pub(crate) detail: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: reason.describe().status,
            key: None,
            detail: None,
        }
    }

    /// That of an outcome that the host answers itself.
    pub(crate) fn of_outcome(outcome: &Outcome) -> Self {
        let answer = outcome.response();
        let detail = answer
            .problem
            .map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES));
        let status = answer.status;
        let (reason, detail) = match outcome {
            // Where the sink has failed, `put_sink` tells more; where it is a guest, its caller.
            Outcome::Unavailable { .. } => (Reason::TooManyInFlight, None),
            Outcome::Unknown => (Reason::Timeout, None),
            Outcome::Failed => (Reason::Failed, None),
            _ => (Reason::of_status(status), detail),
        };
        Self {
            reason,
            status,
            key: None,
            detail,
        }
    }

    /// That of an answer of a component with a problem document, or with something else.
    pub(crate) fn of_answer(status: u16, problem: &str) -> Self {
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let problem: Option<Problem> = serde_json::from_str(problem).ok();
        Self {
            reason: Reason::of_status(status),
            status,
            key: None,
            detail: problem.map(|problem| printable(&problem.detail, MAX_DETAIL_BYTES)),
        }
    }

    /// That of a put that its sink did not acknowledge.
    pub(crate) fn of_put(
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

/// Text as it may stand in the log, bounded. What is below U+007F the log itself escapes.
fn printable(text: &str, most: usize) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        if printable.len() + char.len_utf8() > most {
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
        let refusal = Refusal::of_answer(400, r#"{"detail":"It is no é\u009bJSON."}"#);
        assert_eq!(refusal.reason, Reason::BadRequest);
        assert_eq!(refusal.detail.as_deref(), Some("It is no é\\u{9b}JSON."));
        assert_eq!(Refusal::of_answer(418, "tea").detail, None);
        let long = printable(&"é".repeat(MAX_DETAIL_BYTES), MAX_DETAIL_BYTES);
        assert_eq!(long, "é".repeat(MAX_DETAIL_BYTES / 2) + "…");
    }
}
