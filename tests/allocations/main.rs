//! The number of heap allocations of a put, each of which takes time. It may become smaller.
//!
//! A program of its own, since its allocator counts those of all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alldata_peer_server_http::PeerServer;
use alldata_peer_server_http::sinks::DiscardSink;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// The most allocations of a put of 100 bytes into a sink that does nothing, from its request to its response.
const MAX_ALLOCATIONS: u64 = 8;

/// The number of puts before they are counted, by when all buffers and the instance exist.
const WARM_UP_PUTS: u32 = 100;

/// The number of puts that are counted together.
const PUTS: u64 = 1000;

/// The capacity of a connection in memory, in bytes: more than a request.
const CONNECTION_BYTES: usize = 64 * 1024;

/// The allocator of the system, counted.
struct CountingAllocator(AtomicU64);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator(AtomicU64::new(0));

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: each call is passed on to the allocator of the system.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// One thread serves the connection and is the client, which allocates nothing.
#[tokio::test]
async fn put_makes_few_allocations() {
    let server = PeerServer::builder()
        .hostname("127.0.0.1")
        .port(0)
        .sink(DiscardSink);
    let server = Arc::new(server.listen().await.expect("listens"));
    let (mut client, connection) = tokio::io::duplex(CONNECTION_BYTES);
    tokio::spawn(async move { server.serve_connection(connection).await });
    let note = "x".repeat(88);
    let body = format!(r#"{{"key":"20130927T005240652508858176","event":{{"note":"{note}"}}}}"#);
    let head = "POST /_put HTTP/1.1\r\nHost: localhost\r\nContent-Length: ";
    let request = format!("{head}{}\r\n\r\n{body}", body.len());
    for _ in 0..WARM_UP_PUTS {
        exchange(&mut client, &request).await;
    }
    let before = ALLOCATOR.0.load(Ordering::Relaxed);
    for _ in 0..PUTS {
        exchange(&mut client, &request).await;
    }
    let allocations = ALLOCATOR.0.load(Ordering::Relaxed) - before;
    // Rare ones, as of a timer, are not those of a put.
    let for_each = allocations / PUTS;
    assert!(
        for_each <= MAX_ALLOCATIONS,
        "{for_each} allocations, more than {MAX_ALLOCATIONS}"
    );
}

async fn exchange(client: &mut DuplexStream, request: &str) {
    client.write_all(request.as_bytes()).await.expect("is read");
    let mut response = [0; 1024];
    let length = client.read(&mut response).await.expect("is answered");
    assert!(response[..length].starts_with(b"HTTP/1.1 201 "));
}
