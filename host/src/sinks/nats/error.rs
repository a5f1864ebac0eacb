//! Errors of operations on a stream.

use std::fmt::Display;

use super::url::NatsUrl;
use crate::error::{Error, NatsError};

/// Makes an [`Error`] of the reason why an operation on a stream failed.
pub(super) fn nats_error(
    url: &NatsUrl,
    operation: &'static str,
) -> impl Fn(&dyn Display) -> Error + use<> {
    let stream = url.to_string();
    move |reason| Error::Nats {
        operation,
        stream: stream.clone(),
        source: NatsError(reason.to_string()),
    }
}
