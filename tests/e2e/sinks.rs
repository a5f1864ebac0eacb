//! The contract of all sinks that know keys, run against each of them.
//!
//! The sinks are called directly, without a server; the sink `http:` has one as its peer.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use alldata_peer_server_http::sink::BoxSink;
use alldata_peer_server_http::sinks::{self, DiscardSink, HttpSink, MemorySink, SqliteSink};
use alldata_peer_server_http::{PeerServer, PutError, PutSink, sink};
use tokio::task::JoinSet;

use crate::support::{DEADLINE, Embedded, Peer};

/// The promises of a write-once sink.
pub(crate) async fn keeps_its_contract(sink: BoxSink) {
    first_event_stays(&sink).await;
    the_same_value_is_the_same_event(&sink).await;
    keys_are_compared_byte_by_byte(&sink).await;
    any_text_is_kept(&sink).await;
    one_of_many_at_once_wins(sink.clone()).await;
    sink.flush().await.expect("flushes");
}

async fn first_event_stays(sink: &BoxSink) {
    assert_eq!(put(sink, "stays", "{\"a\":1}").await, Ok(()));
    assert_eq!(put(sink, "stays", "{\"a\":1}").await, Ok(()));
    assert_eq!(
        put(sink, "stays", "{\"a\":2}").await,
        Err(PutError::Conflict)
    );
    assert_eq!(put(sink, "stays", "{\"a\":1}").await, Ok(()));
}

async fn the_same_value_is_the_same_event(sink: &BoxSink) {
    assert_eq!(put(sink, "value", "{\"a\":1,\"b\":[10]}").await, Ok(()));
    assert_eq!(
        put(sink, "value", "{ \"b\": [1e1], \"\\u0061\": 1.0 }").await,
        Ok(())
    );
    assert_eq!(put(sink, "digits", "12345678901234567890").await, Ok(()));
    let other = put(sink, "digits", "12345678901234567891").await;
    assert_eq!(other, Err(PutError::Conflict));
}

async fn keys_are_compared_byte_by_byte(sink: &BoxSink) {
    for key in [
        "key",
        "Key",
        "key ",
        "key\0",
        "key\0a",
        "ké",
        "ke\u{301}",
        "%",
        "key/../key",
    ] {
        assert_eq!(
            put(sink, key, &format!("{:?}", key.len())).await,
            Ok(()),
            "{key:?}"
        );
    }
    assert_eq!(put(sink, "key\0", "0").await, Err(PutError::Conflict));
}

async fn any_text_is_kept(sink: &BoxSink) {
    let long = "k".repeat(1024);
    let large = format!("\"{}\"", "é".repeat(500_000));
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for (number, event) in [&large, &deep, "\"\\ud800\"", "1e400", "null"]
        .iter()
        .enumerate()
    {
        let key = format!("{number}{}", &long[1..]);
        assert_eq!(put(sink, &key, event).await, Ok(()));
        assert_eq!(put(sink, &key, event).await, Ok(()));
        assert_eq!(put(sink, &key, "false").await, Err(PutError::Conflict));
    }
}

async fn one_of_many_at_once_wins(sink: BoxSink) {
    let mut puts = JoinSet::new();
    for number in 0..64 {
        let sink = sink.clone();
        puts.spawn(async move { (number, put(&sink, "race", &number.to_string()).await) });
    }
    let results = puts.join_all().await;
    let winners: Vec<i32> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(put(&sink, "race", &winners[0].to_string()).await, Ok(()));
}

pub(crate) async fn put(sink: &BoxSink, key: &str, event: &str) -> Result<(), PutError> {
    let put = sink.put(key.to_owned(), event.to_owned());
    tokio::time::timeout(DEADLINE, put)
        .await
        .expect("answers in time")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new()
        .expect("starts a runtime")
        .block_on(future)
}

#[test]
fn memory_keeps_the_contract() {
    block_on(keeps_its_contract(MemorySink::new(64 << 20).boxed()));
}

#[test]
fn sqlite_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let sink = SqliteSink::open(&directory.path().join("a.db")).expect("opens");
    block_on(keeps_its_contract(sink.boxed()));
}

#[test]
fn two_writers_of_one_sqlite_file_keep_the_contract() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let open = || Arc::new(SqliteSink::open(&directory.path().join("a.db")).expect("opens"));
    let (left, right) = (open(), open());
    let turn = std::sync::atomic::AtomicBool::new(false);
    let both = sink::from_fn(move |key, event| {
        let is_left = turn.fetch_xor(true, std::sync::atomic::Ordering::Relaxed);
        let sink = Arc::clone(if is_left { &left } else { &right });
        async move { sink.put(key, event).await }
    });
    block_on(keeps_its_contract(both.boxed()));
}

#[test]
fn another_peer_keeps_the_contract() {
    let peer = Embedded::start(PeerServer::builder().sink(MemorySink::new(64 << 20)));
    let url = format!("http://{}/_put", peer.address());
    let sink = block_on(sinks::open(&url)).expect("opens");
    block_on(keeps_its_contract(sink));
}

#[test]
fn full_memory_is_unavailable_and_keeps_its_events() {
    let memory = MemorySink::new(138);
    block_on(async {
        assert_eq!(memory.put("key1".into(), "123456".into()).await, Ok(()));
        let full = memory.put("key2".into(), "1".into()).await;
        assert!(
            matches!(full, Err(PutError::Unavailable { .. })),
            "{full:?}"
        );
        assert_eq!(memory.put("key1".into(), "123456".into()).await, Ok(()));
    });
    assert_eq!(memory.get("key1").as_deref(), Some("123456"));
    assert_eq!(memory.len(), 1);
}

#[test]
fn discard_takes_everything() {
    let sink = DiscardSink.boxed();
    block_on(async {
        assert_eq!(put(&sink, "key", "1").await, Ok(()));
        assert_eq!(put(&sink, "key", "2").await, Ok(()));
    });
}

/// The results of the sink `http:` for each response of its peer.
#[test]
fn answers_of_another_peer_are_mapped_back() {
    let errors = [
        ("conflict", PutError::Conflict),
        ("rejected", PutError::Rejected("No.".to_owned())),
        (
            "unavailable",
            PutError::Unavailable {
                retry_after_seconds: 17,
            },
        ),
        ("unknown", PutError::Unknown),
    ];
    let answers = errors.clone();
    let peer = Embedded::start(PeerServer::builder().on_put(move |key, _| {
        let answer = answers.iter().find(|(name, _)| *name == key);
        let answer = answer.map(|(_, error)| error.clone());
        async move { Err(answer.unwrap_or_else(|| PutError::Failed("secret".to_owned()))) }
    }));
    let sink = HttpSink::new(&format!("http://{}", peer.address()))
        .expect("opens")
        .boxed();
    block_on(async {
        for (name, error) in errors {
            assert_eq!(put(&sink, name, "1").await, Err(error), "{name}");
        }
        let Err(PutError::Failed(reason)) = put(&sink, "failed", "1").await else {
            panic!("a 500 is a failure");
        };
        assert!(
            reason.contains("500") && !reason.contains("secret"),
            "{reason}"
        );
    });
}

#[test]
fn missing_peer_is_unavailable() {
    let nobody = Peer::nobody();
    let sink = block_on(sinks::open(&nobody.url())).expect("opens");
    let result = block_on(async { put(&sink, "key", "1").await });
    assert!(
        matches!(result, Err(PutError::Unavailable { .. })),
        "{result:?}"
    );
}

/// Whatever the response to the second attempt is, the first may have been stored.
#[test]
fn lost_response_is_unknown_unless_second_attempt_succeeds() {
    for (second, expected) in [
        ("201 Created", Ok(())),
        ("409 Conflict", Err(PutError::Conflict)),
        ("503 Service Unavailable", Err(PutError::Unknown)),
        ("422 Unprocessable Content", Err(PutError::Unknown)),
        ("", Err(PutError::Unknown)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let url = format!("http://{}/", listener.local_addr().expect("is bound"));
        let peer = thread::spawn(move || {
            drop(read_request(&listener));
            let mut stream = read_request(&listener);
            if !second.is_empty() {
                let answer = format!("HTTP/1.1 {second}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("answers");
            }
        });
        let sink = block_on(sinks::open(&url)).expect("opens");
        assert_eq!(
            block_on(async { put(&sink, "key", "1").await }),
            expected,
            "{second}"
        );
        peer.join().expect("is asked twice");
    }
}

/// Accepts a connection and reads the put on it.
fn read_request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().expect("is connected to");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("sets an option");
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).expect("reads");
        assert_ne!(read, 0, "the request is whole");
        request.extend_from_slice(&buffer[..read]);
    }
    stream
}

#[test]
fn unknown_url_lists_the_valid_forms() {
    for url in [
        "",
        "sqlite",
        "sqlite:",
        "ndjson:",
        "memory:1",
        "https:///a",
        "http:",
        "http:///a",
        "x:",
    ] {
        let error = block_on(sinks::open(url)).expect_err(url).to_string();
        assert!(
            error.contains(&format!("{url:?} is not the URL of a sink")),
            "{error}"
        );
    }
}
