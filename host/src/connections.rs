//! The connections of a server: how many there may be, in all and of one address, and which one is
//! closed for a new one.
//!
//! Is asked when a connection begins and ends, never for a request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::activity::Activity;
use crate::limits::Limits;
use crate::seldom::Seldom;

/// How long to wait until a connection that was asked to end has ended, or until one that is busy may
/// have become idle, before all are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
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
        let address = (this.max_per_address > 0).then(|| network(address));
        if let Some(address) = address
            && this.is_full(address)
        {
            return None;
        }
        let permit = this.permit().await;
        activity.begin_idle();
        let mut table = this.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.open.insert(id, Arc::clone(activity));
        if let Some(address) = address {
            *table.by_address.entry(address).or_default() += 1;
        }
        Some(ConnectionPermit {
            connections: Arc::clone(this),
            id,
            address,
            _permit: permit,
        })
    }

    fn is_full(&self, address: IpAddr) -> bool {
        let open = self.lock().by_address.get(&address).copied();
        if open.unwrap_or_default() < self.max_per_address {
            return false;
        }
        if let Some(left_out) = self.refused.say(&address.to_string()) {
            let connections = self.max_per_address;
            tracing::warn!(%address, connections, left_out, "no more connections of one address: closed");
        }
        true
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return permit;
            }
            if let Some(left_out) = self.crowded.say("") {
                let connections = self.max;
                tracing::warn!(
                    connections,
                    left_out,
                    "no more connections at a time: the one that is idle the longest is closed for the next"
                );
            }
            self.lock().end_longest_idle();
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    return permit.expect("nobody closes the semaphore");
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Each change leaves the table whole, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Asks the connection to end that has been idle the longest, if one is idle.
    fn end_longest_idle(&mut self) {
        if !self.end_a_candidate() {
            self.find_candidates();
            self.end_a_candidate();
        }
    }

    fn end_a_candidate(&mut self) -> bool {
        while let Some(candidate) = self.candidates.pop() {
            if let Some(activity) = self.open.get(&candidate.id)
                && activity.idle_since_ms() == Some(candidate.since_ms)
            {
                activity.ask_to_end();
                return true;
            }
        }
        false
    }

    fn find_candidates(&mut self) {
        let open = self.open.iter();
        let idle = open.filter_map(|(id, activity)| {
            let since_ms = activity.idle_since_ms()?;
            Some(Candidate { since_ms, id: *id })
        });
        self.candidates.extend(idle);
        if self.candidates.len() > CANDIDATES {
            self.candidates.select_nth_unstable(CANDIDATES);
            self.candidates.truncate(CANDIDATES);
        }
        self.candidates
            .sort_unstable_by(|left, right| right.cmp(left));
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.open.remove(&self.id);
        if let Some(address) = self.address
            && let Some(open) = table.by_address.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                table.by_address.remove(&address);
            }
        }
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
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::{CANDIDATES, Connections, network};
    use crate::activity::Activity;
    use crate::limits::Limits;

    fn connections(max_connections: u32) -> Arc<Connections> {
        Arc::new(Connections::new(&Limits {
            max_connections,
            max_connections_per_address: 0,
            ..Limits::default()
        }))
    }

    #[tokio::test]
    async fn connections_end_in_the_order_in_which_they_became_idle() {
        let max = 3 * CANDIDATES;
        let connections = connections(max as u32);
        let mut open = Vec::new();
        for number in 0..max {
            let activity = Arc::new(Activity::default());
            let address = [127, 0, 0, 1].into();
            let admitted = Connections::admit(&connections, address, &activity).await;
            activity.set_idle_since_ms((number * 7 % max) as u64);
            open.push((activity, admitted.expect("there is no limit")));
        }
        // It is in service.
        open[0].0.begin_request();
        for expected in 1..max {
            connections.lock().end_longest_idle();
            let ended: Vec<usize> = (0..max)
                .filter(|number| open[*number].0.is_asked_to_end())
                .map(|number| number * 7 % max)
                .collect();
            assert_eq!(ended, [expected]);
            open.iter().for_each(|(activity, _)| activity.decline_end());
            let busy = (0..max).find(|number| number * 7 % max == expected);
            open[busy.expect("is one")].0.begin_request();
        }
        connections.lock().end_longest_idle();
        assert!(open.iter().all(|(activity, _)| !activity.is_asked_to_end()));
        drop(open);
        assert!(connections.lock().open.is_empty());
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
