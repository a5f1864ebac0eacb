//! Pipelined requests when the server or the client ends the connection: which are answered, and which are put.
//!
//! The order of responses is in `connections`.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use alldata_peer_server_http::PeerServer;
use tokio::sync::Notify;

use crate::support::{Connection, DEADLINE, Embedded, Post, wait_until};

fn puts(number: usize) -> Vec<u8> {
    let puts = (0..number).map(|number| Post::put(&format!("key{number}"), "1").bytes());
    puts.collect::<Vec<_>>().concat()
}

/// At the end of the server, the request in service is answered with `Connection: close`.
#[test]
fn shutdown_answers_request_in_service_and_none_behind_it() {
    let (entered, entries) = mpsc::channel();
    let go_on = Arc::new(Notify::new());
    let gate = Arc::clone(&go_on);
    let server = Embedded::start(PeerServer::builder().on_put(move |key, _| {
        let (entered, gate) = (entered.clone(), Arc::clone(&gate));
        async move {
            entered.send(key).expect("the test waits");
            gate.notified().await;
            Ok(())
        }
    }));
    let mut connection = server.connect();
    connection.send(puts(3));
    let first = entries.recv_timeout(DEADLINE).expect("is put");
    assert_eq!(first, "key0");
    thread::scope(|scope| {
        scope.spawn(|| server.close());
        wait_until("the server closes", || {
            Connection::try_open(server.address()).is_none()
        });
        go_on.notify_one();
    });
    let answer = connection.answer();
    answer.assert_created();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(connection.rest(), b"");
    assert!(entries.try_recv().is_err(), "one behind it is put");
}

/// A client that only ends its sending side reads all responses.
#[test]
fn half_closed_client_gets_all_responses() {
    let (server, keys) = Embedded::capturing();
    let mut connection = server.connect();
    connection.send(puts(20)).finish();
    for _ in 0..20 {
        connection.answer().assert_created();
    }
    assert_eq!(connection.rest(), b"");
    assert_eq!(keys.try_iter().count(), 20);
}
