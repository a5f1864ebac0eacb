//! Chunked bodies with an ambiguous end: with a trailer section, or not read to their end. The response to such
//! a request is the last on its connection.
//!
//! Each is followed by a request whose body is a request itself: a server that loses its position executes it.

use std::sync::mpsc::{self, Receiver};

use alldata_peer_server_http::{Limits, PeerServer, PeerServerBuilder, PutError};

use crate::support::{Connection, Embedded, Post, handler_only, wait_until};

/// Ends of a chunked body that a recipient may or may not take for the end of its trailer section.
const ENDINGS: [&str; 12] = [
    "0\r\n\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX: y\n\n",
    "0\r\nA: b\r\n\n",
    "0\r\n\n\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX: y\r\nZ: z\r\n\r\n",
    "0\r\nX:\n\r\n\r\n",
    "00;x\r\n\n",
    "0 \r\nX: y\n\nZ: z\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\n \r\n\r\n",
];

/// Bodies of a `POST`, of which only the first is put.
const BODIES: [&str; 3] = ["{\"key\":\"outer\",\"event\":1}", "{", ""];

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "DELETE", "OPTIONS"];

/// Servers for both entry points whose sink reports its puts to the test.
fn both() -> [(Embedded, Receiver<(String, String)>); 2] {
    let [protocol, wasi_http] = [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ];
    [protocol, wasi_http].map(|builder| {
        capturing(builder.limits(Limits {
            max_body_bytes: 1000,
            ..Limits::default()
        }))
    })
}

fn capturing(builder: PeerServerBuilder) -> (Embedded, Receiver<(String, String)>) {
    let (sender, puts) = mpsc::channel();
    let server = Embedded::start(builder.on_put(move |key, event| {
        let sent = sender.send((key, event));
        async move { sent.map_err(|error| PutError::Failed(error.to_string())) }
    }));
    (server, puts)
}

/// A request with this body, and with this end in place of its last chunk.
fn request(method: &str, fields: &str, body: &str, ending: &str) -> String {
    let chunk = match body {
        "" => String::new(),
        body => format!("{:x}\r\n{body}\r\n", body.len()),
    };
    format!(
        "{method} /_put HTTP/1.1\r\nHost: peer\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{chunk}{ending}"
    )
}

/// A request whose body is a request.
fn request_in_request() -> Vec<u8> {
    let inner = Post::put("inner", "2").bytes();
    let next = Post::new(inner).host("peer").bytes();
    [next, Post::put("behind", "3").bytes()].concat()
}

/// Sends a request and what follows. Returns the status of its response, which has to be the last.
#[track_caller]
fn only_answer(server: &Embedded, request: &str) -> u16 {
    let mut connection = Connection::open(server.address());
    connection.try_send([request.as_bytes(), &request_in_request()].concat());
    let answer = match request.starts_with("HEAD") {
        true => connection.answer_to_head(),
        false => connection.answer(),
    };
    assert_eq!(answer.header("connection"), Some("close"), "{request:?}");
    assert_eq!(connection.rest(), b"", "{request:?}");
    answer.status
}

/// The keys that were put so far.
fn keys(server: &Embedded, puts: &Receiver<(String, String)>) -> Vec<String> {
    server.put("last", "1").assert_created();
    let keys = puts.try_iter().map(|(key, _)| key);
    keys.filter(|key| key != "last").collect()
}

#[test]
fn post_with_trailer_section_is_last_of_its_connection() {
    for (server, puts) in both() {
        for ending in ENDINGS {
            for body in BODIES {
                let status = only_answer(&server, &request("POST", "", body, ending));
                let keys = keys(&server, &puts);
                match status {
                    201 => assert_eq!(keys, ["outer"], "{ending:?}"),
                    400 => assert!(keys.is_empty(), "{ending:?}: {keys:?}"),
                    status => panic!("{ending:?}: {status}"),
                }
            }
        }
    }
}

#[test]
fn unread_chunked_body_is_last_of_its_connection() {
    for (server, puts) in both() {
        for ending in ENDINGS.into_iter().chain(["0\r\n\r\n"]) {
            for method in METHODS {
                for body in BODIES {
                    let request = request(method, "", body, ending);
                    assert_eq!(only_answer(&server, &request), 405, "{request:?}");
                }
            }
        }
        assert_eq!(keys(&server, &puts), [""; 0]);
    }
}

#[test]
fn chunked_body_over_limit_is_last_of_its_connection() {
    for (server, puts) in both() {
        for ending in ENDINGS.into_iter().chain(["0\r\n\r\n"]) {
            let request = request("POST", "", &"x".repeat(1001), ending);
            assert_eq!(only_answer(&server, &request), 413, "{ending:?}");
        }
        assert_eq!(keys(&server, &puts), [""; 0]);
    }
}

/// Nor is anything read after invalid chunks.
#[test]
fn malformed_chunks_close_connection() {
    for (server, puts) in both() {
        for ending in [
            "x\r\n\r\n",
            "2\r\nxxx\r\n0\r\n\r\n",
            "0\r\nX",
            "0\rX\r\n\r\n",
        ] {
            let request = request("POST", "", BODIES[0], ending);
            assert_eq!(only_answer(&server, &request), 400, "{ending:?}");
        }
        assert_eq!(keys(&server, &puts), [""; 0]);
    }
}

/// If the request is refused for everyone, its body is not read.
#[test]
fn chunked_body_of_refused_head_is_last_of_its_connection() {
    for (server, puts) in both() {
        for ending in ENDINGS.into_iter().chain(["0\r\n\r\n"]) {
            let request = request("POST", "Host: other\r\n", BODIES[0], ending);
            assert_eq!(only_answer(&server, &request), 400, "{ending:?}");
        }
        assert_eq!(keys(&server, &puts), [""; 0]);
    }
}

/// There is no room for any body, so that each is refused while it is read.
#[test]
fn chunked_body_without_room_is_last_of_its_connection() {
    for component in [false, true] {
        let builder = match component {
            false => PeerServer::builder(),
            true => PeerServer::builder().compiled_component(handler_only()),
        };
        let (server, puts) = capturing(builder.limits(Limits {
            max_buffered_bytes: 100_000,
            max_body_bytes: 100_000,
            ..Limits::default()
        }));
        let large = Post::new(vec![b' '; 100_000]).bytes();
        let mut stalled = Vec::new();
        wait_until("a body is refused", || {
            // It is put if there is room, unless it is refused because of the one before.
            let mut connection = server.connect();
            connection.send(&large[..large.len() - 1000]);
            stalled.push(connection);
            let body = " ".repeat(90_000);
            let request = request("POST", "", &body, "0\r\n\n");
            only_answer(&server, &request) == 503
        });
        assert!(!keys(&server, &puts).contains(&"inner".to_owned()));
    }
}

/// Ordinary chunked requests have no trailer section, and leave the connection open.
#[test]
fn chunked_body_read_to_its_end_leaves_connection() {
    for (server, puts) in both() {
        let mut connection = server.connect();
        for ending in ["0\r\n\r\n", "000\r\n\r\n", "0;a=b\r\n\r\n", "0 \r\n\r\n"] {
            for (body, status) in BODIES.iter().zip([201, 400, 400]) {
                connection.send(request("POST", "", body, ending));
                let answer = connection.answer();
                assert_eq!(answer.status, status, "{ending:?}");
                assert_eq!(answer.header("connection"), None, "{ending:?}");
            }
        }
        assert_eq!(keys(&server, &puts), ["outer"; 4]);
    }
}
