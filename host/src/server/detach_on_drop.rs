//! Work that goes on when nobody waits for it any more: what was read whole is put.
//!
//! Costs no task as long as somebody waits. Never starts work by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;

use crate::server::connection_state::Activity;

/// Work as a future. Dropped before its end, it hands the work to the runtime.
pub(crate) struct Work<T: 'static> {
    /// `None` once it is done.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    activity: Arc<Activity>,
}

impl<T> Work<T> {
    /// Work that is one of the tasks of `activity` where it outlives who waits for it.
    pub(crate) fn new(
        work: impl Future<Output = T> + Send + 'static,
        activity: &Arc<Activity>,
    ) -> Self {
        Self {
            work: Some(Box::pin(work)),
            activity: Arc::clone(activity),
        }
    }
}

impl<T> Future for Work<T> {
    type Output = T;

    /// Pending for ever once the work is done.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let done = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        // Connections are tasks, which their runtime drops, or else its end.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let work = async { drop(work.await) };
            self.activity.tasks.spawn_on(work, &runtime);
        }
    }
}
