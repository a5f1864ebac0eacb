//! Failures to put into a stream that concern all puts.

/// The reason why the stream did not take a put. It does not depend on the put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether servers have no storage left.
    pub(super) is_full: bool,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        let (reason, is_full) = (reason.into(), false);
        Self { reason, is_full }
    }

    pub(super) fn full(reason: impl Into<String>) -> Self {
        let (reason, is_full) = (reason.into(), true);
        Self { reason, is_full }
    }
}
