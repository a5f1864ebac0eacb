//! The native twin: plain hyper with the same decoder and the same sinks, without WebAssembly.
//!
//! It shows the least that a put costs. It has no limits, no time-outs and no graceful shutdown: their cost in
//! the real server is part of the comparison.

#![expect(
    clippy::print_stdout,
    reason = "the address is what the program has to say"
)]

use std::convert::Infallible;
use std::env;

use alldata_peer_protocol::decode::decode;
use alldata_peer_protocol::outcome::Outcome;
use alldata_peer_server_http::sink::BoxSink;
use alldata_peer_server_http::{PutError, PutSink as _, sinks};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::args().nth(1).context("usage: native-twin SINK")?;
    let sink = sinks::open(&url).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let sink = sink.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &sink));
            // The options of the real server that cost nothing.
            let connection = http1::Builder::new()
                .half_close(true)
                .writev(false)
                .serve_connection(TokioIo::new(stream), service);
            // Every measurement ends with clients that close their connections.
            let _ = connection.await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    sink: &BoxSink,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = put(request, sink).await.response();
    let mut response = Response::new(Full::from(answer.body()));
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).expect("an outcome's status is a valid one");
    Ok(response)
}

async fn put(request: Request<Incoming>, sink: &BoxSink) -> Outcome {
    let Ok(body) = request.into_body().collect().await else {
        return Outcome::IncompleteBody;
    };
    let body = body.to_bytes();
    let (key, event) = match decode(&body) {
        Ok(put) => (put.key.into_owned(), put.event.to_owned()),
        Err(error) => return Outcome::Malformed(error),
    };
    match sink.put(key, event).await {
        Ok(()) => Outcome::Stored,
        Err(PutError::Conflict) => Outcome::Conflict,
        Err(PutError::Rejected(reason)) => Outcome::Rejected(reason),
        Err(PutError::Unavailable {
            retry_after_seconds,
        }) => Outcome::Unavailable {
            retry_after_seconds,
        },
        Err(PutError::Unknown) => Outcome::Unknown,
        Err(PutError::Failed(_)) => Outcome::Failed,
    }
}
