//! What a stream has to be: made where there is none, and refused where it could cost an event.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Source, StorageType};

use super::{STREAM, Single, can_start};
use crate::support::{Peer, run, serve};

#[test]
fn a_stream_is_made_as_it_has_to_be_and_used_by_the_next() {
    if !can_start("the settings of a stream") {
        return;
    }
    let nats = Single::start();
    Peer::builder()
        .sink(&nats.url())
        .start()
        .put("a", "1")
        .assert_created();
    let Config {
        retention,
        storage,
        num_replicas,
        discard,
        discard_new_per_subject,
        max_messages_per_subject,
        max_age,
        deny_delete,
        deny_purge,
        subjects,
        ..
    } = nats.info().config;
    assert_eq!(retention, RetentionPolicy::Limits);
    assert_eq!(storage, StorageType::File);
    assert_eq!((num_replicas, max_messages_per_subject), (1, 1));
    assert_eq!(discard, DiscardPolicy::New);
    assert!(discard_new_per_subject && deny_delete && deny_purge);
    assert!(max_age.is_zero());
    assert_eq!(subjects, ["alldata.*"]);
    let peer = Peer::builder().sink(&nats.url()).start();
    peer.put("a", "1").assert_created();
    peer.put("a", "2").assert_problem(409);
}

/// Unsafe in one way each, as somebody else could have made it.
#[test]
fn a_stream_that_could_cost_an_event_is_refused_by_name() {
    if !can_start("unsafe settings of a stream") {
        return;
    }
    let nats = Single::start();
    let context = nats.context();
    let changes: [(&str, fn(&mut Config)); 12] = [
        ("retention", |c| {
            c.retention = RetentionPolicy::WorkQueue;
            c.discard_new_per_subject = false;
        }),
        ("storage", |c| c.storage = StorageType::Memory),
        ("discard", |c| {
            c.discard = DiscardPolicy::Old;
            c.discard_new_per_subject = false;
        }),
        ("discard_new_per_subject", |c| {
            c.discard_new_per_subject = false
        }),
        ("max_msgs_per_subject", |c| c.max_messages_per_subject = 2),
        ("max_age", |c| c.max_age = Duration::from_secs(3600)),
        ("deny_delete", |c| c.deny_delete = false),
        ("deny_purge", |c| c.deny_purge = false),
        ("allow_rollup_hdrs", |c| {
            c.allow_rollup = true;
            c.deny_purge = false;
        }),
        ("no_ack", |c| c.no_ack = true),
        ("subjects", |c| {
            c.subjects = vec!["alldata".to_owned(), "alldata.a".to_owned()]
        }),
        ("mirror", |c| {
            c.subjects = Vec::new();
            c.mirror = Some(Source {
                name: "other".to_owned(),
                ..Source::default()
            });
        }),
    ];
    for (setting, change) in changes {
        let mut config = safe();
        change(&mut config);
        let made = nats.block_on(context.create_stream(config));
        made.unwrap_or_else(|error| panic!("{setting}: {error}"));
        let output = run(&serve(&nats.url()));
        let error = output.assert_failed(1);
        assert!(error.contains("is not safe: its "), "{error}");
        let known_before = ["retention", "storage", "discard"];
        let named = match setting {
            // What is looked at first is named first.
            "allow_rollup_hdrs" => "deny_purge",
            setting => setting,
        };
        let is_named = error.contains(&format!("its {named} is"));
        assert!(
            is_named || known_before.contains(&setting),
            "{setting}: {error}"
        );
        assert!(error.contains(STREAM), "{error}");
        nats.delete();
    }
    let mut bounded = safe();
    bounded.max_messages = 1000;
    let made = nats.block_on(context.create_stream(bounded));
    made.expect("is made");
    Peer::builder()
        .sink(&nats.url())
        .start()
        .put("a", "1")
        .assert_created();
}

/// Servers before 2.10.5 keep below it by deleting what is oldest, whatever `discard` says.
#[test]
fn a_bound_of_bytes_is_refused_on_servers_that_delete_for_it() {
    if !can_start("bounds of bytes of a stream") {
        return;
    }
    let nats = Single::start();
    let context = nats.context();
    let mut bounded = safe();
    bounded.max_bytes = 1 << 20;
    let made = nats.block_on(context.create_stream(bounded));
    made.expect("is made");
    let client = context.client();
    if client.is_server_compatible(2, 10, 5) {
        drop(Peer::builder().sink(&nats.url()).start());
        return;
    }
    let output = run(&serve(&nats.url()));
    let error = output.assert_failed(1);
    assert!(
        error.contains("its max_bytes is 1048576, but must be -1 on servers before 2.10.5"),
        "{error}"
    );
}

#[test]
fn a_sealed_stream_takes_no_peer_but_is_read() {
    if !can_start("sealed streams") {
        return;
    }
    let nats = Single::start();
    Peer::builder()
        .sink(&nats.url())
        .start()
        .put("a", "1")
        .assert_created();
    nats.update(|config| config.sealed = true);
    let output = run(&serve(&nats.url()));
    assert!(output.assert_failed(1).contains("its sealed is true"));
    let output = run(&["get", "a", "--store", &nats.url()]);
    assert_eq!(output.assert_ok(), "1\n");
    run(&["verify", "--store", &nats.url()]).assert_ok();
}

#[test]
fn a_stream_with_fewer_replicas_than_asked_for_is_refused() {
    if !can_start("replicas of a stream") {
        return;
    }
    let nats = Single::start();
    let url = nats.url();
    let (three, _) = url.split_once('?').expect("has parameters");
    let output = run(&serve(three));
    let error = output.assert_failed(1);
    assert!(
        error.contains("a single server takes ?replicas=1"),
        "{error}"
    );
    drop(Peer::builder().sink(&url).start());
    let output = run(&serve(three));
    let error = output.assert_failed(1);
    assert!(
        error.contains("its num_replicas is 1, but must be 3 or more"),
        "{error}"
    );
}

/// As a peer makes it.
fn safe() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec!["alldata.*".to_owned()],
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: 1,
        max_messages: -1,
        max_bytes: -1,
        num_replicas: 1,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}
