//! Ambiguous requests (request smuggling): each is refused, or handled as RFC 9112 prescribes, and bytes that
//! another server could take for a second request are not executed.
//!
//! Every case ends with a put of its own, which may reach the sink only if the end of the request before it is
//! unambiguous.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use alldata_peer_server_http::{Limits, PeerServer};

use crate::support::{Connection, Embedded};

const BODY: &str = r#"{"key":"first","event":1}"#;

/// The size of [`BODY`].
const SIZE: usize = BODY.len();

/// The request after the ambiguous one.
const NEXT: &str =
    "POST /_put HTTP/1.1\r\nHost: peer\r\nContent-Length: 24\r\n\r\n{\"key\":\"next\",\"event\":2}";

/// Sends a header section, [`BODY`] framed accordingly, and the next request. Returns the statuses of all
/// responses and the keys that were put, once the server has closed the connection or answered both.
fn send(
    server: &Embedded,
    puts: &Receiver<(String, String)>,
    request: &str,
) -> (Vec<u16>, Vec<String>) {
    let mut connection = Connection::open(server.address());
    connection.try_send(request).try_send(NEXT);
    let mut statuses = Vec::new();
    while statuses.len() < 2
        && let Some(answer) = connection.answer_or_end()
    {
        statuses.push(answer.status);
        if answer.header("connection") == Some("close") {
            assert_eq!(connection.rest(), b"", "{request:?}");
            break;
        }
    }
    // Another client is served meanwhile.
    server.put("other", "1").assert_created();
    let keys = puts.try_iter().map(|(key, _)| key);
    let keys = keys.filter(|key| key != "other").collect();
    (statuses, keys)
}

/// A request with these fields and a body of `Content-Length`.
fn sized(fields: &str) -> String {
    format!("POST /_put HTTP/1.1\r\nHost: peer\r\n{fields}\r\n{BODY}")
}

/// A request with these fields and a chunked body.
fn chunked(fields: &str) -> String {
    let chunks = format!("{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n");
    format!("POST /_put HTTP/1.1\r\nHost: peer\r\n{fields}\r\n{chunks}")
}

/// A request with this in place of its chunks.
fn in_chunks(chunks: &str) -> String {
    format!("POST /_put HTTP/1.1\r\nHost: peer\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

/// Asserts that each request is refused with this status, and is the last on its connection.
#[track_caller]
fn assert_refused(status: u16, requests: &[String]) {
    let (server, puts) = Embedded::capturing();
    for request in requests {
        let (statuses, keys) = send(&server, &puts, request);
        assert_eq!(statuses, [status], "{request:?}");
        assert!(keys.is_empty(), "{request:?}: {keys:?}");
    }
}

/// Asserts that each request is put, and the next one too.
#[track_caller]
fn assert_both_put(requests: &[String]) {
    let (server, puts) = Embedded::capturing();
    for request in requests {
        let (statuses, keys) = send(&server, &puts, request);
        assert_eq!(statuses, [201, 201], "{request:?}");
        assert_eq!(keys, ["first", "next"], "{request:?}");
    }
}

#[test]
fn content_length_of_next_put_is_correct() {
    let body = NEXT.rsplit_once("\r\n\r\n").expect("has a body").1;
    assert!(NEXT.contains(&format!("Content-Length: {}\r\n", body.len())));
}

/// RFC 9112, section 6.3: the transfer coding wins, and the connection is closed afterwards.
#[test]
fn transfer_coding_overrides_length_and_closes_connection() {
    let (server, puts) = Embedded::capturing();
    for fields in [
        format!("Content-Length: {SIZE}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {SIZE}\r\n"),
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".to_owned(),
    ] {
        let (statuses, keys) = send(&server, &puts, &chunked(&fields));
        assert_eq!(statuses, [201], "{fields:?}");
        assert_eq!(keys, ["first"], "{fields:?}");
    }
}

/// Section 6.3: an invalid length, or two that differ.
#[test]
fn invalid_length_is_refused() {
    let lengths = [
        "+25",
        "-25",
        "0x19",
        "25,",
        "25, 25",
        "25 25",
        "2 5",
        "twenty-five",
        "",
        "25;",
        "99999999999999999999999",
    ];
    let mut requests: Vec<String> = lengths
        .iter()
        .map(|length| sized(&format!("Content-Length: {length}\r\n")))
        .collect();
    requests.push(sized("Content-Length: 25\r\nContent-Length: 26\r\n"));
    requests.push(sized("Content-Length: 26\r\nContent-Length: 25\r\n"));
    requests.push(sized("Content-Length: 25\r\nContent-Length: 25, 26\r\n"));
    // Also beside a transfer coding, in any order.
    let coding = "Transfer-Encoding: chunked\r\n".to_owned();
    let beside = lengths
        .iter()
        .map(|length| format!("Content-Length: {length}\r\n"));
    for length in beside.chain(["Content-Length: 5\r\nContent-Length: 6\r\n".to_owned()]) {
        requests.push(chunked(&format!("{coding}{length}")));
        requests.push(chunked(&format!("{length}{coding}")));
    }
    requests.push(chunked(&format!(
        "Content-Length: 5\r\n{coding}Content-Length: 6\r\n"
    )));
    assert_refused(400, &requests);
    let beyond = "Content-Length: 18446744073709551615\r\n";
    let beyond = [format!("{coding}{beyond}"), format!("{beyond}{coding}")];
    assert_refused(413, &beyond.map(|fields| chunked(&fields)));
}

/// Section 6.3: the same length given twice counts once.
#[test]
fn repeated_equal_length_is_accepted() {
    let length = format!("Content-Length: {SIZE}\r\n");
    let with_space = format!("Content-Length: \t{SIZE} \t\r\n");
    assert_both_put(&[sized(&length), sized(&length.repeat(2)), sized(&with_space)]);
}

/// Section 6.1: chunked is applied once, and last.
#[test]
fn coding_not_ending_in_chunked_is_refused() {
    let codings = ["identity", "gzip", "chunked, gzip", "xchunked", "chunkedx"];
    let with = |coding: &&str| chunked(&format!("Transfer-Encoding: {coding}\r\n"));
    assert_refused(400, &codings.iter().map(with).collect::<Vec<_>>());
    assert_refused(
        400,
        &[
            chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            chunked("Transfer-Encoding: \u{b}chunked\r\n"),
        ],
    );
}

#[test]
fn unknown_coding_is_501() {
    let codings = ["gzip, chunked", "chunked, chunked", "identity,chunked"];
    let with = |coding: &&str| chunked(&format!("Transfer-Encoding: {coding}\r\n"));
    assert_refused(501, &codings.iter().map(with).collect::<Vec<_>>());
    let twice = "Transfer-Encoding: chunked\r\n".repeat(2);
    assert_refused(501, &[chunked(&twice)]);
}

#[test]
fn coding_name_is_case_insensitive() {
    let codings = ["chunked", "Chunked", "CHUNKED", " chunked \t"];
    let with = |coding: &&str| chunked(&format!("transfer-ENCODING: {coding}\r\n"));
    assert_both_put(&codings.iter().map(with).collect::<Vec<_>>());
}

/// Section 6.1: HTTP/1.0 has no transfer codings.
#[test]
fn coding_in_http_1_0_is_refused() {
    let request = chunked("Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert_refused(400, &[request]);
}

/// Section 5: no space before a colon, no folded lines, no bare CR, no control characters.
#[test]
fn malformed_field_is_refused() {
    let length = format!("Content-Length: {SIZE}\r\n");
    let fields = [
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        " X: a\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        "X Y: a\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "X: a\r\r\n",
    ];
    let with = |field: &&str| sized(&format!("{field}{length}"));
    assert_refused(400, &fields.iter().map(with).collect::<Vec<_>>());
}

/// Section 2.2: a line may end with LF alone.
#[test]
fn bare_line_feed_ends_a_line() {
    let request = format!("POST /_put HTTP/1.1\nHost: peer\nContent-Length: {SIZE}\n\n{BODY}");
    let mixed = format!("POST /_put HTTP/1.1\r\nHost: peer\nContent-Length: {SIZE}\r\n\n{BODY}");
    // Section 2.2: an empty line before a request is skipped.
    let empty_line = format!("\r\n\r\n{}", sized(&format!("Content-Length: {SIZE}\r\n")));
    assert_both_put(&[request, mixed, empty_line]);
}

#[test]
fn malformed_request_line_is_refused() {
    let lines = [
        "POST /_put",
        "POST  /_put HTTP/1.1",
        "POST /_put  HTTP/1.1",
        "POST /_put HTTP/1.2",
        "POST /_put HTTP/1.10",
        "POST /_put http/1.1",
        "POST /_put HTTP/1.1 ",
        "POST /a b HTTP/1.1",
        "POST\t/_put\tHTTP/1.1",
        "P(ST /_put HTTP/1.1",
        "/_put HTTP/1.1",
    ];
    let with =
        |line: &&str| format!("{line}\r\nHost: peer\r\nContent-Length: {SIZE}\r\n\r\n{BODY}");
    assert_refused(400, &lines.iter().map(with).collect::<Vec<_>>());
}

/// Section 3.2.
#[test]
fn request_without_exactly_one_host_is_refused() {
    let length = format!("Content-Length: {SIZE}\r\n");
    let with = |hosts: &str| format!("POST /_put HTTP/1.1\r\n{hosts}{length}\r\n{BODY}");
    assert_refused(
        400,
        &[
            with(""),
            with("Host: peer\r\nHost: peer\r\n"),
            with("Host: peer\r\nX: x\r\nhost: other\r\n"),
        ],
    );
    assert_both_put(&[with("Host:\r\n"), with("Host: peer:8080\r\n")]);
}

/// Section 7.1.
#[test]
fn malformed_chunks_are_refused() {
    let chunks = [
        format!("{SIZE:x}\r\n{BODY}\r\n0\r\nX"),
        format!("{SIZE:x}\r\n{BODY}0\r\n\r\n"),
        format!("{SIZE:x}\r\n{BODY}\r\r\n0\r\n\r\n"),
        format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", SIZE - 1),
        format!("0x{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("-{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("+{SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("\r\n{BODY}\r\n0\r\n\r\n"),
        format!(";x\r\n{BODY}\r\n0\r\n\r\n"),
        format!("g\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{SIZE:x} {SIZE:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{SIZE:x};a\nb\r\n{BODY}\r\n0\r\n\r\n"),
        format!("10000000000000000\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{SIZE:x}\r\n{BODY}\r\n0\r\nno colon\r\n\r\n"),
        format!("{SIZE:x}\r\n{BODY}\r\n0\r\n{}\r\n", "X: x\r\n".repeat(200)),
        format!(
            "{SIZE:x}\r\n{BODY}\r\n0\r\nX: {}\r\n\r\n",
            "x".repeat(40_000)
        ),
        format!("{SIZE:x};{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(20_000)),
    ];
    let (server, puts) = Embedded::capturing();
    for chunks in chunks {
        let (statuses, keys) = send(&server, &puts, &in_chunks(&chunks));
        assert!(
            statuses == [400] || statuses == [413],
            "{chunks:?}: {statuses:?}"
        );
        assert!(keys.is_empty(), "{chunks:?}: {keys:?}");
    }
}

/// The largest possible chunk size: the server waits for its data until the time-out.
#[test]
fn endless_chunk_is_timed_out() {
    let (sender, puts) = mpsc::channel();
    let builder = PeerServer::builder().on_put(move |key, event| {
        sender.send((key, event)).expect("is looked at");
        async { Ok(()) }
    });
    let server = Embedded::start(builder.limits(Limits {
        body_timeout: Duration::from_millis(100),
        ..Limits::default()
    }));
    let chunks = format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n");
    let (statuses, keys) = send(&server, &puts, &in_chunks(&chunks));
    assert_eq!(statuses, [408]);
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn chunks_may_have_extensions_and_zeros() {
    let requests = [
        format!("{SIZE:x};a=b;c=\"d\"\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{SIZE:X} ;a\r\n{BODY}\r\n0\r\n\r\n"),
        format!("0000{SIZE:x}\r\n{BODY}\r\n000\r\n\r\n"),
    ];
    assert_both_put(&requests.map(|chunks| in_chunks(&chunks)));
}

/// Other servers may see the end of such a body elsewhere: see `trailers`.
#[test]
fn chunks_with_trailers_are_put_and_close_connection() {
    let (server, puts) = Embedded::capturing();
    for trailers in [
        "X: x\r\nY: y\r\n",
        // A trailer field is not a header field: this length is ignored.
        "Content-Length: 3\r\nTransfer-Encoding: x\r\n",
    ] {
        let chunks = format!("{SIZE:x}\r\n{BODY}\r\n0\r\n{trailers}\r\n");
        let (statuses, keys) = send(&server, &puts, &in_chunks(&chunks));
        assert_eq!((statuses, keys), (vec![201], vec!["first".to_owned()]));
    }
}

/// RFC 9110, section 15.6.6.
#[test]
fn preface_of_http_2_is_505() {
    let (server, puts) = Embedded::capturing();
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let (statuses, keys) = send(&server, &puts, preface);
    assert_eq!(statuses, [505]);
    assert!(keys.is_empty());
    // Nor is the first message of TLS.
    let hello = "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}";
    let (statuses, keys) = send(&server, &puts, hello);
    assert_eq!(statuses, [400]);
    assert!(keys.is_empty());
}
