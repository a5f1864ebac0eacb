//! Takes everything and keeps nothing: what a server costs without its store.

use crate::sink::{PutError, PutSink};

/// A sink that acknowledges every event and forgets it. For measuring only.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardSink;

impl PutSink for DiscardSink {
    async fn put(&self, _key: String, _event: String) -> Result<(), PutError> {
        Ok(())
    }
}
