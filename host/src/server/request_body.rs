//! The body of a request as it arrives: from hyper on a connection of the server, or from the program that embeds
//! the server.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, LengthLimitError};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use wasmtime_wasi_http::Error as BodyError;

use crate::server::connection_waker;

/// The error of any body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub(crate) enum RequestBody {
    Hyper(Incoming),
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl RequestBody {
    /// A body that another program reads.
    pub(crate) fn other<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::Other(body.map_err(Into::into).boxed_unsync())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Hyper(body) => {
                connection_waker::poll_frame(body, context).map_err(BodyError::Hyper)
            }
            Self::Other(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|error| into_body_error(&*error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// The error of a body that ended early: it exceeded the limit of a layer above, or was cut off.
fn into_body_error(error: &(dyn Error + 'static)) -> BodyError {
    let mut cause = Some(error);
    while let Some(error) = cause
        && !error.is::<LengthLimitError>()
    {
        cause = error.source();
    }
    if cause.is_some() {
        BodyError::HttpRequestBodySize(None)
    } else {
        tracing::debug!(error = error.to_string(), "a body ended early");
        BodyError::ConnectionTerminated
    }
}
