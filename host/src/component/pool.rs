//! A pool of instances of a component: bounded in number, reused between requests, replaced after a number
//! of calls, and dropped when they are idle for a while.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::atomic::AtomicCell;
use wasmtime::PoolConcurrencyLimitError;

use crate::component::cpu_time::{CpuTime, EpochTicker};
use crate::metrics::instances::{InstanceCounts, LiveInstance};
use crate::util::thread_number::Shards;

/// How many idle instances each shard keeps when the pool is trimmed, besides the last one, so that the next requests
/// need not wait for a new one.
const MIN_IDLE_INSTANCES: usize = 1;

/// Makes the instances of a component.
pub(crate) trait InstanceFactory: Send + Sync + 'static {
    type Instance: Send + 'static;

    /// A new instance, whose time is measured by `cpu_time`.
    fn instantiate(
        &self,
        cpu_time: Arc<CpuTime>,
    ) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;

    /// Whether an instance has retained nothing that would slow down later requests or use memory.
    fn is_reusable(instance: &Self::Instance) -> bool;
}

/// The limits of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolConfig {
    /// How many permits there are.
    pub(crate) max_concurrent_requests: u32,
    /// How many times an instance is acquired before it is replaced.
    pub(crate) max_reuse_count: u32,
}

/// A pool of instances, with a limit on the number of requests that use it at a time.
pub(crate) struct InstancePool<F: InstanceFactory> {
    factory: F,
    ticker: EpochTicker,
    config: PoolConfig,
    permits_in_use: SharedCounter,
    shards: Shards<Shard<F>>,
    counts: Arc<InstanceCounts>,
}

/// A counter that each request changes, on any processor: on a cache line of its own.
#[repr(align(128))]
struct SharedCounter(AtomicU32);

/// Idle instances. There are enough shards that threads which run at the same time take
/// different locks, on different cache lines.
#[repr(align(128))]
struct Shard<F: InstanceFactory> {
    /// The one that was released last, which most requests take without a lock.
    last: AtomicCell<Option<Box<CountedInstance<F>>>>,
    others: Mutex<Idle<F>>,
}

/// The instances of a shard that were released before the last one, the later ones at the end.
struct Idle<F: InstanceFactory> {
    instances: Vec<Box<CountedInstance<F>>>,
    /// The smallest number of them since the shard was trimmed.
    low_water_mark: usize,
}

/// An instance with the number of times that it may still be acquired.
struct CountedInstance<F: InstanceFactory> {
    instance: F::Instance,
    reuses_left: u32,
    _live: LiveInstance,
}

/// An instance in use. Dropped, the instance is dropped; released, it may be acquired again.
pub(crate) struct PooledInstance<'a, F: InstanceFactory> {
    /// Boxed, since it is moved several times for each request.
    counted: Box<CountedInstance<F>>,
    // Dropped after the instance, whose slot in the engine the next holder of the permit may need.
    permit: Permit<'a, F>,
}

/// One of the requests that may use the pool at a time, until this is dropped.
pub(crate) struct Permit<'a, F: InstanceFactory>(&'a InstancePool<F>);

/// Why no instance was acquired.
pub(crate) enum AcquireError {
    /// All permits are in use, or the engine has no slot for another instance.
    Exhausted,
    /// A new instance could not be made.
    Instantiate(wasmtime::Error),
}

impl<F: InstanceFactory> InstancePool<F> {
    pub(crate) fn new(
        factory: F,
        ticker: EpochTicker,
        config: PoolConfig,
        counts: Arc<InstanceCounts>,
    ) -> Self {
        let shard = || Shard {
            last: AtomicCell::new(None),
            others: Mutex::new(Idle {
                instances: Vec::new(),
                low_water_mark: 0,
            }),
        };
        Self {
            factory,
            ticker,
            config,
            permits_in_use: SharedCounter(AtomicU32::new(0)),
            shards: Shards::new(shard),
            counts,
        }
    }

    /// Takes a permit, and an instance for it.
    pub(crate) async fn acquire(&self) -> Result<PooledInstance<'_, F>, AcquireError> {
        let permit = self.permit().ok_or(AcquireError::Exhausted)?;
        permit.acquire().await
    }

    /// What makes its instances.
    pub(crate) fn factory(&self) -> &F {
        &self.factory
    }

    /// How many permits are in use.
    pub(crate) fn permits_in_use(&self) -> u32 {
        self.permits_in_use.0.load(Ordering::Relaxed)
    }

    fn permit(&self) -> Option<Permit<'_, F>> {
        let max = self.config.max_concurrent_requests;
        let one_more = |used| (used < max).then_some(used + 1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.permits_in_use.0.fetch_update(set, read, one_more);
        taken.is_ok().then(|| Permit(self))
    }

    /// An idle instance of the thread's own shard, or of another.
    fn pop_idle(&self) -> Option<Box<CountedInstance<F>>> {
        let own = self.shard().pop();
        own.or_else(|| self.shards.iter().find_map(Shard::pop))
    }

    /// Drops all but a few of the instances that were idle since the last call. Blocks while it does.
    pub(crate) fn trim(&self) {
        for shard in self.shards.iter() {
            shard.trim();
        }
    }

    /// The shard of this thread.
    fn shard(&self) -> &Shard<F> {
        self.shards.own().0
    }

    async fn instantiate(&self) -> Result<F::Instance, AcquireError> {
        let cpu_time = Arc::new(CpuTime::new(self.ticker.clone()));
        let instance = self.factory.instantiate(cpu_time).await;
        instance.map_err(|error| {
            if error.is::<PoolConcurrencyLimitError>() {
                AcquireError::Exhausted
            } else {
                AcquireError::Instantiate(error)
            }
        })
    }
}

impl<'a, F: InstanceFactory> Permit<'a, F> {
    /// Takes the instance that was released last on this processor, whose memory is warm, or another, or
    /// a new one.
    pub(crate) async fn acquire(self) -> Result<PooledInstance<'a, F>, AcquireError> {
        let Self(pool) = &self;
        let mut counted = match pool.pop_idle() {
            Some(idle) => idle,
            // Boxed, since it is rare and its size would be part of every request's future.
            None => match Box::pin(pool.instantiate()).await {
                Ok(instance) => Box::new(CountedInstance {
                    instance,
                    reuses_left: pool.config.max_reuse_count,
                    _live: LiveInstance::new(&pool.counts),
                }),
                // The engine has a slot for each permit, so another was released meanwhile.
                Err(AcquireError::Exhausted) => pool.pop_idle().ok_or(AcquireError::Exhausted)?,
                Err(error) => return Err(error),
            },
        };
        counted.reuses_left = counted.reuses_left.saturating_sub(1);
        Ok(PooledInstance {
            counted,
            permit: self,
        })
    }
}

impl<'a, F: InstanceFactory> PooledInstance<'a, F> {
    pub(crate) fn instance_mut(&mut self) -> &mut F::Instance {
        &mut self.counted.instance
    }

    /// Returns an instance that has not trapped to the pool. The permit remains in use until it is dropped.
    pub(crate) fn release(self) -> Permit<'a, F> {
        let Self { counted, permit } = self;
        if counted.reuses_left > 0 && F::is_reusable(&counted.instance) {
            let Permit(pool) = &permit;
            pool.shard().push(counted);
        }
        permit
    }
}

impl<F: InstanceFactory> Shard<F> {
    /// Each change leaves the list consistent, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Idle<F>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, instance: Box<CountedInstance<F>>) {
        if let Some(earlier) = self.last.swap(Some(instance)) {
            self.lock().instances.push(earlier);
        }
    }

    fn pop(&self) -> Option<Box<CountedInstance<F>>> {
        self.last.take().or_else(|| self.pop_other())
    }

    fn pop_other(&self) -> Option<Box<CountedInstance<F>>> {
        let mut idle = self.lock();
        let instance = idle.instances.pop();
        idle.low_water_mark = idle.low_water_mark.min(idle.instances.len());
        instance
    }

    fn trim(&self) {
        let unused: Vec<_> = {
            let mut idle = self.lock();
            let number = idle.low_water_mark.saturating_sub(MIN_IDLE_INSTANCES);
            let unused = idle.instances.drain(..number).collect();
            idle.low_water_mark = idle.instances.len();
            unused
        };
        // After the lock is released, since each takes some time.
        drop(unused);
    }
}

impl<F: InstanceFactory> Drop for Permit<'_, F> {
    fn drop(&mut self) {
        self.0.permits_in_use.0.fetch_sub(1, Ordering::Relaxed);
    }
}
