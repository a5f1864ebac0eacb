//! Which of the header fields that are looked up for each request are there at all.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, EXPECT, TRANSFER_ENCODING};

use crate::util::request_id::TRACEPARENT;

/// Which of these fields a header section has. One pass over the names takes less time than a lookup of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentFields {
    pub(crate) transfer_encoding: bool,
    pub(crate) content_encoding: bool,
    pub(crate) expect: bool,
    pub(crate) traceparent: bool,
}

impl PresentFields {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut fields = Self {
            transfer_encoding: false,
            content_encoding: false,
            expect: false,
            traceparent: false,
        };
        for name in headers.keys() {
            fields.transfer_encoding |= *name == TRANSFER_ENCODING;
            fields.content_encoding |= *name == CONTENT_ENCODING;
            fields.expect |= *name == EXPECT;
            fields.traceparent |= *name == TRACEPARENT;
        }
        fields
    }
}
