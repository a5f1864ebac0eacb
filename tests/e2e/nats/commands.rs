//! `get`, `export`, `import` and `verify` on a stream.

use async_nats::HeaderMap;

use super::{STREAM, Single, can_start};
use crate::support::{Peer, run, run_with_input};

#[test]
fn import_then_export_keeps_the_order_of_puts() {
    if !can_start("the commands on a stream") {
        return;
    }
    let nats = Single::start();
    let store = nats.url();
    let lines = "{\"key\":\"b\",\"event\":[1,  2]}\n{\"key\":\"a\",\"event\":1e400}\n{\"key\":\"é c\",\"event\":{}}\n";
    let output = run_with_input(&["import", "-", "--store", &store], lines);
    // The creation of a stream is logged.
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(0), "3 events: 3 new, 0 present\n")
    );
    let output = run_with_input(&["import", "-", "--store", &store], lines);
    assert_eq!(output.assert_ok(), "3 events: 0 new, 3 present\n");
    let output = run(&["export", "--store", &store]);
    // Lines of an import are put concurrently.
    let mut exported: Vec<&str> = output.assert_ok().lines().collect();
    exported.sort_unstable();
    let mut expected: Vec<&str> = lines.lines().collect();
    expected.sort_unstable();
    assert_eq!(exported, expected);
    let output = run(&["export", "--store", &store, "--from", "b", "--to", "b"]);
    assert_eq!(output.assert_ok(), "{\"key\":\"b\",\"event\":[1,  2]}\n");
    let output = run(&["get", "é c", "--store", &store]);
    assert_eq!(output.assert_ok(), "{}\n");
    let output = run(&["verify", "--store", &store]);
    assert_eq!(output.assert_ok(), "3 events, all as they were put\n");
    let output = run_with_input(
        &["import", "-", "--store", &store],
        "{\"key\":\"b\",\"event\":3}\n",
    );
    assert_eq!(output.code, Some(1));
    assert!(
        output
            .stderr
            .contains("line 1: \"b\": the key already holds"),
        "{output:?}"
    );
}

#[test]
fn export_keeps_events_and_keys_unchanged() {
    if !can_start("the order of a stream") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    for (number, key) in ["c", "a", "b"].iter().enumerate() {
        peer.put(key, &number.to_string()).assert_created();
    }
    let output = run(&["export", "--store", &nats.url()]);
    let keys: Vec<String> = output
        .lines_of_events()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, ["c", "a", "b"]);
}

#[test]
fn reading_creates_no_stream() {
    if !can_start("reading without a stream") {
        return;
    }
    let nats = Single::start();
    for arguments in [&["get", "a"][..], &["export"], &["verify"]] {
        let url = nats.url();
        let output = run(&[arguments, &["--store", &url]].concat());
        let error = output.assert_failed(1);
        assert!(error.contains("stream not found"), "{error}");
    }
    let context = nats.context();
    assert!(nats.block_on(context.get_stream(STREAM)).is_err());
}

#[test]
fn empty_stream_is_read() {
    if !can_start("empty streams") {
        return;
    }
    let nats = Single::start();
    drop(nats.peer());
    let output = run(&["export", "--store", &nats.url()]);
    assert_eq!(output.assert_ok(), "");
    let output = run(&["verify", "--store", &nats.url()]);
    assert_eq!(output.assert_ok(), "0 events, all as they were put\n");
    let output = run(&["get", "a", "--store", &nats.url()]);
    assert!(
        output
            .assert_failed(1)
            .contains("no event under the key \"a\"")
    );
}

#[test]
fn verify_finds_foreign_and_damaged_messages() {
    if !can_start("what is wrong with a stream") {
        return;
    }
    let nats = Single::start();
    let store = nats.url();
    Peer::builder()
        .sink(&store)
        .start()
        .put("good", "1")
        .assert_created();
    nats.update(|config| config.subjects.push("elsewhere".to_owned()));
    let context = nats.context();
    nats.block_on(async {
        let mut headers = HeaderMap::new();
        headers.insert("Alldata-Digest", "0".repeat(64).as_str());
        let bad = context
            .publish_with_headers("alldata.bad", headers, "2".into())
            .await;
        bad.expect("is sent").await.expect("is stored");
        for subject in ["alldata.plain", "elsewhere", "alldata.gone"] {
            let sent = context.publish(subject, "3".into()).await;
            sent.expect("is sent").await.expect("is stored");
        }
    });
    let output = run(&["get", "good", "--store", &store]);
    assert_eq!(output.assert_ok(), "1\n");
    for arguments in [&["get", "bad"][..], &["get", "plain"]] {
        let output = run(&[arguments, &["--store", &store]].concat());
        let error = output.assert_failed(1);
        assert!(
            error.contains("is damaged, or was not put by a peer"),
            "{error}"
        );
    }
    let output = run(&["export", "--store", &store]);
    assert_eq!(output.code, Some(1));
    let peer = Peer::builder().sink(&store).start();
    peer.put("plain", "3").assert_problem(500);
    drop(peer);
    let output = run(&["verify", "--store", &store]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    for line in [
        "damaged: \"bad\"",
        "damaged: \"plain\"",
        "damaged: \"gone\"",
        "structure: 1 messages have subjects that are not those of keys",
        "3 of 4 events are damaged, 1 faults in the structure",
    ] {
        assert!(output.stderr.contains(line), "{output:?}");
    }
}

#[test]
fn verify_finds_deleted_messages() {
    if !can_start("what was deleted from a stream") {
        return;
    }
    let nats = Single::start();
    let store = nats.url();
    let context = nats.context();
    let made = async_nats::jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["alldata.*".to_owned()],
        num_replicas: 1,
        max_messages_per_subject: 1,
        ..Default::default()
    };
    nats.block_on(async {
        let stream = context.create_stream(made).await.expect("is made");
        for subject in ["alldata.a", "alldata.b", "alldata.c"] {
            let sent = context.publish(subject, "1".into()).await;
            sent.expect("is sent").await.expect("is stored");
        }
        stream.delete_message(2).await.expect("is deleted");
    });
    let output = run(&["verify", "--store", &store]);
    assert_eq!(output.code, Some(1));
    for line in [
        "structure: its discard is old, but must be new",
        "structure: its deny_delete is false, but must be true",
        "structure: 1 of 3 messages were deleted",
    ] {
        assert!(output.stderr.contains(line), "{output:?}");
    }
}
