//! The sink `discard:`: acknowledges every put and stores nothing, to measure the cost of the server
//! itself.

use crate::sink::{PutError, PutSink};

/// A sink that acknowledges every event and stores none. For measurements only.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardSink;

impl PutSink for DiscardSink {
    async fn put(&self, _key: String, _event: String) -> Result<(), PutError> {
        Ok(())
    }
}
