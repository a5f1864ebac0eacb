//! A relay of TCP connections that a test can cut, pause, slow down and restore.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The size of the relay's buffer, in bytes.
const RELAY_BYTES: usize = 64 * 1024;

/// A listener whose connections are relayed to another address.
pub struct Link {
    address: SocketAddr,
    relay: Arc<Relay>,
}

#[derive(Default)]
struct Relay {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    passing: Passing,
    /// Both ends of all connections so far, to close them.
    streams: Vec<TcpStream>,
    /// The number of connections that were closed at once.
    refused: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Passing {
    #[default]
    Open,
    /// Everything is relayed, with this delay.
    Late(Duration),
    /// Connections stay open, and nothing is relayed.
    Held,
    /// Connections stay open, and nothing from the target is relayed.
    HeldBack,
    /// Connections are closed.
    Cut,
    /// The link was dropped.
    Ended,
}

impl Link {
    /// A link to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let relay = Arc::new(Relay::default());
        let relayed = Arc::clone(&relay);
        thread::spawn(move || relayed.accept(&listener, target));
        Self { address, relay }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of connections that were closed at once so far.
    pub fn refused(&self) -> usize {
        self.relay.lock().refused
    }

    /// Closes all connections, and each new one at once.
    pub fn cut(&self) {
        self.relay.set(Passing::Cut);
    }

    /// Keeps all connections open, but relays nothing.
    pub fn hold(&self) {
        self.relay.set(Passing::Held);
    }

    /// Keeps all connections open, but relays nothing from the target.
    pub fn hold_back(&self) {
        self.relay.set(Passing::HeldBack);
    }

    /// Relays everything with this delay.
    pub fn slow(&self, delay: Duration) {
        self.relay.set(Passing::Late(delay));
    }

    /// Relays everything again.
    pub fn mend(&self) {
        self.relay.set(Passing::Open);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relay.set(Passing::Ended);
        // Wakes the thread that accepts, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Relay {
    fn set(&self, passing: Passing) {
        let mut state = self.lock();
        state.passing = passing;
        if matches!(passing, Passing::Cut | Passing::Ended) {
            for stream in state.streams.drain(..) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, target: SocketAddr) {
        for near in listener.incoming() {
            let passing = self.lock().passing;
            if passing == Passing::Ended {
                return;
            }
            let (Ok(near), true) = (near, passing != Passing::Cut) else {
                self.lock().refused += 1;
                continue;
            };
            // If nobody listens, the connection is closed.
            if let Ok(far) = TcpStream::connect(target) {
                self.relay_both(&near, &far);
            }
        }
    }

    fn relay_both(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        for (from, to, is_back) in [(near, far, false), (far, near, true)] {
            let clone = |stream: &TcpStream| stream.try_clone().expect("is cloned");
            let (from, to) = (clone(from), clone(to));
            // It may be closed already.
            let _ = to.set_nodelay(true);
            self.lock().streams.push(clone(&from));
            let relay = Arc::clone(self);
            thread::spawn(move || relay.relay(from, to, is_back));
        }
    }

    fn relay(&self, mut from: TcpStream, mut to: TcpStream, is_back: bool) {
        let mut buffer = vec![0; RELAY_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !self.wait_to_pass(is_back) || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // Either may be closed already.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Whether data that was read may be relayed, once that is known.
    fn wait_to_pass(&self, is_back: bool) -> bool {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            let delay = match state.passing {
                Passing::Open => return true,
                Passing::HeldBack if !is_back => return true,
                Passing::Held | Passing::HeldBack => Duration::MAX,
                Passing::Late(delay) => delay,
                Passing::Cut | Passing::Ended => return false,
            };
            let Some(left) = delay.checked_sub(start.elapsed()) else {
                return true;
            };
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
