//! A server whose sink never completes a put, to measure the memory of puts that wait.
//!
//! For each line on standard input it prints the number of waiting puts. It ends with its input.

#![expect(
    clippy::print_stdout,
    reason = "the address and the counts are what the program has to say"
)]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer};
use anyhow::Result;

/// Longer than any measurement.
const SINK_TIMEOUT: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<()> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&waiting);
    let server = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(0)
        .limits(Limits {
            sink_timeout: SINK_TIMEOUT,
            ..Limits::default()
        })
        .on_put(move |key, event| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move {
                pending::<()>().await;
                // Kept until then, as by a sink that waits for its store.
                drop((key, event));
                Ok(())
            }
        })
        .listen()
        .await?;
    println!("listening on http://{}", server.local_addr());
    // Standard input blocks, and needs no task: the server runs on the other threads.
    for line in io::stdin().lines() {
        line?;
        println!("{}", waiting.load(Ordering::Relaxed));
    }
    Ok(())
}
