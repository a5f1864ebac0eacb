//! The settings of a stream: created safe, and refused if they could lose events.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Source, StorageType};

use super::{STREAM, Single, can_start};
use crate::support::{Peer, run, serve, wait_until};

#[test]
fn stream_is_created_safe_and_reused() {
    if !can_start("the settings of a stream") {
        return;
    }
    let nats = Single::start();
    nats.peer().put("a", "1").assert_created();
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
    let peer = nats.peer();
    peer.put("a", "1").assert_created();
    peer.put("a", "2").assert_problem(409);
}

/// Makes settings unsafe.
type Change = fn(&mut Config);

/// The names of settings, and unsafe values that another client could have set.
const CHANGES: [(&str, Change); 12] = [
    ("retention", |config| {
        config.retention = RetentionPolicy::WorkQueue;
        config.discard_new_per_subject = false;
    }),
    ("storage", |config| config.storage = StorageType::Memory),
    ("discard", |config| {
        config.discard = DiscardPolicy::Old;
        config.discard_new_per_subject = false;
    }),
    ("discard_new_per_subject", |config| {
        config.discard_new_per_subject = false;
    }),
    ("max_msgs_per_subject", |config| {
        config.max_messages_per_subject = 2;
    }),
    ("max_age", |config| {
        config.max_age = Duration::from_secs(3600);
    }),
    ("deny_delete", |config| config.deny_delete = false),
    ("deny_purge", |config| config.deny_purge = false),
    // Servers allow that only together with purges, which are reported first.
    ("deny_purge", |config| {
        config.allow_rollup = true;
        config.deny_purge = false;
    }),
    ("no_ack", |config| config.no_ack = true),
    ("subjects", |config| {
        config.subjects = vec!["alldata".to_owned(), "alldata.a".to_owned()];
    }),
    ("mirror", |config| {
        config.subjects = Vec::new();
        config.mirror = Some(Source {
            name: "other".to_owned(),
            ..Source::default()
        });
    }),
];

#[test]
fn unsafe_stream_is_refused_with_the_setting() {
    if !can_start("unsafe settings of a stream") {
        return;
    }
    let nats = Single::start();
    let context = nats.context();
    for (setting, change) in CHANGES {
        let mut config = safe();
        change(&mut config);
        // The server may still remove the files of the stream before.
        wait_until(&format!("a stream is made: {setting}"), || {
            let made = nats.block_on(context.create_stream(config.clone()));
            made.is_ok()
        });
        let output = run(&serve(&nats.url()));
        let error = output.assert_failed(1);
        let named = format!("/{STREAM} is not safe: its {setting} is ");
        assert!(error.contains(&named), "{setting}: {error}");
        nats.delete();
    }
    let mut bounded = safe();
    bounded.max_messages = 1000;
    let made = nats.block_on(context.create_stream(bounded));
    made.expect("is made");
    nats.peer().put("a", "1").assert_created();
}

/// Servers before 2.10.5 delete the oldest messages to stay below it, whatever `discard` is.
#[test]
fn max_bytes_is_refused_on_old_servers() {
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
        drop(nats.peer());
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
fn sealed_stream_is_read_and_not_served() {
    if !can_start("sealed streams") {
        return;
    }
    let nats = Single::start();
    nats.peer().put("a", "1").assert_created();
    nats.update(|config| config.sealed = true);
    let output = run(&serve(&nats.url()));
    assert!(output.assert_failed(1).contains("its sealed is true"));
    let output = run(&["get", "a", "--store", &nats.url()]);
    assert_eq!(output.assert_ok(), "1\n");
    run(&["verify", "--store", &nats.url()]).assert_ok();
}

#[test]
fn stream_with_too_few_replicas_is_refused() {
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

/// With the settings that a peer gives it.
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
