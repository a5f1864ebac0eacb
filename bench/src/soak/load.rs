//! Puts at a fixed rate, through kills of the server, each recorded with its outcome.
//!
//! A load generator of our own, since neither wrk nor oha reports which put a 201 was for. Each connection has
//! a thread, and waits for each response before its next put. Puts that were due while no server was running
//! are skipped, and none is repeated.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::results::CONNECTIONS;
use crate::soak::ledger::{self, Ledger, Unacknowledged};

/// The time-out of a response, so that a missing one is detected.
pub(crate) const RESPONSE_DEADLINE: Duration = Duration::from_secs(30);

/// The pause before a connection tries again to reach a server that is not running.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// The largest delay of a put that is still made: short stalls do not lower the rate, and a server that was
/// down does not get all skipped puts at once.
const CATCH_UP: Duration = Duration::from_millis(100);

/// The interval at which a waiting connection checks whether the load has to stop.
const STOP_TICK: Duration = Duration::from_millis(50);

/// The stack size of threads that only send and wait.
const STACK_BYTES: usize = 128 * 1024;

/// The most bytes of a response's header section: that of a 201 has about 75.
const HEAD_BYTES: usize = 4096;

/// Puts that continue until they are stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    connections: Vec<JoinHandle<Ledger>>,
}

struct Shared {
    address: SocketAddr,
    start: Instant,
    /// The time from one put of a connection to its next.
    interval: Duration,
    is_stopped: AtomicBool,
    acknowledged: AtomicU64,
}

impl Load {
    /// Starts this many puts per second.
    pub(crate) fn start(address: SocketAddr, puts_per_second: f64) -> Result<Self> {
        let shared = Arc::new(Shared {
            address,
            start: Instant::now(),
            interval: Duration::from_secs_f64(CONNECTIONS as f64 / puts_per_second),
            is_stopped: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
        });
        let mut load = Self {
            shared,
            connections: Vec::new(),
        };
        for connection in 0..CONNECTIONS {
            let shared = Arc::clone(&load.shared);
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.spawn(move || shared.keep_putting(connection))?;
            load.connections.push(thread);
        }
        Ok(load)
    }

    /// The number of puts that were answered with 201 so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets each connection finish its put, and returns the outcomes of all.
    pub(crate) fn stop(mut self) -> Result<Vec<Ledger>> {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        let connections = self.connections.drain(..);
        let ledgers = connections.map(JoinHandle::join);
        ledgers
            .map(|ledger| ledger.map_err(|_| anyhow!("a connection of the load panicked")))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn keep_putting(&self, connection: usize) -> Ledger {
        let mut ledger = Ledger::default();
        let mut connected = None;
        // The connections are staggered.
        let mut due = self.start
            + self
                .interval
                .mul_f64(connection as f64 / CONNECTIONS as f64);
        while self.wait_until(due) {
            if let Some(mut stream) = connected.take().or_else(|| self.connect()) {
                let number = ledger::number(connection, ledger.next());
                let outcome = put(&mut stream, self.address, number);
                if outcome.is_ok() {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    connected = Some(stream);
                }
                ledger.add(outcome);
            }
            due = next_due(due, self.interval, Instant::now());
        }
        ledger
    }

    /// Whether the load still runs at that time.
    fn wait_until(&self, due: Instant) -> bool {
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(STOP_TICK));
        }
    }

    fn connect(&self) -> Option<TcpStream> {
        let connected = TcpStream::connect(self.address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(RESPONSE_DEADLINE))?;
            Ok(stream)
        });
        if connected.is_err() {
            thread::sleep(CONNECT_PAUSE);
        }
        connected.ok()
    }
}

fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let oldest = now.checked_sub(CATCH_UP).unwrap_or(now);
    (due + interval).max(oldest)
}

fn put(stream: &mut TcpStream, host: SocketAddr, number: u64) -> Result<(), Unacknowledged> {
    let (key, event) = (ledger::key(number), ledger::event(number));
    let body = format!(r#"{{"key":"{key}","event":{event}}}"#);
    let length = body.len();
    let put =
        format!("POST /_put HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}");
    match stream
        .write_all(put.as_bytes())
        .and_then(|()| read_status(stream))
    {
        Ok(201) => Ok(()),
        Ok(status) => Err(Unacknowledged::Other(status)),
        Err(error) => Err(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Unacknowledged::NotAnswered,
            _ => Unacknowledged::ConnectionLost,
        }),
    }
}

/// Reads the header section of a response, and returns its status. A 201 has no body.
fn read_status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut head = [0; HEAD_BYTES];
    let mut length = 0;
    loop {
        match stream.read(&mut head[length..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
        if head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            return parse_status(&head[..length]).ok_or(ErrorKind::InvalidData.into());
        }
    }
}

/// The status of a response whose header section is complete. `None` if a 201 has a body.
fn parse_status(answer: &[u8]) -> Option<u16> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = str::from_utf8(status).ok()?.parse().ok()?;
    (status != 201 || answer.ends_with(b"\r\n\r\n")).then_some(status)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CATCH_UP, next_due, parse_status};

    #[test]
    fn response_has_a_status() {
        for (answer, status) in [
            (
                "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
                Some(201),
            ),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ti", Some(503)),
            ("HTTP/1.1 201 Created\r\n\r\nmore", None),
            ("201 Created\r\n\r\n", None),
        ] {
            assert_eq!(parse_status(answer.as_bytes()), status, "{answer}");
        }
    }

    #[test]
    fn outage_is_not_made_up_for() {
        let (start, interval) = (Instant::now(), Duration::from_millis(2));
        let slow = start + Duration::from_millis(50);
        assert_eq!(next_due(start, interval, slow), start + interval);
        let away = start + Duration::from_secs(5);
        assert_eq!(next_due(start, interval, away), away - CATCH_UP);
    }
}
