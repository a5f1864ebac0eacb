//! Limits the number of connections, in all and for each address.
//!
//! Called when a connection begins and ends; a request only checks whether a connection waits.
//! `open_connections` chooses the connection that is closed for a new one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::limits::Limits;
use crate::server::connection_state::{ConnectionState, now_ms};
use crate::server::open_connections::OpenConnections;
use crate::util::log_limiter::LogLimiter;

/// The length of the prefix of an IPv6 network: a client may use any address in its network.
const IPV6_NETWORK_BITS: u32 = 64;

/// The connections that a server has accepted itself.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    max: u32,
    /// 0 for any number.
    max_per_address: u32,
    /// A permit for each connection that there may be.
    permits: Arc<Semaphore>,
    /// How many connections wait for a permit.
    waiting: AtomicUsize,
    table: Mutex<Table>,
    full: LogLimiter,
    address_full: LogLimiter,
}

#[derive(Debug, Default)]
struct Table {
    open: OpenConnections,
    /// Empty if there is no limit.
    by_address: HashMap<IpAddr, u32>,
}

/// The permit of a connection. Dropped, it is released.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    connections: Arc<ConnectionLimiter>,
    id: u64,
    /// `None` if there is no limit.
    _address_permit: Option<AddressPermit>,
    _permit: OwnedSemaphorePermit,
}

/// The permit of a connection for its address, also while it waits for a [`ConnectionPermit`].
#[derive(Debug)]
pub(crate) struct AddressPermit {
    connections: Arc<ConnectionLimiter>,
    address: IpAddr,
}

/// Counts a connection as waiting until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl ConnectionLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            waiting: AtomicUsize::new(0),
            table: Mutex::default(),
            full: LogLimiter::default(),
            address_full: LogLimiter::default(),
        }
    }

    /// Waits for a permit for a new connection; if all are in use, the connection that is idle longest is
    /// closed. `None` if its address has as many as allowed. Clients on Unix sockets have no address.
    pub(crate) async fn admit(
        this: &Arc<Self>,
        address: Option<IpAddr>,
        state: &Arc<ConnectionState>,
    ) -> Option<ConnectionPermit> {
        let address_permit = match address {
            Some(address) if this.max_per_address > 0 => {
                Some(Self::admit_address(this, network(address))?)
            }
            _ => None,
        };
        let permit = this.permit().await;
        state.begin_idle();
        Some(ConnectionPermit {
            connections: Arc::clone(this),
            id: this.lock().open.add(state),
            _address_permit: address_permit,
            _permit: permit,
        })
    }

    /// A permit for a further connection of an address, with which the connection counts once it is known; `None` if there
    /// are as many as allowed, and no permit if any number is.
    #[expect(
        clippy::option_option,
        reason = "whether there is a permit, and whether one is needed"
    )]
    pub(crate) fn admit_client(this: &Arc<Self>, address: IpAddr) -> Option<Option<AddressPermit>> {
        match this.max_per_address {
            0 => Some(None),
            _ => Self::admit_address(this, network(address)).map(Some),
        }
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
        if let Some(suppressed) = this.address_full.check(&address.to_string()) {
            tracing::warn!(%address, connections, suppressed, "too many connections of one address: closed");
        }
        None
    }

    /// Whether a connection waits until another one closes.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many connections wait until another one closes.
    #[cfg(feature = "admin")]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            if let Some(suppressed) = self.full.check("") {
                let connections = self.max;
                tracing::warn!(
                    connections,
                    suppressed,
                    "too many connections at a time: the one that is idle longest is closed for the next"
                );
            }
            let wanted = self.waiting.load(Ordering::Relaxed);
            let recheck = self.lock().open.close_longest_idle(wanted, now_ms());
            tokio::select! {
                permit = Arc::clone(&self.permits).acquire_owned() => {
                    return permit.expect("the semaphore is never closed");
                }
                () = sleep(recheck) => {}
            }
        }
    }

    /// Each change leaves the table consistent, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.lock().open.remove(self.id);
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

/// The address, or for IPv6 its network.
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

    use futures_util::FutureExt as _;

    use super::{ConnectionLimiter, network};
    use crate::limits::Limits;
    use crate::server::connection_state::ConnectionState;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Connections that wait count too; otherwise each listener could admit one more.
    #[tokio::test]
    async fn limit_of_address_holds_for_connections_that_wait() {
        let connections = Arc::new(ConnectionLimiter::new(&Limits {
            max_connections: 1,
            max_connections_per_address: 2,
            ..Limits::default()
        }));
        let admit = || {
            let connections = Arc::clone(&connections);
            async move {
                let state = Arc::new(ConnectionState::default());
                ConnectionLimiter::admit(&connections, Some(ADDRESS), &state).await
            }
        };
        let first = admit().now_or_never().expect("does not wait");
        let mut second = Box::pin(admit());
        assert!(second.as_mut().now_or_never().is_none(), "it does not wait");
        assert!(connections.has_waiting());
        let third = admit().now_or_never().expect("does not wait");
        assert!(third.is_none(), "a third is admitted");
        drop(first);
        let second = second.await;
        assert!(!connections.has_waiting());
        assert_eq!(connections.lock().by_address[&ADDRESS], 1);
        drop(second);
        assert!(connections.lock().by_address.is_empty());
    }

    #[test]
    fn ipv6_network_counts_as_one_address() {
        let network = |address: &str| network(address.parse().expect("is one"));
        let address = |address: &str| address.parse::<IpAddr>().expect("is one");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::"));
        assert_eq!(network("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(network("192.0.2.1"), address("192.0.2.1"));
    }
}
