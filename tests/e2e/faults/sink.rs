//! A sink that hangs, panics or fails every other time, before or after it has stored the event in memory.

use std::collections::BTreeSet;
use std::future;
use std::net::SocketAddr;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alldata_peer_server_http::sinks::MemorySink;
use alldata_peer_server_http::{Limits, PeerServer, PutError, PutSink as _};
use fastrand::Rng;

use super::{History, Load, Outcome, Rounds, Store, conclude};
use crate::support::Embedded;

/// The sink time-out: short, since the sink hangs often.
const SINK_TIMEOUT: Duration = Duration::from_millis(50);

/// More than all histories need.
const CAPACITY_BYTES: usize = 1 << 30;

#[test]
fn failing_every_other_time_loses_nothing() {
    Rounds::of("sink", 4).play(|rng| {
        let mut history = History::default();
        let server = FaultyServer::start(rng.fork());
        for phase in 0..3 {
            let load = Load::of_few_keys(&format!("{phase}"), rng.usize(2..=8), rng.usize(1..=4));
            let clients = history.start_clients(server.embedded.address(), &load, rng);
            clients.wait_for_outcomes(rng.usize(1..10), Outcome::Unknown);
            clients.wait_for_outcomes(rng.usize(1..40), Outcome::Acknowledged);
            history.read(&server);
            history.add(clients);
        }
        conclude(history, &server, rng)
    });
}

/// The fault of the sink, every other time.
#[derive(Clone, Copy)]
enum SinkFault {
    Hangs,
    Panics,
    Fails,
    DoesNotKnow,
    /// The only fault in which the sink says that it has not stored the event.
    IsUnavailable,
}

const SINK_FAULTS: [SinkFault; 5] = [
    SinkFault::Hangs,
    SinkFault::Panics,
    SinkFault::Fails,
    SinkFault::DoesNotKnow,
    SinkFault::IsUnavailable,
];

/// When the sink stores the event of a put that fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Never,
    Before,
    /// With a later put, long after this one was answered.
    Later,
}

struct FaultySink {
    memory: MemorySink,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    is_well: bool,
    keys: BTreeSet<String>,
    /// The events that are still to be stored.
    late: Vec<(String, String)>,
}

impl FaultySink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        if let Some((key, event)) = self.late() {
            // The put was answered long ago.
            let _ = self.memory.put(key, event).await;
        }
        let Some((fault, when)) = self.fault(&key, &event) else {
            return self.memory.put(key, event).await;
        };
        if when == When::Before {
            self.memory.put(key, event).await?;
        }
        match fault {
            SinkFault::Hangs => future::pending().await,
            // Unwinds like a panic, without its message on standard error.
            SinkFault::Panics => panic::resume_unwind(Box::new("a test fault")),
            SinkFault::Fails => Err(PutError::Failed("a test fault".to_owned())),
            SinkFault::DoesNotKnow => Err(PutError::Unknown),
            SinkFault::IsUnavailable => Err(PutError::Unavailable {
                retry_after_seconds: 1,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the events that earlier puts have left.
    fn late(&self) -> Option<(String, String)> {
        let state = &mut *self.lock();
        let is_now = !state.late.is_empty() && state.rng.bool();
        let index = is_now.then(|| state.rng.usize(..state.late.len()))?;
        Some(state.late.swap_remove(index))
    }

    /// The fault for this put, if any.
    fn fault(&self, key: &str, event: &str) -> Option<(SinkFault, When)> {
        let state = &mut *self.lock();
        state.keys.insert(key.to_owned());
        state.is_well = !state.is_well;
        if state.is_well {
            return None;
        }
        let fault = SINK_FAULTS[state.rng.usize(..SINK_FAULTS.len())];
        let when = match fault {
            SinkFault::IsUnavailable => When::Never,
            _ => [When::Never, When::Before, When::Later][state.rng.usize(..3)],
        };
        if when == When::Later {
            state.late.push((key.to_owned(), event.to_owned()));
        }
        Some((fault, when))
    }
}

struct FaultyServer {
    embedded: Embedded,
    sink: Arc<FaultySink>,
}

impl FaultyServer {
    fn start(rng: Rng) -> Self {
        let state = State {
            rng,
            is_well: false,
            keys: BTreeSet::new(),
            late: Vec::new(),
        };
        let sink = Arc::new(FaultySink {
            memory: MemorySink::new(CAPACITY_BYTES),
            state: Mutex::new(state),
        });
        let shared = Arc::clone(&sink);
        let builder = PeerServer::builder().on_put(move |key, event| {
            let sink = Arc::clone(&shared);
            async move { sink.put(key, event).await }
        });
        let embedded = Embedded::start(builder.limits(Limits {
            sink_timeout: SINK_TIMEOUT,
            ..Limits::default()
        }));
        Self { embedded, sink }
    }
}

impl Store for FaultyServer {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.embedded.address()]
    }

    fn events(&self) -> Vec<(String, String)> {
        let keys = self.sink.lock().keys.clone().into_iter();
        let events = keys.filter_map(|key| Some((key.clone(), self.sink.memory.get(&key)?)));
        events.collect()
    }

    fn verify(&self) {}
}
