//! The outcome of one attempt to publish an event, as the acknowledgement of the stream tells it.

use async_nats::jetstream::{self, ErrorCode};
use serde::Deserialize;

use super::retry::is_transient;

/// The outcome of an attempt to publish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A quorum of the replicas has it, under this sequence number.
    Stored(u64),
    /// The stream has a message with this subject, or is about to have one.
    SubjectExists,
    /// The stream is full: it has not stored the event.
    Full(String),
    /// The account or the server has reached its storage limit. This replica has not stored the event; each replica
    /// checks its own limits.
    NoResources(String),
    /// A message of this size is never taken.
    TooLarge,
    /// Nothing listens to the subject: the stream has no leader now, or is gone.
    NoResponders,
    /// The event is not stored; the same attempt may succeed later.
    Unavailable(String),
    /// Refused for another reason, and not stored.
    Rejected(String),
    /// There was no acknowledgement: whether the event is stored is unknown.
    Unknown,
    /// The leader could not write the event; whether other replicas did is unknown.
    WriteFailed(String),
}

/// The JSON of an acknowledgement.
#[derive(Debug, Deserialize)]
struct PubAck<'a> {
    /// The name of the stream. `url` admits no name with characters that the JSON encoder of Go escapes.
    stream: Option<&'a str>,
    seq: Option<u64>,
    error: Option<jetstream::Error>,
}

/// Parses an acknowledgement. Any other subscriber to the subject may answer too: a message that does not come from
/// the stream leaves the outcome unknown.
pub(super) fn parse(payload: &[u8], stream_name: &str) -> Outcome {
    match serde_json::from_slice(payload) {
        Ok(PubAck {
            stream,
            error: Some(error),
            ..
        }) if stream.is_none_or(|from| from == stream_name) => classify(&error),
        Ok(PubAck {
            stream: Some(from),
            seq: Some(sequence),
            error: None,
        }) if from == stream_name => Outcome::Stored(sequence),
        Ok(_) | Err(_) => Outcome::Unknown,
    }
}

fn classify(error: &jetstream::Error) -> Outcome {
    let text = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Outcome::SubjectExists
        }
        // The limits of a stream are the same on all replicas; other failures to write are those of the leader.
        ErrorCode::STREAM_STORE_FAILED if text.contains("maximum messages per subject") => {
            Outcome::SubjectExists
        }
        ErrorCode::STREAM_STORE_FAILED if text.contains("maximum") => Outcome::Full(text),
        ErrorCode::STREAM_STORE_FAILED => Outcome::WriteFailed(text),
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Outcome::NoResources(text),
        ErrorCode::STREAM_SEALED => Outcome::Full(text),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Outcome::TooLarge,
        // The queue of the leader is full.
        ErrorCode::STREAM_TOO_MANY_REQUESTS => Outcome::Unavailable(text),
        _ if is_transient(error) => Outcome::Unavailable(text),
        _ => Outcome::Rejected(text),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream;

    use super::{Outcome, classify, parse};

    #[test]
    fn acknowledgement_comes_from_the_stream() {
        let parse = |payload: &str| parse(payload.as_bytes(), "events");
        assert_eq!(parse(r#"{"stream":"events", "seq":7}"#), Outcome::Stored(7));
        let full = r#"{"error":{"code":400,"err_code":10071},"stream":"events","seq":0}"#;
        assert_eq!(parse(full), Outcome::SubjectExists);
        for payload in [
            r#"{"stream":"other","seq":7}"#,
            r#"{"error":{"code":400,"err_code":10060},"stream":"other","seq":0}"#,
            r#"{"seq":7}"#,
            r#"{"stream":"events"}"#,
            "",
            "ok",
            "{}",
            "7",
        ] {
            assert_eq!(parse(payload), Outcome::Unknown, "{payload}");
        }
    }

    #[track_caller]
    fn assert_refusal(code: usize, err_code: u64, description: &str, reply: &Outcome) {
        let error = serde_json::json!({
            "code": code, "err_code": err_code, "description": description,
        });
        let error: jetstream::Error = serde_json::from_value(error).expect("is one");
        assert_eq!(&classify(&error), reply);
    }

    #[test]
    fn refusals_are_classified_by_error_code() {
        assert_refusal(
            400,
            10071,
            "wrong last sequence: 1",
            &Outcome::SubjectExists,
        );
        assert_refusal(400, 10164, "wrong last sequence", &Outcome::SubjectExists);
        assert_refusal(
            503,
            10077,
            "maximum messages per subject exceeded",
            &Outcome::SubjectExists,
        );
        for text in ["maximum bytes exceeded", "maximum messages exceeded"] {
            let reply = Outcome::Full(format!("{text} (code 503, error code 10077)"));
            assert_refusal(503, 10077, text, &reply);
        }
        for (code, text) in [
            (10002, "resource limits exceeded for account"),
            (10047, "insufficient storage resources"),
        ] {
            let reply = Outcome::NoResources(format!("{text} (code 500, error code {code})"));
            assert_refusal(500, code, text, &reply);
        }
        let text = "invalid operation on sealed stream";
        let reply = Outcome::Full(format!("{text} (code 400, error code 10109)"));
        assert_refusal(400, 10109, text, &reply);
        assert_refusal(
            400,
            10054,
            "message size exceeds maximum allowed",
            &Outcome::TooLarge,
        );
    }

    #[test]
    fn failed_write_of_the_leader_is_unknown() {
        let text = "no space left on device (code 503, error code 10077)".to_owned();
        let reply = Outcome::WriteFailed(text);
        assert_refusal(503, 10077, "no space left on device", &reply);
    }

    #[test]
    fn other_refusals_keep_their_text() {
        let text = "JetStream system temporarily unavailable (code 503, error code 10008)";
        let reply = Outcome::Unavailable(text.to_owned());
        assert_refusal(
            503,
            10008,
            "JetStream system temporarily unavailable",
            &reply,
        );
        let text = "expected stream does not match (code 400, error code 10060)";
        let reply = Outcome::Rejected(text.to_owned());
        assert_refusal(400, 10060, "expected stream does not match", &reply);
    }
}
