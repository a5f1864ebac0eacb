//! Adds the id of a request to a response that is no success: as the field `X-Request-Id`, and as a member of its
//! problem document, also of one that a guest writes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use alldata_peer_protocol::outcome::PROBLEM_MEDIA_TYPE;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::util::request_id::RequestId;

/// The field that has the id, as nginx, Envoy and others name it.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The length of the member with the comma before it.
const MEMBER_BYTES: usize = r#","request_id":"""#.len() + RequestId::TEXT_BYTES;

/// Adds the field.
pub(crate) fn add_field(headers: &mut HeaderMap, id: RequestId) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// Adds the member to a problem document, if its text is that of an object.
pub(crate) fn add_member(problem: &mut String, id: RequestId) {
    if problem.ends_with('}') {
        problem.pop();
        let last = problem.bytes().rfind(|byte| !is_white_space(*byte));
        problem.push_str(&member(id, last));
    }
}

/// Adds both to a response of which the guest may still write the body.
pub(crate) fn add_to_outgoing(
    response: hyper::Response<HyperOutgoingBody>,
    id: impl FnOnce() -> RequestId,
) -> hyper::Response<HyperOutgoingBody> {
    let (mut parts, mut body) = response.into_parts();
    if !parts.status.is_success() {
        let id = id();
        let headers = &mut parts.headers;
        add_field(headers, id);
        let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_problem = media_type == Some(PROBLEM_MEDIA_TYPE.as_bytes());
        if is_problem && !headers.contains_key(CONTENT_ENCODING) {
            let length = headers.get(CONTENT_LENGTH);
            let length = length.map(|length| length.to_str().ok()?.parse::<usize>().ok());
            match length {
                // hyper responds to it as it responds without this.
                Some(None | Some(0)) => {}
                Some(Some(length)) => {
                    headers.insert(CONTENT_LENGTH, (length + MEMBER_BYTES).into());
                    body = WithMember::new(body, id, true).boxed_unsync();
                }
                None => body = WithMember::new(body, id, false).boxed_unsync(),
            }
        }
    }
    hyper::Response::from_parts(parts, body)
}

/// The member with the brace that ends the object. `last` is the byte before that, other than white space.
fn member(id: RequestId, last: Option<u8>) -> String {
    match last {
        Some(b'{') => format!(r#""request_id":"{id}" }}"#),
        _ => format!(r#","request_id":"{id}"}}"#),
    }
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A problem document with the member at its end. White space takes its place if the document does not end as an
/// object, since the length has been announced.
struct WithMember<B> {
    body: B,
    id: RequestId,
    has_length: bool,
    /// The last byte of the document so far, which is withheld.
    withheld: Option<u8>,
    /// The last byte before that other than white space.
    last: Option<u8>,
    /// The trailer section, after the end of the document.
    trailers: Option<Frame<Bytes>>,
    has_ended: bool,
}

impl<B> WithMember<B> {
    fn new(body: B, id: RequestId, has_length: bool) -> Self {
        Self {
            body,
            id,
            has_length,
            withheld: None,
            last: None,
            trailers: None,
            has_ended: false,
        }
    }

    /// The bytes up to the last one of `data`.
    fn push(&mut self, data: &[u8]) -> Bytes {
        let Some((last, rest)) = data.split_last() else {
            return Bytes::new();
        };
        let mut bytes = BytesMut::with_capacity(data.len());
        bytes.extend(self.withheld.replace(*last));
        bytes.extend_from_slice(rest);
        let before = bytes.iter().rfind(|byte| !is_white_space(**byte));
        self.last = before.copied().or(self.last);
        bytes.freeze()
    }

    /// The bytes at the end.
    fn end(&mut self) -> Bytes {
        self.has_ended = true;
        match self.withheld.take() {
            Some(b'}') => member(self.id, self.last).into(),
            other => {
                let mut bytes = BytesMut::with_capacity(MEMBER_BYTES + 1);
                bytes.extend(other);
                if self.has_length {
                    bytes.put_bytes(b' ', MEMBER_BYTES);
                }
                bytes.freeze()
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WithMember<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        while !this.has_ended {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let data = this.push(&data);
                        if !data.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                    }
                    Err(trailers) => {
                        this.trailers = Some(trailers);
                        return Poll::Ready(Some(Ok(Frame::data(this.end()))));
                    }
                },
                Some(Err(error)) => {
                    this.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(Some(Ok(Frame::data(this.end())))),
            }
        }
        Poll::Ready(this.trailers.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Frame;

    use super::{MEMBER_BYTES, WithMember, add_member};
    use crate::util::request_id::RequestId;

    fn streamed(parts: &[&str], id: RequestId, has_length: bool) -> String {
        let frame = |part: &&str| Ok::<_, Infallible>(Frame::data(Bytes::from(part.to_string())));
        let frames: Vec<_> = parts.iter().map(frame).collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let collected = WithMember::new(body, id, has_length).collect();
        let collected = collected.now_or_never().expect("does not wait");
        let bytes = collected.expect("does not fail").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("is text")
    }

    #[test]
    fn member_is_added_however_document_is_split() {
        let id = RequestId::random();
        for document in [
            r#"{"title":"T","status":409}"#,
            "{}",
            "{ \n}",
            r#"{"a":{}}"#,
        ] {
            let mut whole = document.to_owned();
            add_member(&mut whole, id);
            let members: serde_json::Value = serde_json::from_str(&whole).expect("is JSON");
            assert_eq!(members["request_id"], id.to_string());
            for at in 0..=document.len() {
                let (start, end) = document.split_at(at);
                let written = streamed(&[start, end], id, true);
                assert_eq!(written, whole);
                assert_eq!(written.len(), document.len() + MEMBER_BYTES);
            }
            let bytes: Vec<String> = document.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(streamed(&bytes, id, false), whole);
        }
    }

    #[test]
    fn other_text_keeps_its_bytes_and_the_length_that_was_announced() {
        let id = RequestId::random();
        for document in ["", "[1]", "{}\n", "text"] {
            let mut whole = document.to_owned();
            add_member(&mut whole, id);
            assert_eq!(whole, document);
            assert_eq!(streamed(&[document], id, false), document);
            let padded = streamed(&[document], id, true);
            assert_eq!(padded.len(), document.len() + MEMBER_BYTES);
            assert_eq!(padded.trim_end(), document.trim_end());
        }
    }
}
