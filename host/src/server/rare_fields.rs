//! The header fields that matter for a put, and that most puts do not have.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, EXPECT, TRANSFER_ENCODING};

use crate::util::request_id::TRACEPARENT;

/// Which of these fields a header section has. They are found in one pass, since a lookup takes longer, mostly for
/// nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RareFields {
    pub(crate) transfer_encoding: bool,
    pub(crate) content_encoding: bool,
    pub(crate) expect: bool,
    pub(crate) traceparent: bool,
}

impl RareFields {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut fields = Self::default();
        for name in headers.keys() {
            fields.transfer_encoding |= *name == TRANSFER_ENCODING;
            fields.content_encoding |= *name == CONTENT_ENCODING;
            fields.expect |= *name == EXPECT;
            fields.traceparent |= *name == TRACEPARENT;
        }
        fields
    }
}
