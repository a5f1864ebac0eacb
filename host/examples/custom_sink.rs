//! A server with a sink of its own: a write-once map in memory.
//!
//! `cargo run --example custom_sink` listens on a free port and stops on Ctrl-C.

#![expect(clippy::print_stdout, reason = "an example prints its address")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use alldata_peer_server_http::sink::same_event;
use alldata_peer_server_http::{PeerServer, PutError, PutSink};

/// Events by their keys. It grows without a limit; a real sink has one, and answers
/// `PutError::Unavailable` when it is full.
#[derive(Default)]
struct MapSink {
    events: Mutex<HashMap<String, String>>,
}

impl PutSink for MapSink {
    /// `Ok` means that the event is stored: the client gets its 201 only then.
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        // Puts run concurrently. The lock makes "is the key free?" and "insert" one step. A panic
        // while it was held cannot have left the map half written.
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match events.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(event);
                Ok(())
            }
            // The same event again is a success, so that clients may repeat a put. A sink for events of
            // megabytes compares them outside of the lock, in `spawn_blocking`.
            Entry::Occupied(entry) if same_event(entry.get(), &event) => Ok(()),
            // A different event is refused, and the first one stays.
            Entry::Occupied(_) => Err(PutError::Conflict),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(0)
        .sink(MapSink::default())
        .listen()
        .await?;
    println!("listening on http://{}", server.local_addr());
    tokio::signal::ctrl_c().await?;
    // Finishes the requests in service; the clients have their responses when this returns.
    server.close().await;
    Ok(())
}
