//! A future that completes even if it is dropped: a body that was read to its end is put.
//!
//! It needs a task of its own only once it is dropped.

use std::borrow::Borrow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tracing::Instrument as _;

use crate::server::connection_state::ConnectionState;

/// A future. Dropped before it is ready, it is spawned on the runtime.
pub(crate) struct DetachOnDrop<T: 'static, S: Borrow<ConnectionState>> {
    /// `None` once it is ready.
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    state: S,
}

impl<T, S: Borrow<ConnectionState>> DetachOnDrop<T, S> {
    /// If it is spawned, it is one of the tasks of the server of `state`.
    pub(crate) fn new(future: Pin<Box<dyn Future<Output = T> + Send>>, state: S) -> Self {
        Self {
            future: Some(future),
            state,
        }
    }
}

impl<T, S: Borrow<ConnectionState> + Unpin> Future for DetachOnDrop<T, S> {
    type Output = T;

    /// Pending for ever once it has been ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        let output = ready!(future.as_mut().poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T, S: Borrow<ConnectionState>> Drop for DetachOnDrop<T, S> {
    fn drop(&mut self) {
        // A connection is dropped by its runtime, or at the end of that runtime.
        if let Some(future) = self.future.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let future = async { drop(future.await) }.in_current_span();
            self.state.borrow().tasks().spawn_on(future, &runtime);
        }
    }
}
