//! The metrics: each changes when it should, and only then.

use std::collections::BTreeMap;
use std::fs;

use alldata_peer_server_http::admin::prometheus_client::encoding::prometheus_text;
use alldata_peer_server_http::admin::prometheus_client::registry::Registry;

use crate::support::admin::{Scrape, get_with, scrape};
use crate::support::protocol_guest::{self, CREATED, guest_that};
use crate::support::{Connection, Embedded, Peer, Post, wait_until};

/// What changes with time, or in amounts that vary.
const VARYING: [&str; 1] = ["process_"];

/// The changes by one request, without sums and buckets of histograms.
#[track_caller]
fn changes(peer: &Peer, request: impl FnOnce()) -> BTreeMap<String, f64> {
    let before = scrape(peer.admin());
    request();
    let mut changes = scrape(peer.admin()).changes_since(&before, &VARYING);
    changes.retain(|name, _| !name.contains("_bucket{") && !name.ends_with("_sum"));
    changes
}

fn expected(changes: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let changes = changes.iter();
    let changes = changes.map(|(name, change)| (format!("alldata_peer_{name}"), *change));
    changes.collect()
}

const REQUEST: (&str, f64) = ("request_duration_seconds_count", 1.0);
const GUEST: (&str, f64) = ("guest_duration_seconds_count", 1.0);
const SINK: (&str, f64) = ("sink_duration_seconds_count", 1.0);

#[test]
fn request_changes_metrics_of_its_outcome_only() {
    let peer = Peer::builder()
        .admin()
        .sink("memory:")
        .arguments(&["--max-body", "100"])
        .start();
    let mut connection = peer.connect();
    connection.ask(&Post::put("first", "1")).assert_created();
    let put = |key: &str, event: &str| Post::put(key, event);
    for (post, status, outcome, calls) in [
        (put("key1", "1"), 201, "stored", &[GUEST, SINK][..]),
        (put("key1", "1"), 201, "stored", &[GUEST, SINK]),
        // The component also makes the response, which is no call that is measured.
        (put("key1", "2"), 409, "conflict", &[GUEST, SINK]),
        (Post::new("no JSON"), 400, "bad_request", &[GUEST]),
        (
            put("key1", "1").method("PUT"),
            405,
            "method_not_allowed",
            &[],
        ),
    ] {
        let bytes = if status == 405 { 0 } else { post.body_len() };
        let outcome = format!("requests_total{{outcome=\"{outcome}\",status=\"{status}\"}}");
        let found = changes(&peer, || {
            assert_eq!(connection.ask(&post).status, status);
        });
        let mut wanted = vec![(&*outcome, 1.0), REQUEST];
        wanted.extend(calls);
        if bytes > 0 {
            wanted.push(("body_bytes_total", bytes as f64));
        }
        assert_eq!(found, expected(&wanted), "{status}");
    }
    let found = changes(&peer, || {
        let large = put("key1", &"1".repeat(200));
        Connection::open(peer.address())
            .ask(&large)
            .assert_problem(413);
        wait_until("it is closed", || {
            scrape(peer.admin()).value("alldata_peer_connections") == 1.0
        });
    });
    let outcome = "requests_total{outcome=\"content_too_large\",status=\"413\"}";
    let wanted = [(outcome, 1.0), REQUEST, ("connections_accepted_total", 1.0)];
    assert_eq!(found, expected(&wanted));
}

#[test]
fn scrape_alone_changes_nothing() {
    let peer = Peer::builder().admin().start();
    peer.put("key1", "1").assert_created();
    wait_until("the connection has ended", || {
        scrape(peer.admin()).value("alldata_peer_connections") == 0.0
    });
    assert_eq!(changes(&peer, || ()), BTreeMap::new());
}

#[test]
fn batches_and_files_of_store_are_measured() {
    let peer = Peer::builder().admin().start();
    let before = scrape(peer.admin());
    assert_eq!(before.value("alldata_peer_batch_puts_count"), 0.0);
    peer.put("key1", "1").assert_created();
    let after = scrape(peer.admin());
    for (sample, value) in [
        ("alldata_peer_batch_puts_count", 1.0),
        ("alldata_peer_batch_puts_sum", 1.0),
        ("alldata_peer_batch_duration_seconds_count", 1.0),
        ("alldata_peer_store_commit_duration_seconds_count", 1.0),
        ("alldata_peer_queue_puts", 0.0),
        ("alldata_peer_queue_bytes", 0.0),
        ("alldata_peer_queue_puts_limit", 8192.0),
    ] {
        assert_eq!(after.value(sample), value, "{sample}");
    }
    let wal = "alldata_peer_store_wal_bytes";
    assert!(after.value(wal) > before.value(wal));
    assert!(after.value("alldata_peer_store_commit_duration_seconds_sum") > 0.0);
    let size = fs::metadata(peer.file("alldata.db"))
        .expect("is there")
        .len();
    let database = "alldata_peer_store_database_bytes";
    assert_eq!(after.value(database), size as f64);
    // A scrape does not look at the file, whose disk may hang.
    fs::rename(peer.file("alldata.db"), peer.file("moved.db")).expect("renames");
    assert_eq!(scrape(peer.admin()).value(database), size as f64);
}

#[test]
fn connections_are_counted() {
    let peer = Peer::builder()
        .admin()
        .arguments(&["--max-connections-per-address", "1"])
        .start();
    let first = peer.connect();
    let value = |name: &str| scrape(peer.admin()).value(&format!("alldata_peer_{name}"));
    wait_until("it is open", || value("connections") == 1.0);
    let mut second = peer.connect();
    assert_eq!(second.rest(), b"");
    wait_until("it is refused", || {
        value("connections_refused_total") == 1.0
    });
    assert_eq!(value("connections_accepted_total"), 1.0);
    drop(first);
    wait_until("it is closed", || value("connections") == 0.0);
}

#[test]
fn idle_connection_that_is_closed_is_counted_by_reason() {
    let closed = |peer: &Peer, reason: &str| {
        let sample = format!("alldata_peer_connections_closed_idle_total{{reason=\"{reason}\"}}");
        scrape(peer.admin()).value(&sample)
    };
    let peer = Peer::builder()
        .admin()
        .arguments(&["--idle-timeout", "1"])
        .start();
    assert_eq!(peer.connect().rest(), b"");
    wait_until("it is counted", || closed(&peer, "timeout") == 1.0);
    assert_eq!(closed(&peer, "limit"), 0.0);
    let peer = Peer::builder()
        .admin()
        .arguments(&["--max-connections", "1"])
        .start();
    let mut first = peer.connect();
    first.ask(&Post::put("key1", "1")).assert_created();
    peer.put("key2", "2").assert_created();
    wait_until("it is counted", || closed(&peer, "limit") == 1.0);
    assert_eq!(closed(&peer, "timeout"), 0.0);
}

/// Both formats have the same families. Only the names of counters differ.
#[test]
fn formats_have_same_samples() {
    let peer = Peer::builder().admin().start();
    peer.put("key1", "1").assert_created();
    let accept = "Accept: application/openmetrics-text\r\n";
    let open = get_with(peer.admin(), "/metrics", accept).text();
    let open = Scrape::parse(&open);
    assert_eq!(scrape(peer.admin()).families(), open.families());
}

#[test]
fn trapped_guest_is_counted_with_its_instance() {
    let guest = guest_that("unreachable", CREATED, "");
    let server = Embedded::start(protocol_guest::builder(&guest));
    let mut registry = Registry::default();
    server.server.monitor().register(&mut registry);
    let read = || {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("is encoded");
        Scrape::parse(&text)
    };
    assert_eq!(read().value("alldata_peer_guest_traps_total"), 0.0);
    server.put("key1", "1").assert_problem(500);
    let after = read();
    assert_eq!(after.value("alldata_peer_guest_traps_total"), 1.0);
    assert_eq!(after.value("alldata_peer_instances"), 0.0);
    let failed = "alldata_peer_requests_total{outcome=\"failed\",status=\"500\"}";
    assert_eq!(after.value(failed), 1.0);
}

#[test]
fn durations_are_observed_from_registration_on() {
    let (server, _puts) = Embedded::capturing();
    server.put("key1", "1").assert_created();
    let mut registry = Registry::default();
    server.server.monitor().register(&mut registry);
    server.put("key2", "1").assert_created();
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("is encoded");
    let read = Scrape::parse(&text);
    let stored = "alldata_peer_requests_total{outcome=\"stored\",status=\"201\"}";
    assert_eq!(read.value(stored), 2.0);
    for (name, count) in [REQUEST, GUEST, SINK] {
        assert_eq!(read.value(&format!("alldata_peer_{name}")), count, "{name}");
    }
}
