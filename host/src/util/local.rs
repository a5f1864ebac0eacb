//! What all connections share, by a reference that each counts for itself.
//!
//! Requests clone such references, and connections on several processors that count them at one
//! place would wait for one another. Never shared between connections itself.

use std::ops::Deref;
use std::sync::{Arc, Weak};

/// A reference to what others refer to as well, cheap to clone within one connection.
#[derive(Debug)]
#[expect(
    clippy::redundant_allocation,
    reason = "the outer count is the connection's own"
)]
pub(crate) struct Local<T>(Arc<Arc<T>>);

impl<T> Local<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Arc::new(value)))
    }

    /// A reference that keeps nothing.
    pub(crate) fn downgrade(&self) -> Weak<T> {
        Arc::downgrade(&self.0)
    }

    /// A reference for another connection.
    pub(crate) fn apart(&self) -> Self {
        Self(Arc::new(Arc::clone(&self.0)))
    }
}

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
