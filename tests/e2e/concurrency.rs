//! Concurrent puts on many connections: each acknowledged put reached the sink once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder};
use tokio::runtime::Builder;
use tokio::task::yield_now;

use crate::support::{Connection, DEADLINE, Embedded, Post, both_components, handler_only};

/// The number of clients, each with its own connection.
const CLIENTS: usize = 64;

/// The number of acknowledged puts of each client.
const PUTS: usize = 40;

/// The puts that reached a sink, and the largest number of concurrent ones.
#[derive(Default)]
struct Reached {
    puts: Mutex<HashMap<String, Vec<String>>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A server whose sink yields before it stores, so that puts interleave.
fn serve(builder: PeerServerBuilder) -> (Embedded, Arc<Reached>) {
    let reached = Arc::new(Reached::default());
    let sink = Arc::clone(&reached);
    let builder = builder.on_put(move |key, event| {
        let sink = Arc::clone(&sink);
        async move {
            let now = sink.now.fetch_add(1, Ordering::SeqCst) + 1;
            sink.most.fetch_max(now, Ordering::SeqCst);
            for _ in 0..event.len() % 7 {
                yield_now().await;
            }
            let mut puts = sink.puts.lock().expect("is not poisoned");
            puts.entry(key).or_default().push(event);
            sink.now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    // More threads than processors, as on a busy machine.
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(6).enable_all().build();
    let runtime = runtime.expect("starts a runtime");
    let server = runtime.block_on(builder.hostname("127.0.0.1").port(0).listen());
    let server = server.expect("listens");
    (Embedded { runtime, server }, reached)
}

/// The event of a put, of a few bytes to 100,000.
fn event(client: usize, put: usize) -> String {
    let bytes = match (client + put) % 16 {
        0 => 100_000 + client,
        _ => (client * put) % 500,
    };
    format!("\"{client} {put} {}\"", "\u{e9}".repeat(bytes / 2))
}

/// Puts until all puts are acknowledged, and returns the number of 503s.
fn put_all(connection: &mut Connection, client: usize) -> usize {
    let (mut refused, start) = (0, Instant::now());
    for number in 0..PUTS {
        let put = Post::put(&format!("{client}-{number}"), &event(client, number));
        loop {
            let answer = connection.ask(&put);
            if answer.status == 201 {
                break;
            }
            assert_eq!(answer.assert_problem(503)["stored"], "no");
            refused += 1;
            assert!(start.elapsed() < DEADLINE, "{refused} times refused");
            thread::yield_now();
        }
    }
    refused
}

/// Runs all clients, asserts that the sink has exactly their puts, and returns the number of 503s.
fn run_clients(builder: PeerServerBuilder, most: usize) -> usize {
    let (server, reached) = serve(builder);
    let refused = thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|client| {
            let mut connection = server.connect();
            scope.spawn(move || put_all(&mut connection, client))
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("puts"))
            .sum()
    });
    server.close();
    let puts = reached.puts.lock().expect("is not poisoned");
    assert_eq!(puts.len(), CLIENTS * PUTS);
    for (client, number) in (0..CLIENTS).flat_map(|client| (0..PUTS).map(move |put| (client, put)))
    {
        let key = format!("{client}-{number}");
        assert!(
            puts.get(&key) == Some(&vec![event(client, number)]),
            "{key}"
        );
    }
    let at_a_time = reached.most.load(Ordering::SeqCst);
    assert!(at_a_time <= most, "{at_a_time} at a time");
    refused
}

#[test]
fn clients_within_capacity_are_never_refused() {
    for places in [u32::try_from(CLIENTS).expect("is small"), 1024] {
        let builder = PeerServer::builder().limits(concurrent(places));
        assert_eq!(run_clients(builder, CLIENTS), 0, "{places} places");
    }
}

#[test]
fn clients_beyond_capacity_put_acknowledged_events_once() {
    run_clients(PeerServer::builder().limits(concurrent(4)), 4);
}

#[test]
fn short_lived_instances_lose_nothing() {
    let reused = |max_instance_reuse_count, places| {
        PeerServer::builder().limits(Limits {
            max_instance_reuse_count,
            ..concurrent(places)
        })
    };
    let places = u32::try_from(CLIENTS).expect("is small");
    assert_eq!(run_clients(reused(3, places), CLIENTS), 0);
    run_clients(reused(1, 8), 8);
}

#[test]
fn wasi_http_component_loses_nothing() {
    let builder = || PeerServer::builder().compiled_component(handler_only());
    let places = u32::try_from(CLIENTS).expect("is small");
    let crowded = builder().limits(concurrent(places));
    assert_eq!(run_clients(crowded, CLIENTS), 0);
    let short_lived = Limits {
        max_instance_reuse_count: 3,
        ..concurrent(4)
    };
    run_clients(builder().limits(short_lived), 4);
}

fn concurrent(max_concurrent_requests: u32) -> Limits {
    Limits {
        max_concurrent_requests,
        ..Limits::default()
    }
}

/// Puts until the server closes the connection, and returns the number of acknowledged puts. Only the last
/// response says `Connection: close`.
fn put_until_the_end(connection: &mut Connection, client: usize) -> usize {
    for number in 0.. {
        let put = Post::put(&format!("{client}-{number}"), "\"any\"");
        connection.try_send(put.bytes());
        let Some(answer) = connection.answer_or_end() else {
            return number;
        };
        answer.assert_created();
        if answer.header("connection") == Some("close") {
            assert_eq!(connection.answer_or_end(), None);
            return number + 1;
        }
    }
    unreachable!("there is a number for each put")
}

#[test]
fn closing_server_has_put_all_acknowledged_events() {
    for component in both_components() {
        let (server, reached) = serve(PeerServer::builder().compiled_component(component));
        let acknowledged = thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| {
                let mut connection = server.connect();
                scope.spawn(move || put_until_the_end(&mut connection, client))
            });
            let clients: Vec<_> = clients.collect();
            let start = Instant::now();
            while reached.puts.lock().expect("is not poisoned").len() < CLIENTS * PUTS {
                assert!(start.elapsed() < DEADLINE, "the puts do not come");
                thread::yield_now();
            }
            server.close();
            let clients = clients.into_iter();
            clients
                .map(|client| client.join().expect("puts"))
                .collect::<Vec<_>>()
        });
        let puts = reached.puts.lock().expect("is not poisoned");
        for (client, acknowledged) in acknowledged.into_iter().enumerate() {
            for number in 0..acknowledged {
                assert!(
                    puts.contains_key(&format!("{client}-{number}")),
                    "{client}-{number}"
                );
            }
        }
        assert!(puts.values().all(|events| events.len() == 1), "put twice");
    }
}
