//! When an instance is replaced, observed with guests that count their calls.
//!
//! The isolation of requests is in `isolation`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alldata_peer_server_http::{Limits, PeerServerBuilder};
use tokio::sync::Semaphore;

use crate::support::protocol_guest::{
    CREATED, RESPONSE, STORED, builder, guest_that, guest_that_puts,
};
use crate::support::{Embedded, Post, wait_until};

/// The guest counts its calls and adds the count to 400 for the status of the response at `place`.
fn counts(place: u32) -> String {
    format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store16 (i32.const {place}) (i32.add (global.get $calls) (i32.const 400)))"
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
    let guest = guest_that(&counts(RESPONSE), CREATED, "");
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
    let guest = guest_that(&format!("{} {third}", counts(RESPONSE)), CREATED, "");
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
        let guest = guest_that(&format!("{} {grow}", counts(RESPONSE)), CREATED, "");
        assert_eq!(
            statuses(builder(&guest), Limits::DEFAULT.max_instance_reuse_count, 3),
            statuses_of_3,
            "{pages} pages"
        );
    }
}

/// Each put arrives while those before it wait for the sink.
#[test]
fn no_instance_waits_for_the_sink() {
    let guest = guest_that_puts(&counts(STORED), "", CREATED, "");
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (passed, arrived) = (Arc::clone(&gate), Arc::clone(&waiting));
    let builder = builder(&guest).on_put(move |_, _| {
        arrived.fetch_add(1, Ordering::Relaxed);
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
            waiting.load(Ordering::Relaxed) > before
        });
    }
    gate.add_permits(1);
    let statuses = connections.iter_mut().map(|it| it.answer().status);
    assert_eq!(statuses.collect::<Vec<_>>(), [401, 402, 403]);
}
