//! The cost of the parts of a put, each by itself: decoding, and a put without a network.
//!
//! `make bench` measures a put as a whole.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use alldata_peer_protocol::decode::decode;
use alldata_peer_server_http::{Limits, PeerServer, sinks::DiscardSink};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The sizes of events, in bytes: those of `make bench`.
const EVENT_BYTES: [usize; 2] = [100, 4096];

/// The capacity of a connection in memory, in bytes: more than a request.
const CONNECTION_BYTES: usize = 64 * 1024;

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for event_bytes in EVENT_BYTES {
        let body = body(event_bytes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("event of {event_bytes} bytes"), |bencher| {
            bencher.iter(|| decode(black_box(&body)).expect("is a put").event.len());
        });
    }
    group.finish();
}

/// A put over a connection in memory: HTTP, one call of the guest, and the response.
fn put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    for (instances, reuse) in [("kept", u32::MAX), ("fresh", 1)] {
        for event_bytes in EVENT_BYTES {
            let body = body(event_bytes);
            let head = format!(
                "POST /_put HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let request = [head.as_bytes(), &body].concat();
            let name = format!("{instances} instance, event of {event_bytes} bytes");
            group.bench_function(name, |bencher| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = runtime.expect("starts a runtime");
                let mut client = runtime.block_on(connect(reuse));
                bencher.iter_custom(|times| {
                    runtime.block_on(async {
                        let began = Instant::now();
                        for _ in 0..times {
                            exchange(&mut client, &request).await;
                        }
                        began.elapsed()
                    })
                });
            });
        }
    }
    group.finish();
}

/// The client's end of a connection to a server of its own.
async fn connect(reuse: u32) -> tokio::io::DuplexStream {
    let server = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(0)
        .sink(DiscardSink)
        .limits(Limits {
            max_instance_reuse_count: reuse,
            ..Limits::default()
        });
    let server = Arc::new(server.listen().await.expect("listens"));
    let (client, connection) = tokio::io::duplex(CONNECTION_BYTES);
    tokio::spawn(async move { server.serve_connection(connection).await });
    client
}

async fn exchange(client: &mut tokio::io::DuplexStream, request: &[u8]) {
    client.write_all(request).await.expect("is read");
    let mut answer = [0; 1024];
    let length = client.read(&mut answer).await.expect("is answered");
    assert!(answer[..length].starts_with(b"HTTP/1.1 201 "));
}

/// The body of a put like that of `bench/put.lua`.
fn body(event_bytes: usize) -> Vec<u8> {
    let event = r#"{"customer":1,"action":"site visit","note":""#;
    let note = "x".repeat(event_bytes - event.len() - 2);
    format!(r#"{{"key":"20130927T005240652508858176","event":{event}{note}"}}}}"#).into_bytes()
}

criterion_group!(benches, decoding, put);
criterion_main!(benches);
