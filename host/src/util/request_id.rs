//! The id of a request: the trace id of its field `traceparent` (W3C Trace Context), or one that is made.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use hyper::HeaderMap;
use hyper::header::HeaderName;

/// The field that has the trace id.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The length of a `traceparent` of version 00. Those of higher versions may be longer.
const TRACEPARENT_BYTES: usize = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01".len();

/// The id of a request. Its text has 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// The length of its text.
    pub(crate) const TEXT_BYTES: usize = 32;

    /// The trace id of a request, if it has exactly one valid `traceparent`. An invalid one is ignored.
    pub(crate) fn from_traceparent(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, other) = (values.next()?, values.next());
        if other.is_some() {
            return None;
        }
        parse(value.as_bytes()).map(Self)
    }

    /// The id of the request with this number, where `keys` are those of its connection.
    pub(crate) fn of_request(keys: &RandomState, number: usize) -> Self {
        let half = |half: u8| u128::from(keys.hash_one((number, half)));
        // An id of zeros is not valid as a trace id.
        Self((half(0) << u64::BITS | half(1)).max(1))
    }

    /// The id of a request whose trace is recorded.
    #[cfg(feature = "otlp")]
    pub(crate) fn from_trace_id(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// An id for a request that belongs to no connection's sequence.
    pub(crate) fn random() -> Self {
        Self::of_request(&RandomState::new(), 0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The trace id of a `traceparent`: `VERSION-TRACE_ID-PARENT_ID-FLAGS`, as section 3.2 of the specification has it.
fn parse(value: &[u8]) -> Option<u128> {
    let (known, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let version = hex(parts.next()?, 2)?;
    let trace_id = hex(parts.next()?, RequestId::TEXT_BYTES)?;
    let parent_id = hex(parts.next()?, 16)?;
    let _flags = hex(parts.next()?, 2)?;
    let has_end = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    (has_end && trace_id != 0 && parent_id != 0).then_some(trace_id)
}

/// The number that has these lower-case digits.
fn hex(digits: &[u8], length: usize) -> Option<u128> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != length || !digits.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::RandomState;

    use hyper::HeaderMap;
    use hyper::header::HeaderValue;

    use super::{RequestId, TRACEPARENT};

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("is one"));
        }
        RequestId::from_traceparent(&headers).map(|id| id.to_string())
    }

    #[test]
    fn trace_id_is_that_of_a_valid_field() {
        assert_eq!(of(&[VALID]).as_deref(), Some(TRACE_ID));
        for later in ["01", "fe"] {
            let later = VALID.replacen("00", later, 1);
            assert_eq!(of(&[&later]).as_deref(), Some(TRACE_ID));
            let longer = format!("{later}-what-the-future-will-be-like");
            assert_eq!(of(&[&longer]).as_deref(), Some(TRACE_ID));
            assert_eq!(of(&[&format!("{later}.")]), None);
        }
    }

    #[test]
    fn invalid_field_is_ignored() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[VALID, VALID]), None);
        let invalid = [
            String::new(),
            VALID.to_uppercase(),
            VALID.replace("01", "0"),
            VALID.replace("01", "0g"),
            VALID.replacen("00", "ff", 1),
            VALID.replace('-', "_"),
            VALID.replace("4b", "-b"),
            VALID.replace("4b", "+b"),
            VALID.replace(TRACE_ID, &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{VALID}-00"),
            VALID.replace('-', ""),
        ];
        for invalid in invalid {
            assert_eq!(of(&[&invalid]), None, "{invalid}");
        }
    }

    #[test]
    fn made_ids_differ() {
        let keys = [RandomState::new(), RandomState::new()];
        let ids = keys.iter().flat_map(|keys| {
            (0..1000).map(|number| RequestId::of_request(keys, number).to_string())
        });
        let ids: HashSet<String> = ids.collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == RequestId::TEXT_BYTES));
    }
}
