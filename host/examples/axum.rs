//! A peer server beside an axum application: two ports, one runtime, one shutdown.
//!
//! `cargo run --example axum` listens on free ports, stores events in `events.db`, and stops on Ctrl-C.
//! `cargo run --example axum -- SINK` puts them into another sink, such as `memory:`.

#![expect(clippy::print_stdout, reason = "an example prints its addresses")]

use std::future::IntoFuture as _;
use std::sync::Arc;

use alldata_peer_server_http::{PeerServer, sinks};
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sink = std::env::args().nth(1);
    let sink = sink.unwrap_or_else(|| "sqlite:events.db".to_owned());

    // The application gets its port first, so that no store is created if that fails.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let peer = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(0)
        .sink_when_bound(async move { sinks::open(&sink).await })
        .listen()
        .await?;
    println!("peer on http://{}", peer.local_addr());
    println!("application on http://{}", listener.local_addr()?);

    // The peer accepts connections in tasks of its own; axum's future has to be polled.
    let shutdown = Arc::new(Notify::new());
    let stop = Arc::clone(&shutdown);
    let application = Router::new().route("/healthz", get(|| async { "ok" }));
    let application = axum::serve(listener, application)
        .with_graceful_shutdown(async move { stop.notified().await })
        .into_future();
    let application = tokio::spawn(application);

    tokio::signal::ctrl_c().await?;
    // The peer is closed first: the application stays up until all events are stored.
    peer.close().await;
    shutdown.notify_one();
    application.await??;
    // Dropping the sink waits for its file, which must not block a thread of the runtime.
    tokio::task::spawn_blocking(move || drop(peer)).await?;
    Ok(())
}
