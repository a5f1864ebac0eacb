//! The numbers of the instances of a component.

use std::sync::Arc;

use super::Counter;

/// The instances that were made, and how they ended.
#[derive(Debug, Default)]
pub(crate) struct InstanceCounts {
    pub(crate) created: Counter,
    pub(crate) dropped: Counter,
    pub(crate) trapped: Counter,
}

/// Counts an instance until this is dropped with it.
#[derive(Debug)]
pub(crate) struct LiveInstance(Arc<InstanceCounts>);

impl InstanceCounts {
    /// How many there are.
    pub(crate) fn alive(&self) -> u64 {
        // Read in this order: an instance that is made meanwhile must not be missing from the first number.
        let dropped = self.dropped.get();
        self.created.get().saturating_sub(dropped)
    }
}

impl LiveInstance {
    pub(crate) fn new(counts: &Arc<InstanceCounts>) -> Self {
        counts.created.increment();
        Self(Arc::clone(counts))
    }
}

impl Drop for LiveInstance {
    fn drop(&mut self) {
        self.0.dropped.increment();
    }
}
