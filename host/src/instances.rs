//! The guests at hand: kept between requests, bounded in number, replaced when worn out.
//!
//! Never runs a guest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::PoolConcurrencyLimitError;

use crate::guest::{Guest, Instance};
use crate::put_sink::PutSinkContext;
use crate::sink::BoxSink;

/// Lends instances, at most so many at a time.
pub(crate) struct Instances {
    guest: Guest,
    sink: BoxSink,
    sink_timeout: Duration,
    /// How many requests one instance handles before it is replaced.
    reuse: u32,
    in_flight: Arc<Semaphore>,
    idle: Mutex<Vec<Kept>>,
}

/// An instance with the number of requests that it may still handle.
struct Kept {
    instance: Instance,
    requests_left: u32,
}

/// An instance on loan. Dropped, it is gone; given back, it may be lent again.
pub(crate) struct Loan {
    pub(crate) instance: Instance,
    requests_left: u32,
    _place: OwnedSemaphorePermit,
}

/// Why no instance was lent.
pub(crate) enum NoInstance {
    /// All are in use, or the engine has no room for another.
    Busy,
    /// A new one can't be made.
    Broken(wasmtime::Error),
}

impl Instances {
    pub(crate) fn new(
        guest: Guest,
        sink: BoxSink,
        sink_timeout: Duration,
        reuse: u32,
        in_flight: u32,
    ) -> Self {
        Self {
            guest,
            sink,
            sink_timeout,
            reuse,
            in_flight: Arc::new(Semaphore::new(in_flight as usize)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Lends the instance that was given back last, whose memory is warm, or a new one.
    pub(crate) async fn lend(&self) -> Result<Loan, NoInstance> {
        let place = Arc::clone(&self.in_flight)
            .try_acquire_owned()
            .map_err(|_| NoInstance::Busy)?;
        let kept = self.lock_idle().pop();
        let Kept {
            instance,
            requests_left,
        } = match kept {
            Some(kept) => kept,
            None => Kept {
                instance: self.instantiate().await?,
                requests_left: self.reuse,
            },
        };
        Ok(Loan {
            instance,
            requests_left: requests_left.saturating_sub(1),
            _place: place,
        })
    }

    /// Takes back an instance that handled its request without a trap.
    pub(crate) fn give_back(&self, loan: Loan) {
        if loan.requests_left > 0 && loan.instance.is_clean() {
            self.lock_idle().push(Kept {
                instance: loan.instance,
                requests_left: loan.requests_left,
            });
        }
    }

    async fn instantiate(&self) -> Result<Instance, NoInstance> {
        let context = PutSinkContext {
            sink: self.sink.clone(),
            timeout: self.sink_timeout,
        };
        let instance = self.guest.instantiate(context).await;
        instance.map_err(|error| match error.is::<PoolConcurrencyLimitError>() {
            true => NoInstance::Busy,
            false => NoInstance::Broken(error),
        })
    }

    /// A push or a pop can't leave the list half done, so a poisoned lock is still good.
    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
