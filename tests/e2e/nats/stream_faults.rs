//! Streams that are full, deleted, replaced or unsafe while peers put into them, and lost connections.

use alldata_peer_server_http::PutSink as _;
use alldata_peer_server_http::sinks;

use super::{Cluster, Link, STREAM, Single, can_start, url};
use crate::support::{Peer, Post, run, wait_until};

#[test]
fn full_stream_refuses_new_events_and_is_read() {
    if !can_start("full streams") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    let put = |key: &str, event: &str| peer.put(key, event);
    put("a", "1").assert_created();
    nats.update(|config| config.max_messages = 2);
    put("b", "1").assert_created();
    let refused = put("c", "1");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("60"));
    peer.log_line(
        "the stream is full, and takes no new events until it has room: maximum messages",
    );
    put("a", "1").assert_created();
    put("a", "2").assert_problem(409);
    let output = run(&["export", "--store", &nats.url()]);
    assert_eq!(output.events().len(), 2);
    nats.update(|config| config.max_messages = -1);
    put("c", "1").assert_created();
    peer.log_line("the stream takes events again");
    run(&["verify", "--store", &nats.url()]).assert_ok();
}

#[test]
fn servers_without_storage_are_full() {
    if !can_start("servers of NATS without storage") {
        return;
    }
    let nats = Single::with("jetstream { max_file_store: 1MB }");
    let peer = nats.peer();
    let event = format!("\"{}\"", "x".repeat(300_000));
    let key = |number: usize| format!("key{number}");
    let is_refused = |number: &usize| peer.put(&key(*number), &event).status != 201;
    let first = (0..10).find(is_refused).expect("they are full");
    assert!(first > 0, "something fits");
    let refused = peer.put(&key(first), &event);
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("60"));
    peer.log_line("the stream is full, and takes no new events until it has room: ");
    peer.put(&key(0), &event).assert_created();
    peer.put(&key(0), "1").assert_problem(409);
    let output = run(&["export", "--store", &nats.url()]);
    assert_eq!(output.events().len(), first);
}

#[test]
fn deleted_stream_is_not_created_again() {
    if !can_start("streams that are deleted") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    peer.put("a", "1").assert_created();
    nats.delete();
    let refused = peer.put("b", "1");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    peer.log_line("the stream takes no events: it is gone");
    peer.put("c", "1").assert_problem(503);
    let context = nats.context();
    assert!(nats.block_on(context.get_stream(STREAM)).is_err());
    // Another client creates a new one without the events of the first.
    let other = nats.peer();
    other.put("a", "2").assert_created();
    peer.log_line("it is another than when this server started");
    peer.put("d", "1").assert_problem(503);
    drop(peer);
    let peer = nats.peer();
    peer.put("d", "1").assert_created();
    peer.put("a", "1").assert_problem(409);
}

/// Another client creates a new one before a put has noticed that the first is gone.
#[test]
fn replaced_stream_acknowledges_nothing() {
    if !can_start("streams that are replaced") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    for key in ["a", "b", "c"] {
        peer.put(key, "1").assert_created();
    }
    let mut config = nats.info().config;
    config.metadata.clear();
    let context = nats.context();
    nats.block_on(async {
        context.delete_stream(STREAM).await.expect("is deleted");
        context.create_stream(config).await.expect("is made");
    });
    let refused = peer.put("a", "2");
    assert!([503, 504].contains(&refused.status), "{}", refused.status);
    peer.log_line("it is another than when this server started");
    assert_eq!(peer.put("d", "1").assert_problem(503)["stored"], "no");
}

#[test]
fn unsafe_stream_refuses_puts_until_it_is_safe() {
    if !can_start("streams that become unsafe") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    peer.put("a", "1").assert_created();
    nats.update(|config| config.max_age = std::time::Duration::from_secs(3600));
    peer.log_line("its max_age is 3600s, but must be 0ns");
    let refused = peer.put("b", "1");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    nats.update(|config| config.max_age = std::time::Duration::ZERO);
    peer.log_line("the stream is fit to put into again");
    peer.put("b", "1").assert_created();
}

#[test]
fn lost_connection_is_made_again() {
    if !can_start("connections to NATS that are lost") {
        return;
    }
    let (_nats, link, peer) = through_link();
    peer.put("a", "1").assert_created();
    for round in 0..3 {
        // Whether or not the peer has noticed by then.
        link.cut();
        let key = format!("key{round}");
        let mut waiting = peer.connect();
        waiting.send(Post::put(&key, "1").bytes());
        link.mend();
        waiting.answer().assert_created();
        peer.put(&key, "2").assert_problem(409);
    }
}

#[test]
fn puts_without_a_connection_are_refused_at_once_after_a_while() {
    if !can_start("no connection to NATS") {
        return;
    }
    let (_nats, link, peer) = through_link();
    link.cut();
    peer.log_line("disconnected");
    // It was never sent.
    assert_eq!(peer.put("a", "1").assert_problem(503)["stored"], "no");
    peer.put("a", "1").assert_problem(503);
    link.mend();
    wait_until("puts are taken again", || peer.put("a", "1").status == 201);
    peer.put("a", "2").assert_problem(409);
}

/// The acknowledgement is lost: first nothing is relayed, then the connection is cut.
#[test]
fn lost_acknowledgement_is_resolved_by_a_retry() {
    if !can_start("acknowledgements that are lost") {
        return;
    }
    let (nats, link, peer) = through_link();
    peer.put("a", "1").assert_created();
    link.hold_back();
    let mut waiting = peer.connect();
    waiting.send(Post::put("b", "1").bytes());
    wait_until("it is stored", || nats.info().state.messages == 2);
    link.cut();
    link.mend();
    waiting.answer().assert_created();
    assert_eq!(nats.info().state.messages, 2);
}

/// Some were sent and stored, some were sent, and some wait for those before them.
#[test]
fn connection_lost_under_load_loses_no_put() {
    if !can_start("connections that are lost under load") {
        return;
    }
    let (nats, link, peer) = through_link();
    peer.put("first", "1").assert_created();
    let url = format!("nats://{}/{STREAM}?replicas=1", link.address());
    let sink = nats.block_on(sinks::open(&url)).expect("opens");
    link.hold_back();
    let puts = (0..3000).map(|number| {
        let sink = sink.clone();
        let put = async move { sink.put(format!("key{number}"), "1".to_owned()).await };
        nats.runtime.spawn(put)
    });
    let puts: Vec<_> = puts.collect();
    wait_until("many are stored", || nats.info().state.messages > 1000);
    link.cut();
    link.mend();
    for put in puts {
        assert_eq!(nats.block_on(put).expect("does not panic"), Ok(()));
    }
    assert_eq!(nats.info().state.messages, 3001);
}

/// A server, a link to it, and a peer on that link.
fn through_link() -> (Single, Link, Peer) {
    let nats = Single::start();
    let link = Link::to(nats.cluster.address(0));
    let url = format!("nats://{}/{STREAM}?replicas=1", link.address());
    let peer = Peer::builder().sink(&url).start();
    (nats, link, peer)
}

#[test]
fn full_cluster_is_reported() {
    if !can_start("a cluster without storage") {
        return;
    }
    let cluster = Cluster::start(3, "jetstream { max_file_store: 1MB }");
    let store = url(&cluster, "replicas=3");
    let peer = Peer::builder().sink(&store).start();
    let event = format!("\"{}\"", "x".repeat(100_000));
    let put = |number: usize| peer.put(&format!("key{number}"), &event);
    let answers = (0..30).map(put).find(|answer| answer.status == 503);
    let refused = answers.expect("it is full");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("60"));
    peer.log_line("its servers have no room: insufficient resources");
    peer.log_line("reason=\"stream_full\"");
    // Full servers have turned JetStream off.
    let output = run(&["get", "key0", "--store", &store]);
    let error = output.assert_failed(1);
    assert!(
        error.contains("give them room, and start them again"),
        "{error}"
    );
}
