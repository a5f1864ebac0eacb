//! When an instance is replaced, observed with guests that count their calls.
//!
//! The isolation of requests is in `isolation`.

use std::sync::{Arc, Mutex};

use alldata_peer_server_http::{Limits, PeerServerBuilder};
use tokio::sync::Semaphore;

use crate::support::protocol_guest::{
    CREATED, KEY_TEXT, RESPONSE, builder, guest_that, guest_that_puts,
};
use crate::support::{Embedded, Post, wait_until};

/// The guest counts its calls.
const COUNTS: &str = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))";

/// The guest counts its calls and adds the count to 400 for the status of its response.
fn counts_in_status() -> String {
    format!(
        "{COUNTS} (i32.store16 (i32.const {RESPONSE}) (i32.add (global.get $calls) (i32.const 400)))"
    )
}

/// The statuses of this many puts, each on its own connection.
fn statuses(builder: PeerServerBuilder, max_instance_reuse_count: u32, puts: usize) -> Vec<u16> {
    let server = Embedded::start(builder.limits(Limits {
        max_concurrent_requests: 1,
        max_instance_reuse_count,
        ..Limits::default()
    }));
    let puts = (0..puts).map(|_| server.put("key1", "1").status);
    puts.collect()
}

#[test]
fn instance_serves_configured_number_of_requests() {
    let guest = guest_that(&counts_in_status(), CREATED, "");
    let kept = [401, 402, 403, 404, 405, 406, 407];
    assert_eq!(
        statuses(builder(&guest), Limits::DEFAULT.max_instance_reuse_count, 7),
        kept
    );
    let replaced = [401, 402, 403, 401, 402, 403, 401];
    assert_eq!(statuses(builder(&guest), 3, 7), replaced);
    assert_eq!(statuses(builder(&guest), 1, 3), [401; 3]);
}

#[test]
fn trapped_instance_is_not_reused() {
    let third = "(if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))";
    let guest = guest_that(&format!("{} {third}", counts_in_status()), CREATED, "");
    let replaced = [401, 402, 500, 401, 402, 500, 401];
    assert_eq!(
        statuses(builder(&guest), Limits::DEFAULT.max_instance_reuse_count, 7),
        replaced
    );
}

#[test]
fn grown_instance_is_replaced_and_small_one_is_kept() {
    for (pages, statuses_of_3) in [(2, [401, 402, 403]), (16, [401; 3])] {
        let grow = format!("(drop (memory.grow (i32.const {pages})))");
        let guest = guest_that(&format!("{} {grow}", counts_in_status()), CREATED, "");
        assert_eq!(
            statuses(builder(&guest), Limits::DEFAULT.max_instance_reuse_count, 3),
            statuses_of_3,
            "{pages} pages"
        );
    }
}

/// Each put arrives while those before it wait for the sink. The guest counts its calls in the key.
#[test]
fn no_instance_waits_for_the_sink() {
    let key =
        format!("(i32.store8 (i32.const {KEY_TEXT}) (i32.add (global.get $calls) (i32.const 48)))");
    let guest = guest_that_puts(&(COUNTS.to_owned() + &key), "", CREATED, "");
    let (gate, keys) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let (passed, arrived) = (Arc::clone(&gate), Arc::clone(&keys));
    let builder = builder(&guest).on_put(move |key, _| {
        arrived.lock().expect("is not poisoned").push(key);
        let passed = Arc::clone(&passed);
        async move {
            drop(passed.acquire().await);
            Ok(())
        }
    });
    let server = Embedded::start(builder);
    let mut connections: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for (before, connection) in connections.iter_mut().enumerate() {
        connection.send(Post::put("key1", "1").bytes());
        wait_until("it waits for the sink", || {
            keys.lock().expect("is not poisoned").len() > before
        });
    }
    gate.add_permits(1);
    for connection in &mut connections {
        assert_eq!(connection.answer().status, 299);
    }
    let keys = keys.lock().expect("is not poisoned").clone();
    assert_eq!(keys, ["1", "2", "3"]);
}
