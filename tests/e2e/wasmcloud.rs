//! The composed components on wasmCloud's own host, `wash dev`: the table of requests, and the differences.

use std::thread;

use crate::request_table::hold_with;
use crate::support::{Connection, EventFiles, Peer, Post, Wash, composed, composed_for_wasi_0_3};

/// How many clients put different events under one key at a time.
const RACERS: usize = 20;

#[test]
fn directory_answers_the_table_of_requests() {
    hold_with_directory(composed("directory"));
}

#[test]
fn directory_for_wasi_0_3_answers_the_table_of_requests() {
    hold_with_directory(composed_for_wasi_0_3("directory"));
}

#[track_caller]
fn hold_with_directory(component: &std::path::Path) {
    if !Wash::can_start() {
        return;
    }
    let events = EventFiles::new();
    let server = Wash::with_directory(component, events.root());
    hold_with(|| server.connect(), |key| events.held(key));
}

#[test]
fn forward_answers_the_table_of_requests() {
    if !Wash::can_start() {
        return;
    }
    let store = Peer::start();
    let server = Wash::with_variable(
        composed("forward"),
        "ALLDATA_PEER_FORWARD_URL",
        &store.url(),
    );
    hold_with(|| server.connect(), |key| store.kept(key));
}

#[test]
fn keyvalue_keeps_the_first_event_of_puts_in_a_row() {
    if !Wash::can_start() {
        return;
    }
    let component = composed("keyvalue-wasmcloud");
    let server = Wash::with_variable(component, "ALLDATA_PEER_KEYVALUE_BUCKET", "default");
    let mut connection = server.connect();
    for _ in 0..2 {
        connection.ask(&Post::put("key1", "[1]")).assert_created();
    }
    let answer = connection.ask(&Post::put("key1", "[2]"));
    answer.assert_is(409, "Conflict", "no", false);
}

#[test]
fn one_of_racing_events_is_stored() {
    if !Wash::can_start() {
        return;
    }
    let events = EventFiles::new();
    let server = Wash::with_directory(composed("directory"), events.root());
    let mut clients: Vec<Connection> = (0..RACERS).map(|_| server.connect()).collect();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let put = |(event, client): (usize, &mut Connection)| {
            client.ask(&Post::put("key1", &event.to_string())).status
        };
        let racing = clients.iter_mut().enumerate();
        let racing: Vec<_> = racing
            .map(|racer| scope.spawn(move || put(racer)))
            .collect();
        let ended = racing.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|status| status.expect("is answered")).collect()
    });
    let created = statuses.iter().filter(|status| **status == 201).count();
    let conflicts = statuses.iter().filter(|status| **status == 409).count();
    assert_eq!((created, conflicts), (1, RACERS - 1), "{statuses:?}");
}

/// Both are what the host does before or after it calls the component.
#[test]
fn differences_are_known() {
    if !Wash::can_start() {
        return;
    }
    let events = EventFiles::new();
    let server = Wash::with_directory(composed("directory"), events.root());
    let mut connection = server.connect();
    connection.send("POST / HTTP/1.0\r\nContent-Length: 23\r\n\r\n{\"key\":\"old\",\"event\":1}");
    assert_eq!(connection.any_answer(false).status, 500);
    let mut half = server.connect();
    half.send(Post::put("half", "1").bytes()).finish();
    assert_eq!(half.rest(), b"", "a client that has ended its side");
    assert_eq!((events.held("old"), events.held("half")), (None, None));
}
