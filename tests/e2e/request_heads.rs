//! Header sections that are refused: for an invalid host or target, for their size, or because hyper can't
//! parse them. Each response is a problem document and the last on its connection.
//!
//! Valid header sections are in `protocol`, the framing of bodies in `framing`.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use alldata_peer_server_http::{PeerServer, PutError};

use crate::support::{Connection, Embedded, Post, handler_only};

/// How long to wait for a response to a part of a request, which need not come.
const PAUSE: Duration = Duration::from_millis(20);

/// The body of [`put`].
const BODY: &[u8] = b"{\"key\":\"key1\",\"event\":1}";

/// Servers for both entry points.
fn both() -> [(Embedded, Receiver<(String, String)>); 2] {
    let builders = [
        PeerServer::builder(),
        PeerServer::builder().compiled_component(handler_only()),
    ];
    builders.map(|builder| {
        let (sender, puts) = mpsc::channel();
        let server = Embedded::start(builder.on_put(move |key, event| {
            let sent = sender.send((key, event));
            async move { sent.map_err(|error| PutError::Failed(error.to_string())) }
        }));
        (server, puts)
    })
}

/// Asserts that each request is refused, is not put, and is the last on its connection.
#[track_caller]
fn assert_refused(status: u16, requests: &[Vec<u8>]) {
    for (server, puts) in both() {
        for request in requests {
            let text = request.escape_ascii();
            let mut connection = Connection::open(server.address());
            connection
                .try_send(request)
                .try_send(Post::put("next", "1").bytes());
            let answer = connection.answer();
            assert_eq!(answer.status, status, "{text}: {}", answer.text());
            assert_eq!(answer.assert_problem(status)["stored"], "no");
            assert_eq!(answer.header("connection"), Some("close"), "{text}");
            assert_eq!(connection.rest(), b"", "{text}");
            server.put("other", "1").assert_created();
            let keys: Vec<String> = puts.try_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, ["other"], "{text}");
        }
    }
}

fn put() -> Post {
    Post::put("key1", "1")
}

/// RFC 9112, section 3.2, and RFC 3986, section 3.2.
#[test]
fn invalid_host_is_refused() {
    let hosts = [
        "user@x",
        "a b",
        "h/path",
        "[::1",
        "[]",
        "::1",
        "a?b",
        "a#b",
        ":80",
        "peer:80x",
        "http://peer",
        "a%zz",
        "n\u{e4}me",
        "<a>",
        "a\"b",
        "[fe80::1%25eth0]",
    ];
    let mut requests: Vec<Vec<u8>> = hosts.iter().map(|host| put().host(host).bytes()).collect();
    requests.push(b"POST / HTTP/1.1\r\nHost: \xff\r\nContent-Length: 24\r\n\r\n{\"key\":\"k\",\"event\":10001}".into());
    // If the target has a host, that one counts, in HTTP/1.0 too.
    requests.push(put().host("a b").target("http://peer/").bytes());
    requests.push(put().http10().header("Host: a b").bytes());
    assert_refused(400, &requests);
}

/// RFC 9112, section 3.2: each method allows certain forms of the target.
#[test]
fn target_not_allowed_for_method_is_refused() {
    let requests = [
        ("POST", "*"),
        ("GET", "*"),
        ("POST", "h:80"),
        ("POST", "h"),
        ("PUT", "h:80"),
        ("OPTIONS", "h:80"),
        ("CONNECT", "/"),
        ("CONNECT", "http://h/"),
        ("CONNECT", "*"),
        ("POST", "/a#b"),
        ("POST", "/#"),
        ("POST", "/?a#b?c"),
        ("GET", "/a#b"),
        ("POST", "http://h/#b"),
        ("POST", "http://user@h/"),
        ("POST", "http://user:pw@h/"),
        ("POST", "?a"),
        ("POST", "1x://h/"),
        ("POST", "+x://h/"),
    ];
    let requests = requests.map(|(method, target)| put().method(method).target(target).bytes());
    assert_refused(400, &requests);
    // However it arrives.
    let (server, _) = &both()[0];
    let mut connection = server.connect();
    connection.ask(&put()).assert_created();
    for byte in put().target("/a#b").bytes().chunks(1) {
        connection.try_send(byte);
    }
    connection.answer().assert_problem(400);
    // A fragment in another field is allowed.
    let mut connection = server.connect();
    for _ in 0..2 {
        connection
            .ask(&put().header("Referer: /a#b HTTP/1.1"))
            .assert_created();
        connection
            .ask(&Post::put("a", "\"POST /a#b HTTP/1.1\""))
            .assert_created();
    }
}

/// TLS ends at a proxy in front of the server, and any client is taken for that proxy.
#[test]
fn target_of_any_scheme_is_served() {
    for (server, _) in both() {
        for target in [
            "http://h/",
            "https://h/",
            "HTTPS://h:443/a?b",
            "a+b.c-1://h/",
        ] {
            server.send(&put().target(target)).assert_created();
        }
    }
}

#[test]
fn target_allowed_for_method_is_405() {
    for (server, _) in both() {
        for (method, target) in [
            ("OPTIONS", "*"),
            ("CONNECT", "h:80"),
            ("CONNECT", "[::1]:80"),
        ] {
            let post = Post::new("").method(method).target(target);
            server.send(&post).assert_problem(405);
        }
    }
}

/// A pipelined or split request is handled like any other.
#[test]
fn pipelined_request_is_judged_at_any_packet_boundary() {
    let refused = [
        put().target("/a#b").bytes(),
        b"POST / HTTP/1.1\r\nHost: peer\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n\
            0\r\n\r\n"
            .to_vec(),
    ];
    // The second part of each resembles a request line.
    let taken = ["X-Note: foo /#b HTTP/1.1", "X-Note: /x#y HTTP/1.1"];
    for (server, _) in both() {
        for before in [put().bytes(), Post::chunks(&[BODY]).bytes()] {
            for request in &refused {
                let mut connection = server.connect();
                connection.try_send([&before[..], request].concat());
                connection.answer().assert_created();
                connection.answer().assert_problem(400);
                assert_eq!(connection.rest(), b"", "{}", request.escape_ascii());
            }
            for field in taken {
                let request = put().header(field).bytes();
                let name = request.windows(8).position(|part| part == b"X-Note: ");
                let (first, rest) = request.split_at(name.expect("is there") + 8);
                let mut connection = server.connect();
                connection.send([&before[..], first].concat());
                connection.answer().assert_created();
                connection.send(rest);
                connection.answer().assert_created();
            }
        }
    }
}

/// A number that overflows counts as larger than any body.
#[test]
fn length_beyond_64_bits_is_413() {
    let lengths = [
        "18446744073709551613",
        "18446744073709551614",
        "18446744073709551615",
    ];
    for (server, _) in both() {
        for length in lengths {
            for body in ["", "{\"key\":\"k\",\"event\":1}\r\n\r\n"] {
                let head = format!(
                    "POST /_put HTTP/1.1\r\nHost: peer\r\nContent-Length: {length}\r\n\r\n"
                );
                let detail = server.connect().send(head + body).answer().detail(413);
                assert!(detail.contains("16777216"), "{detail}");
            }
        }
    }
    let lengths = [
        "18446744073709551616",
        "99999999999999999999999",
        "-1",
        "1e3",
    ];
    let with = |length: &str| {
        format!("POST /_put HTTP/1.1\r\nHost: peer\r\nContent-Length: {length}\r\n\r\n")
            .into_bytes()
    };
    assert_refused(400, &lengths.map(with));
}

#[test]
fn version_other_than_1_is_refused() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    assert_refused(505, &[preface.clone(), [b"\r\n", &preface[..]].concat()]);
    let line = |version: &&str| format!("POST / {version}\r\nHost: peer\r\n\r\n").into_bytes();
    let mut requests: Vec<Vec<u8>> = ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9"]
        .iter()
        .map(line)
        .collect();
    requests.push(b"PRI * HTTP/2.0\r\n\r\n".to_vec());
    assert_refused(505, &requests);
    let versions = ["HTTP/1.2", "HTTP/3", "HTTP/20.0", "HTP/1.1", "HTTP/1.1x"];
    let mut requests: Vec<Vec<u8>> = versions.iter().map(line).collect();
    requests.push(b"GET /\r\n\r\n".to_vec());
    requests.push(b"POST /a b HTTP/2.0\r\n\r\n".to_vec());
    assert_refused(400, &requests);
}

#[test]
fn preface_of_http_2_is_505_at_any_packet_boundary() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (server, _) in both() {
        for cut in 1..preface.len() {
            let (first, rest) = preface.split_at(cut);
            let mut connection = server.connect();
            // The response to the first packet need not wait for the second.
            connection.send(first);
            let is_answered = !connection.is_quiet_for(PAUSE);
            if !is_answered {
                connection.try_send(rest);
            }
            connection.answer().assert_problem(505);
            assert_eq!(connection.rest(), b"", "{cut}");
        }
    }
}

/// The requests before an invalid one are answered first, and completely.
#[test]
fn refusal_follows_answers_before_it() {
    for (server, _) in both() {
        for (garbage, status) in [
            (&b"garbage\r\n\r\n"[..], 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ] {
            let mut connection = server.connect();
            connection.send([&put().bytes().repeat(3)[..], garbage].concat());
            for _ in 0..3 {
                connection.answer().assert_created();
            }
            connection.answer().assert_problem(status);
            assert_eq!(connection.rest(), b"");
        }
    }
}

#[test]
fn endless_empty_lines_are_431() {
    for (server, _) in both() {
        let mut connection = server.connect();
        connection.try_send("\r\n".repeat(100_000));
        connection.answer().assert_problem(431);
    }
}

#[test]
fn content_coding_is_415_and_names_it() {
    for (server, puts) in both() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";
        for post in [Post::new(&gzip[..]), put(), Post::chunks(&[&gzip[..]])] {
            for (field, coding) in [
                ("gzip", "gzip"),
                ("identity, br", "br"),
                ("x\u{e4}\"y", "x???y"),
            ] {
                let answer =
                    server.send(&post.clone().header(&format!("Content-Encoding: {field}")));
                let detail = answer.assert_is(415, "Unsupported Media Type", "no", false);
                assert!(detail.contains(coding), "{detail}");
                assert_eq!(answer.header("accept-encoding"), Some("identity"));
            }
        }
        assert_eq!(puts.try_iter().count(), 0);
        for field in ["identity", "", "IDENTITY, identity"] {
            server
                .send(&put().header(&format!("Content-Encoding: {field}")))
                .assert_created();
        }
        // The method of an invalid request decides whether the response has a body.
        let get = put().method("GET").header("Content-Encoding: gzip");
        server.send(&get).assert_problem(405);
    }
}
