//! What became of an attempt to publish an event: what the answer of a stream means.
//!
//! Never sends one, and never waits for an answer.

use async_nats::jetstream::{self, ErrorCode};
use serde::Deserialize;

use super::patience::is_passing;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A quorum of the replicas has it, under this sequence number.
    Stored(u64),
    /// There is a message with this subject, or one is on its way.
    Taken,
    /// The stream is full: it has not stored the event.
    Full(String),
    /// What the account or the server may use is full, as far as this replica knows. It has not stored
    /// the event, but each sees to that by itself.
    NoResources(String),
    /// A message of this size is never taken.
    TooLarge,
    /// Nobody was there to store it: the stream has no leader now, or is gone.
    Nobody,
    /// It can't be taken now, and is not stored.
    NotNow(String),
    /// They refuse it for a reason that is none of these, and have not stored it.
    Refused(String),
    /// Whether it is stored is unknown.
    Silence,
    /// The leader could not write it; whether others did is unknown.
    NotWritten(String),
}

/// The JSON that a stream answers with.
#[derive(Debug, Deserialize)]
struct Answer<'a> {
    /// The name of the stream, which has no character that JSON escapes, as Go writes it: see `url`.
    stream: Option<&'a str>,
    seq: Option<u64>,
    error: Option<jetstream::Error>,
}

/// What an answer means. Whoever listens to the same subject may answer too: what does not come from
/// the stream says nothing.
pub(super) fn read(payload: &[u8], stream_name: &str) -> Reply {
    match serde_json::from_slice(payload) {
        Ok(Answer {
            stream,
            error: Some(error),
            ..
        }) if stream.is_none_or(|from| from == stream_name) => refusal(&error),
        Ok(Answer {
            stream: Some(from),
            seq: Some(sequence),
            error: None,
        }) if from == stream_name => Reply::Stored(sequence),
        Ok(_) | Err(_) => Reply::Silence,
    }
}

fn refusal(error: &jetstream::Error) -> Reply {
    let text = error.to_string();
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Reply::Taken
        }
        // Limits are the same on all replicas; what else keeps the leader from writing is its own.
        ErrorCode::STREAM_STORE_FAILED if text.contains("maximum messages per subject") => {
            Reply::Taken
        }
        ErrorCode::STREAM_STORE_FAILED if text.contains("maximum") => Reply::Full(text),
        ErrorCode::STREAM_STORE_FAILED => Reply::NotWritten(text),
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED => Reply::NoResources(text),
        ErrorCode::STREAM_SEALED => Reply::Full(text),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Reply::TooLarge,
        // More waits for the leader than it may have.
        ErrorCode::STREAM_TOO_MANY_REQUESTS => Reply::NotNow(text),
        _ if is_passing(error) => Reply::NotNow(text),
        _ => Reply::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream;

    use super::{Reply, read, refusal};

    #[test]
    fn only_the_stream_acknowledges() {
        let read = |payload: &str| read(payload.as_bytes(), "events");
        assert_eq!(read(r#"{"stream":"events", "seq":7}"#), Reply::Stored(7));
        let full = r#"{"error":{"code":400,"err_code":10071},"stream":"events","seq":0}"#;
        assert_eq!(read(full), Reply::Taken);
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
            assert_eq!(read(payload), Reply::Silence, "{payload}");
        }
    }

    #[track_caller]
    fn assert_refusal(code: usize, err_code: u64, description: &str, reply: &Reply) {
        let error = serde_json::json!({
            "code": code, "err_code": err_code, "description": description,
        });
        let error: jetstream::Error = serde_json::from_value(error).expect("is one");
        assert_eq!(&refusal(&error), reply);
    }

    #[test]
    fn each_refusal_is_known_by_its_code() {
        assert_refusal(400, 10071, "wrong last sequence: 1", &Reply::Taken);
        assert_refusal(400, 10164, "wrong last sequence", &Reply::Taken);
        assert_refusal(
            503,
            10077,
            "maximum messages per subject exceeded",
            &Reply::Taken,
        );
        for text in ["maximum bytes exceeded", "maximum messages exceeded"] {
            let reply = Reply::Full(format!("{text} (code 503, error code 10077)"));
            assert_refusal(503, 10077, text, &reply);
        }
        for (code, text) in [
            (10002, "resource limits exceeded for account"),
            (10047, "insufficient storage resources"),
        ] {
            let reply = Reply::NoResources(format!("{text} (code 500, error code {code})"));
            assert_refusal(500, code, text, &reply);
        }
        let text = "invalid operation on sealed stream";
        let reply = Reply::Full(format!("{text} (code 400, error code 10109)"));
        assert_refusal(400, 10109, text, &reply);
        assert_refusal(
            400,
            10054,
            "message size exceeds maximum allowed",
            &Reply::TooLarge,
        );
    }

    #[test]
    fn what_the_leader_could_not_write_is_unknown() {
        let text = "no space left on device (code 503, error code 10077)".to_owned();
        let reply = Reply::NotWritten(text);
        assert_refusal(503, 10077, "no space left on device", &reply);
    }

    #[test]
    fn other_refusals_are_told_with_their_text() {
        let text = "JetStream system temporarily unavailable (code 503, error code 10008)";
        let reply = Reply::NotNow(text.to_owned());
        assert_refusal(
            503,
            10008,
            "JetStream system temporarily unavailable",
            &reply,
        );
        let text = "expected stream does not match (code 400, error code 10060)";
        let reply = Reply::Refused(text.to_owned());
        assert_refusal(400, 10060, "expected stream does not match", &reply);
    }
}
