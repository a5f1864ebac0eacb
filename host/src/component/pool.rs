//! The guests at hand: kept between requests, bounded in number, replaced when worn out, and let go of when
//! they were not needed for a while.
//!
//! Never runs a guest.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;
use wasmtime::PoolConcurrencyLimitError;

use crate::component::cpu_time::{Clock, ComputingTime};
use crate::component::incoming_handler::WholePre;
use crate::component::protocol::DirectPre;
use crate::component::put_sink::{ConnectionSink, Puts};
use crate::limits::Limits;
use crate::util::local::Local;

/// How often instances are let go of that were not needed since: a burst leaves nothing after twice that.
const TRIM_TIME: Duration = Duration::from_secs(10);

/// How many instances each processor keeps all the same: the next requests then need not wait for one.
const KEPT_INSTANCES: usize = 2;

/// The instances of a component, by how they are called.
pub(crate) enum Guests {
    Direct(DirectGuests),
    Whole(Local<Instances<WholePre>>),
}

/// Instances that only decode, with the sink of their connection.
#[derive(Clone)]
pub(crate) struct DirectGuests {
    pub(crate) instances: Local<Instances<DirectPre>>,
    pub(crate) sink: Arc<ConnectionSink>,
}

impl Guests {
    pub(crate) fn direct(instances: Local<Instances<DirectPre>>) -> Self {
        let sink = Arc::new(ConnectionSink::new(instances.lending.puts.clone()));
        Self::Direct(DirectGuests { instances, sink })
    }

    /// A reference for another connection.
    pub(crate) fn apart(&self) -> Self {
        match self {
            Self::Direct(guests) => Self::direct(guests.instances.apart()),
            Self::Whole(instances) => Self::Whole(instances.apart()),
        }
    }
}

/// A component that is ready to be instantiated.
pub(crate) trait Pre: Send + Sync + 'static {
    type Instance: Send + 'static;

    /// A new instance, whose time is measured by `computing`.
    fn instantiate(
        &self,
        puts: &Puts,
        computing: Arc<ComputingTime>,
    ) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;

    /// Whether an instance has nothing left from its last request that the next would pay for.
    fn is_clean(instance: &Self::Instance) -> bool;
}

/// How instances are lent.
pub(crate) struct Lending {
    /// Where all of them put.
    pub(crate) puts: Puts,
    /// How many times one is lent before it is replaced, and how many requests are in flight at a
    /// time.
    pub(crate) limits: Limits,
}

/// Lends instances, at most so many at a time.
pub(crate) struct Instances<P: Pre> {
    pre: P,
    clock: Clock,
    lending: Lending,
    in_flight: AtomicU32,
    shelves: Box<[Shelf<P>]>,
}

/// Instances that wait for a request. There is one for each processor, so that threads which run at
/// the same time meet at none, and apart in memory, so that they share no line of a cache.
#[repr(align(128))]
struct Shelf<P: Pre>(Mutex<Idle<P>>);

/// The instances on a shelf, the one that was given back last at the end.
struct Idle<P: Pre> {
    kept: Vec<Kept<P>>,
    /// How few there were at a time since the last were let go of.
    least: usize,
}

/// An instance with the number of requests that it may still handle.
struct Kept<P: Pre> {
    instance: P::Instance,
    requests_left: u32,
}

/// An instance on loan. Dropped, it is gone; given back, it may be lent again.
pub(crate) struct Loan<P: Pre> {
    pub(crate) instance: P::Instance,
    requests_left: u32,
    // Free again after the instance is gone, which has the room for it.
    place: Place<P>,
}

/// One of the places for requests in flight, free again when this is dropped.
pub(crate) struct Place<P: Pre>(Local<Instances<P>>);

/// Why no instance was lent.
pub(crate) enum NoInstance {
    /// All are in use, or the engine has no room for another.
    Busy,
    /// A new one can't be made.
    Broken(wasmtime::Error),
}

impl<P: Pre> Instances<P> {
    pub(crate) fn new(pre: P, clock: Clock, lending: Lending) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shelf = || {
            let (kept, least) = (Vec::new(), 0);
            Shelf(Mutex::new(Idle { kept, least }))
        };
        Self {
            pre,
            clock,
            lending,
            in_flight: AtomicU32::new(0),
            shelves: (0..processors).map(|_| shelf()).collect(),
        }
    }

    /// A place for one more request, and an instance for it.
    pub(crate) async fn lend(this: &Local<Self>) -> Result<Loan<P>, NoInstance> {
        let place = Self::take_place(this).ok_or(NoInstance::Busy)?;
        place.lend().await
    }

    fn take_place(this: &Local<Self>) -> Option<Place<P>> {
        let one_more =
            |taken| (taken < this.lending.limits.max_concurrent_requests).then_some(taken + 1);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = this.in_flight.fetch_update(set, read, one_more);
        taken.is_ok().then(|| Place(this.clone()))
    }

    /// An instance of the thread's own shelf, or of another.
    fn pick(&self) -> Option<Kept<P>> {
        let own = self.shelf().pop();
        own.or_else(|| self.shelves.iter().find_map(Shelf::pop))
    }

    /// Lets go of instances that are not needed, now and then, for as long as there are any.
    pub(crate) fn trim_in_background(this: &Local<Self>) {
        let instances = this.downgrade();
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            loop {
                sleep(TRIM_TIME).await;
                let Some(instances) = instances.upgrade() else {
                    return;
                };
                for shelf in &instances.shelves {
                    shelf.trim();
                }
            }
        });
    }

    /// The shelf of this thread.
    fn shelf(&self) -> &Shelf<P> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let number = NUMBER.try_with(|number| *number).unwrap_or_default();
        &self.shelves[number % self.shelves.len()]
    }

    async fn instantiate(&self) -> Result<P::Instance, NoInstance> {
        let computing = Arc::new(ComputingTime::new(self.clock.clone()));
        let instance = self.pre.instantiate(&self.lending.puts, computing);
        instance
            .await
            .map_err(|error| match error.is::<PoolConcurrencyLimitError>() {
                true => NoInstance::Busy,
                false => NoInstance::Broken(error),
            })
    }
}

impl<P: Pre> Place<P> {
    /// Lends the instance that was given back last here, whose memory is warm, or another, or a new
    /// one.
    pub(crate) async fn lend(self) -> Result<Loan<P>, NoInstance> {
        let Self(instances) = &self;
        let kept = match instances.pick() {
            Some(kept) => kept,
            // Seldom, and its room would be part of each request's.
            None => match Box::pin(instances.instantiate()).await {
                Ok(instance) => Kept {
                    instance,
                    requests_left: instances.lending.limits.max_instance_reuse_count,
                },
                // There are as many as there are places, so one has been given back meanwhile.
                Err(NoInstance::Busy) => instances.pick().ok_or(NoInstance::Busy)?,
                Err(broken) => return Err(broken),
            },
        };
        Ok(Loan {
            instance: kept.instance,
            requests_left: kept.requests_left.saturating_sub(1),
            place: self,
        })
    }
}

impl<P: Pre> Loan<P> {
    /// Gives an instance back that did what it was lent for without a trap. Its request stays in flight
    /// for as long as its place is kept.
    pub(crate) fn give_back(self) -> Place<P> {
        if self.requests_left > 0 && P::is_clean(&self.instance) {
            self.place.0.shelf().lock().kept.push(Kept {
                instance: self.instance,
                requests_left: self.requests_left,
            });
        }
        self.place
    }
}

impl<P: Pre> Shelf<P> {
    /// A push or a pop can't leave the list half done, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Idle<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Kept<P>> {
        let mut idle = self.lock();
        let kept = idle.kept.pop();
        idle.least = idle.least.min(idle.kept.len());
        kept
    }

    /// Lets go of those that lay there all the time since the last call, but for a few.
    fn trim(&self) {
        let unused: Vec<Kept<P>> = {
            let mut idle = self.lock();
            let number = idle.least.saturating_sub(KEPT_INSTANCES);
            let unused = idle.kept.drain(..number).collect();
            idle.least = idle.kept.len();
            unused
        };
        // Takes some time for each, and the lock is free again.
        drop(unused);
    }
}

impl<P: Pre> Drop for Place<P> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
