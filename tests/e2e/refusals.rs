//! Refused requests in the log: one line for each reason, at intervals, with counts that add up to the number
//! of responses.

use std::collections::BTreeMap;
use std::thread;

use rusqlite::Connection as Database;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Connection, Peer, PeerBuilder, Post, handler_only_file};

fn json(arguments: &[&str]) -> PeerBuilder {
    let log = ["--log-format", "json"];
    Peer::builder().arguments(&[&log, arguments].concat())
}

/// The log of a server up to its end, after the lines that were already read.
fn end(mut peer: Peer) -> Vec<Value> {
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let lines = peer.rest_of_stderr();
    let lines = lines.iter().map(|line| serde_json::from_str(line));
    lines.collect::<Result<_, _>>().expect("is JSON")
}

/// The lines about refusals, without the totals.
fn refusals(log: &[Value]) -> Vec<&Value> {
    let fields = log.iter().map(|line| &line["fields"]);
    fields.filter(|line| line["reason"].is_string()).collect()
}

/// The number of refusals in the lines of each reason.
fn counts(log: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in refusals(log) {
        let reason = line["reason"].as_str().expect("is text");
        *counts.entry(reason.to_owned()).or_default() += line["count"].as_u64().expect("counts");
    }
    counts
}

/// The total in the last line.
fn totals(log: &[Value]) -> BTreeMap<String, u64> {
    let mut lines = log.iter().map(|line| &line["fields"]);
    let line = lines.find(|line| line["message"] == "refused since the start");
    let totals = line.expect("is told")["totals"].as_str().expect("is text");
    let total = |text: &str| {
        let (reason, total) = text.split_once('=').expect("has a number");
        (reason.to_owned(), total.parse().expect("is a number"))
    };
    totals.split(' ').map(total).collect()
}

#[test]
fn counts_in_log_equal_responses() {
    let peer = json(&["--max-queue", "1", "--max-concurrent-requests", "2"]).start();
    peer.put("held", "1").assert_created();
    let address = peer.address();
    let load = move |client: usize| {
        let mut connection = Connection::open(address);
        (0..50).map(move |number| {
            let key = match number % 10 {
                0 => "held".to_owned(),
                _ => format!("key{client}-{number}"),
            };
            connection.ask(&Post::put(&key, "2")).status
        })
    };
    let clients = (0..16).map(|client| thread::spawn(move || load(client).collect::<Vec<_>>()));
    let clients: Vec<_> = clients.collect();
    let mut answered: BTreeMap<u16, u64> = BTreeMap::new();
    for client in clients {
        for status in client.join().expect("ends") {
            *answered.entry(status).or_default() += 1;
        }
    }
    // Whatever the load was, each of these reasons occurred at least once.
    for _ in 0..2 {
        assert_eq!(peer.put("held", "2").status, 409);
    }
    *answered.entry(409).or_default() += 2;
    assert!(answered[&503] > 0, "{answered:?}");
    let log = end(peer);
    let counts = counts(&log);
    assert_eq!(counts, totals(&log));
    assert_eq!(counts["conflict"], answered[&409]);
    let unavailable = ["too_many_in_flight", "queue_full"];
    let unavailable = unavailable.map(|reason| counts.get(reason).copied().unwrap_or_default());
    assert_eq!(unavailable.iter().sum::<u64>(), answered[&503]);
    assert_eq!(
        answered.keys().copied().collect::<Vec<_>>(),
        [201, 409, 503]
    );
}

#[test]
fn flood_is_few_lines() {
    let peer = json(&[]).start();
    let mut connection = peer.connect();
    connection.ask(&Post::put("key1", "1")).assert_created();
    for _ in 0..500 {
        connection.ask(&Post::put("key1", "2")).assert_problem(409);
    }
    let log = end(peer);
    assert!(refusals(&log).len() < 20, "{log:?}");
    assert_eq!(counts(&log), [("conflict".to_owned(), 500)].into());
}

#[test]
fn conflict_names_its_key() {
    let file = handler_only_file().to_str().expect("is text");
    for arguments in [&[][..], &["--component", file]] {
        let peer = json(arguments).start();
        peer.put("a\\u001b[31m\\nb\\u009b", "1").assert_created();
        peer.put("a\\u001b[31m\\nb\\u009b", "\"secret\"")
            .assert_problem(409);
        let line = peer.log_line("\"conflict\"");
        let has_control = |text: &str| text.contains(char::is_control);
        assert!(!has_control(&line) && !line.contains("secret"), "{line}");
        let line: Value = serde_json::from_str(&line).expect("is JSON");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["key"], "a\u{1b}[31m\nb\\u{9b}");
        assert_eq!(line["fields"]["status"], 409);
        assert_eq!(line["fields"]["count"], 1);

        let peer = Peer::builder().arguments(arguments).start();
        peer.put("a\\u001b[31m\\nb\\u009b", "1").assert_created();
        peer.put("a\\u001b[31m\\nb\\u009b", "\"secret\"")
            .assert_problem(409);
        let line = peer.log_line("conflict");
        assert!(!has_control(&line) && !line.contains("secret"), "{line}");
        assert!(line.contains("a\\u{1b}[31m\\nb"), "{line}");
    }
}

/// A conflict is logged even if nobody waits for its response.
#[test]
fn conflict_of_disconnected_client_is_logged() {
    let peer = Peer::start();
    peer.put("key1", "1").assert_created();
    let mut connection = peer.connect();
    connection.send(Post::put("key1", "2").bytes());
    drop(connection);
    assert!(peer.log_line("conflict").contains("key=\"key1\""));
}

#[test]
fn each_kind_of_refused_request_has_a_line() {
    let file = handler_only_file().to_str().expect("is text");
    for component in [&[][..], &["--component", file]] {
        let limits = [
            "--max-body=100",
            "--max-header-size=1000",
            "--body-timeout=1",
        ];
        let peer = json(&[&limits[..], component].concat()).start();
        let large = "x".repeat(1000);
        let send = |post: Post| {
            Connection::open(peer.address())
                .try_send(post.bytes())
                .answer()
        };
        for (post, status, reason, text) in [
            (Post::new("nonsense"), 400, "bad_request", "not"),
            (
                Post::new("").method("GET"),
                405,
                "method_not_allowed",
                "POST",
            ),
            (Post::new(&*large), 413, "content_too_large", "100"),
            (
                Post::new("").header(&format!("X: {large}")),
                431,
                "header_too_large",
                "",
            ),
            (
                Post::new("").header("Transfer-Encoding: gzip, chunked"),
                400,
                "bad_request",
                "",
            ),
            (
                Post::put("key1", "1").header("Content-Encoding: gzip"),
                415,
                "unsupported_media_type",
                "gzip",
            ),
        ] {
            let answer = send(post);
            if status != 400 {
                assert_eq!(answer.status, status);
            }
            if text.is_empty() {
                continue;
            }
            let line = peer.log_line(&format!("\"{reason}\""));
            let line: Value = serde_json::from_str(&line).expect("is JSON");
            assert_eq!(line["fields"]["status"], status);
            if component.is_empty() {
                let detail = line["fields"]["detail"].as_str().expect("is text");
                assert!(detail.contains(text), "{detail}");
            }
        }
        let mut slow = peer.connect();
        slow.send(Post::put("key1", "1").head())
            .answer()
            .assert_problem(408);
        peer.log_line("\"request_timeout\"");
        let log = end(peer);
        let total = totals(&log);
        assert_eq!(total["header_too_large"], 1);
        assert_eq!(total.values().sum::<u64>(), 7, "{total:?}");
    }
}

#[test]
fn unserved_request_has_a_line() {
    let peer = json(&[]).start();
    let long = format!("POST /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    let coded = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    let other_version = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (text, status) in [(&*long, 414), (coded, 501), (other_version, 505)] {
        let mut connection = peer.connect();
        let answer = connection.send(text).answer_or_end();
        assert_eq!(answer.expect("answers").status, status);
    }
    let expected = [
        "uri_too_long",
        "not_implemented",
        "http_version_not_supported",
    ];
    let expected = expected.map(|reason| (reason.to_owned(), 1));
    assert_eq!(totals(&end(peer)), expected.into());
}

/// Requests that hyper refuses itself, and bodies that it ends, count once.
#[test]
fn malformed_request_has_a_line() {
    let peer = json(&[]).start();
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    for text in ["NONSENSE\r\n\r\n", chunked] {
        let mut connection = peer.connect();
        let answer = connection.send(text).answer_or_end();
        assert_eq!(answer.expect("answers").status, 400);
        assert_eq!(connection.rest(), b"");
    }
    let log = end(peer);
    assert_eq!(counts(&log), [("bad_request".to_owned(), 2)].into());
}

#[test]
fn locked_store_is_logged() {
    let peer = json(&[]).start();
    peer.put("key1", "1").assert_created();
    let lock = Database::open(peer.file("alldata.db")).expect("opens");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locks");
    peer.put("key2", "1").assert_problem(503);
    peer.log_line("\"store_busy\"");
    lock.execute_batch("ROLLBACK").expect("unlocks");
    peer.put("key2", "1").assert_created();
    assert_eq!(totals(&end(peer)), [("store_busy".to_owned(), 1)].into());
}

#[test]
fn full_wal_is_logged() {
    let peer = json(&["--max-wal", "4194304"]).start();
    peer.put("key1", "1").assert_created();
    let reader = Database::open(peer.file("alldata.db")).expect("opens");
    reader.execute_batch("BEGIN").expect("begins");
    let read = reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0));
    assert_eq!(read, Ok(1));
    let event = format!("\"{}\"", "x".repeat(1 << 20));
    let mut puts = (2..32).map(|number| peer.put(&format!("key{number}"), &event).status);
    assert_eq!(puts.find(|status| *status != 201), Some(503));
    peer.log_line("\"wal_full\"");
    reader.execute_batch("ROLLBACK").expect("ends");
    assert_eq!(totals(&end(peer)), [("wal_full".to_owned(), 1)].into());
}

#[test]
fn too_many_comparisons_are_logged() {
    for sink in [&[][..], &["--sink", "memory:"]] {
        let peer = json(sink).start();
        let event = format!("[{}1]", "1,".repeat(2 * 1024 * 1024));
        peer.put("key1", &event).assert_created();
        let mut connections: Vec<_> = (0..100).map(|_| peer.connect()).collect();
        for connection in &mut connections {
            connection.send(Post::put("key1", "2").bytes());
        }
        let answers = connections.iter_mut().map(|it| it.answer().status);
        let answers: Vec<u16> = answers.collect();
        let busy = answers.iter().filter(|status| **status == 503).count();
        let expected = [("conflict", 100 - busy), ("comparison_busy", busy)];
        let expected = expected.map(|(reason, count)| (reason.to_owned(), count as u64));
        assert!(busy > 0 && busy < 100, "{answers:?}");
        assert_eq!(totals(&end(peer)), expected.into());
    }
}

#[test]
fn stopped_peer_behind_is_logged() {
    let nobody = Peer::nobody();
    let peer = json(&["--sink", &nobody.url()]).start();
    peer.put("key1", "1").assert_problem(503);
    peer.log_line("\"sink_unavailable\"");
}

#[test]
fn server_without_refusals_logs_none() {
    let peer = json(&[]).start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "1").assert_created();
    let log = end(peer);
    assert!(refusals(&log).is_empty(), "{log:?}");
    assert!(!format!("{log:?}").contains("refused"), "{log:?}");
}
