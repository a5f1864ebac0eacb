//! Puts as one route of an axum application, on its port: the server has no listener of its own.
//!
//! `cargo run --example axum_route` listens on a free port, stores events in `events.db`, and stops on Ctrl-C.
//! `cargo run --example axum_route -- SINK` puts them into another sink, such as `memory:`.

#![expect(clippy::print_stdout, reason = "an example prints its address")]

use alldata_peer_server_http::{PeerServer, sinks};
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sink = std::env::args().nth(1);
    let sink = sink.unwrap_or_else(|| "sqlite:events.db".to_owned());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let peer = PeerServer::builder()
        .sink_when_bound(async move { sinks::open(&sink).await })
        .build()
        .await?;
    println!("listening on http://{}", listener.local_addr()?);

    let application = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route_service("/_put", peer.service());
    // axum finishes the requests in service first. The service would refuse those that come after `close`.
    axum::serve(listener, application)
        .with_graceful_shutdown(async {
            // Without a handler for the signal, the process ends by it.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    peer.close().await;
    // Dropping the sink waits for its file, which must not block a thread of the runtime.
    tokio::task::spawn_blocking(move || drop(peer)).await?;
    Ok(())
}
