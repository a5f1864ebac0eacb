//! The connections of a server: how many there may be, in all and of one address, and which one is
//! closed for a new one.
//!
//! Is asked when a connection begins and ends, never for a request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::activity::{Activity, now_ms};
use crate::limits::Limits;
use crate::seldom::Seldom;

/// How long to wait until a connection that was asked to end has ended, or until one that is busy may
/// have become idle, before all are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a connection has been idle at least when it is closed for another: in less the first or the
/// next request of a client may be on its way. Many times as long as that takes in one network, and so
/// short that a crowd of silent clients that keeps all places is through in seconds.
const MIN_IDLE_TIME: Duration = Duration::from_millis(100);

/// How many connections a look at all of them finds that have been idle the longest: so many new ones
/// need no further look.
const CANDIDATES: usize = 256;

/// How many bits of an IPv6 address are those of one network, all of whose addresses anyone in it may
/// use.
const IPV6_NETWORK_BITS: u32 = 64;

/// The connections that a server has accepted itself.
#[derive(Debug)]
pub(crate) struct Connections {
    max: u32,
    /// 0 for any number.
    max_per_address: u32,
    /// A permit for each connection that there may be.
    permits: Arc<Semaphore>,
    /// How many connections wait for a permit.
    waiting: AtomicUsize,
    table: Mutex<Table>,
    crowded: Seldom,
    refused: Seldom,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Arc<Activity>>,
    /// Empty where there is no limit.
    by_address: HashMap<IpAddr, u32>,
    /// Those that had been idle the longest when all were looked at, the longest last.
    candidates: Vec<Candidate>,
}

/// A connection that was idle since then. In the order in which they became so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    since_ms: u64,
    id: u64,
}

/// The permit of a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    connections: Arc<Connections>,
    id: u64,
    /// `None` where there is no limit.
    _of_address: Option<AddressPermit>,
    _permit: OwnedSemaphorePermit,
}

/// The share of a connection, also of one that waits, in what its address may have.
#[derive(Debug)]
struct AddressPermit {
    connections: Arc<Connections>,
    address: IpAddr,
}

/// A connection that waits for its permit, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            waiting: AtomicUsize::new(0),
            table: Mutex::default(),
            crowded: Seldom::default(),
            refused: Seldom::default(),
        }
    }

    /// A permit for a new connection, once there is one: where all are taken, the connection that has
    /// been idle the longest is closed. `None` where its address has as many as it may.
    pub(crate) async fn admit(
        this: &Arc<Self>,
        address: IpAddr,
        activity: &Arc<Activity>,
    ) -> Option<ConnectionPermit> {
        let of_address = match this.max_per_address {
            0 => None,
            _ => Some(Self::admit_address(this, network(address))?),
        };
        let permit = this.permit().await;
        activity.begin_idle();
        let mut table = this.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.open.insert(id, Arc::clone(activity));
        Some(ConnectionPermit {
            connections: Arc::clone(this),
            id,
            _of_address: of_address,
            _permit: permit,
        })
    }

    fn admit_address(this: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let connections = this.max_per_address;
        {
            let mut table = this.lock();
            let open = table.by_address.entry(address).or_default();
            if *open < connections {
                *open += 1;
                return Some(AddressPermit {
                    connections: Arc::clone(this),
                    address,
                });
            }
        }
        if let Some(left_out) = this.refused.say(&address.to_string()) {
            tracing::warn!(%address, connections, left_out, "no more connections of one address: closed");
        }
        None
    }

    /// Whether a connection waits until another one ends.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            if let Some(left_out) = self.crowded.say("") {
                let connections = self.max;
                tracing::warn!(
                    connections,
                    left_out,
                    "no more connections at a time: the one that is idle the longest is closed for the next"
                );
            }
            let look_again = self.lock().end_longest_idle(now_ms());
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    return permit.expect("nobody closes the semaphore");
                }
                () = sleep(look_again) => {}
            }
        }
    }

    /// Each change leaves the table whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Asks the connection to end that has been idle the longest, if it has been so for long enough.
    /// Returns when to do so again.
    fn end_longest_idle(&mut self, now_ms: u64) -> Duration {
        if self.end_a_candidate(now_ms) {
            return LOOK_AGAIN;
        }
        self.find_candidates();
        if self.end_a_candidate(now_ms) {
            return LOOK_AGAIN;
        }
        let next = self.candidates.last();
        let rest = next.map(|next| MIN_IDLE_TIME.saturating_sub(next.idle_time(now_ms)));
        rest.map_or(LOOK_AGAIN, |rest| rest.min(LOOK_AGAIN))
    }

    fn end_a_candidate(&mut self, now_ms: u64) -> bool {
        while let Some(candidate) = self.candidates.last() {
            if let Some(activity) = self.open.get(&candidate.id)
                && activity.idle_since_ms() == Some(candidate.since_ms)
            {
                if candidate.idle_time(now_ms) < MIN_IDLE_TIME && !activity.is_lingering() {
                    return false;
                }
                activity.ask_to_end();
                self.candidates.pop();
                return true;
            }
            self.candidates.pop();
        }
        false
    }

    fn find_candidates(&mut self) {
        let open = self.open.iter();
        let idle = open.filter_map(|(id, activity)| {
            let since_ms = activity.idle_since_ms()?;
            Some(Candidate { since_ms, id: *id })
        });
        self.candidates.clear();
        self.candidates.extend(idle);
        if self.candidates.len() > CANDIDATES {
            self.candidates.select_nth_unstable(CANDIDATES);
            self.candidates.truncate(CANDIDATES);
        }
        self.candidates
            .sort_unstable_by(|left, right| right.cmp(left));
    }
}

impl Candidate {
    fn idle_time(self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.since_ms))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.id);
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        if let Some(open) = table.by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                table.by_address.remove(&self.address);
            }
        }
    }
}

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The address, or of IPv6 its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = !0 << (u128::BITS - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::{CANDIDATES, ConnectionPermit, Connections, LOOK_AGAIN, network};
    use crate::activity::{Activity, OpenAnswer};
    use crate::limits::Limits;

    fn connections(max_connections: u32) -> Arc<Connections> {
        Arc::new(Connections::new(&Limits {
            max_connections,
            max_connections_per_address: 0,
            ..Limits::default()
        }))
    }

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Connections that became idle at these times.
    async fn idle_since(
        connections: &Arc<Connections>,
        times_ms: impl Iterator<Item = u64>,
    ) -> Vec<(Arc<Activity>, ConnectionPermit)> {
        let mut open = Vec::new();
        for since_ms in times_ms {
            let activity = Arc::new(Activity::default());
            let admitted = Connections::admit(connections, ADDRESS, &activity).await;
            activity.set_idle_since_ms(since_ms);
            open.push((activity, admitted.expect("there is no limit")));
        }
        open
    }

    /// Those that are asked to end now. From then on they are in service.
    fn asked(open: &[(Arc<Activity>, ConnectionPermit)]) -> Vec<usize> {
        let context = Context::from_waker(Waker::noop());
        let asked = open.iter().enumerate().filter(|(_, (activity, _))| {
            let is_asked = activity.is_asked_to_end();
            if is_asked {
                activity.decline_end(&context);
                activity.begin_request();
            }
            is_asked
        });
        asked.map(|(number, _)| number).collect()
    }

    #[tokio::test]
    async fn connections_end_in_the_order_in_which_they_became_idle() {
        let max = 3 * CANDIDATES;
        let connections = connections(max as u32);
        let since_ms = |number| (number * 7 % max) as u64;
        let open = idle_since(&connections, (0..max).map(since_ms)).await;
        // It is in service.
        open[0].0.begin_request();
        let now_ms = 1_000_000;
        for expected in 1..max as u64 {
            connections.lock().end_longest_idle(now_ms);
            let asked: Vec<u64> = asked(&open).into_iter().map(since_ms).collect();
            assert_eq!(asked, [expected]);
        }
        connections.lock().end_longest_idle(now_ms);
        assert!(asked(&open).is_empty());
        drop(open);
        assert!(connections.lock().open.is_empty());
    }

    #[tokio::test]
    async fn connection_that_was_in_service_just_now_is_not_ended() {
        let connections = connections(3);
        let open = idle_since(&connections, [2000, 1000, 3000].into_iter()).await;
        let look = |now_ms| connections.lock().end_longest_idle(now_ms);
        assert_eq!(look(1000), LOOK_AGAIN);
        assert_eq!(look(1099), Duration::from_millis(1));
        assert!(asked(&open).is_empty());
        look(1100);
        assert_eq!(asked(&open), [1]);
        assert_eq!(look(2060), Duration::from_millis(40));
        assert!(asked(&open).is_empty());
        // Its client has its answer.
        open[2].0.begin_lingering();
        look(2060);
        assert_eq!(asked(&open), [2]);
    }

    #[tokio::test]
    async fn connection_that_is_answered_slowly_is_not_ended() {
        let connections = connections(2);
        let open = idle_since(&connections, [0, 0].into_iter()).await;
        open[0].0.set_write_blocked(true);
        let answer = OpenAnswer::new(&open[1].0);
        let now_ms = u64::MAX;
        connections.lock().end_longest_idle(now_ms);
        assert!(asked(&open).is_empty());
        drop(answer);
        connections.lock().end_longest_idle(now_ms);
        assert_eq!(asked(&open), [1]);
        open[0].0.set_write_blocked(false);
        connections.lock().end_longest_idle(now_ms);
        assert_eq!(asked(&open), [0]);
    }

    /// Connections that wait count too, or as many more as there are listeners could get in.
    #[tokio::test]
    async fn limit_of_address_holds_for_connections_that_wait() {
        let connections = Arc::new(Connections::new(&Limits {
            max_connections: 1,
            max_connections_per_address: 2,
            ..Limits::default()
        }));
        let admit = || {
            let connections = Arc::clone(&connections);
            async move {
                let activity = Arc::new(Activity::default());
                Connections::admit(&connections, ADDRESS, &activity).await
            }
        };
        let first = admit().now_or_never().expect("does not wait");
        let mut second = Box::pin(admit());
        assert!(second.as_mut().now_or_never().is_none(), "it does not wait");
        assert!(connections.is_crowded());
        let third = admit().now_or_never().expect("does not wait");
        assert!(third.is_none(), "a third is admitted");
        drop(first);
        let second = second.await;
        assert!(!connections.is_crowded());
        assert_eq!(connections.lock().by_address[&ADDRESS], 1);
        drop(second);
        assert!(connections.lock().by_address.is_empty());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let network = |address: &str| network(address.parse().expect("is one"));
        let address = |address: &str| address.parse::<IpAddr>().expect("is one");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::"));
        assert_eq!(network("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(network("192.0.2.1"), address("192.0.2.1"));
    }
}
