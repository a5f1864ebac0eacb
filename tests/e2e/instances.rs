//! How long an instance is kept, as told by guests that count their calls.
//!
//! Never asks what an instance carries from one request to the next: `isolation` does.

use alldata_peer_server_http::PeerServerBuilder;

use crate::support::Embedded;
use crate::support::put_handler_guest::{CREATED, builder, guest_that};

/// It counts its calls, and answers with 400 more than that.
const COUNTS: &str = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store16 (i32.const 16) (i32.add (global.get $calls) (i32.const 400)))";

/// The statuses of so many puts, each on a connection of its own.
fn statuses(builder: PeerServerBuilder, puts: usize) -> Vec<u16> {
    let server = Embedded::start(builder.max_in_flight(1));
    let puts = (0..puts).map(|_| server.put("key1", "1").status);
    puts.collect()
}

#[test]
fn an_instance_is_kept_for_as_many_requests_as_it_is_told() {
    let guest = guest_that(COUNTS, CREATED, "");
    let kept = [401, 402, 403, 404, 405, 406, 407];
    assert_eq!(statuses(builder(&guest), 7), kept);
    let replaced = [401, 402, 403, 401, 402, 403, 401];
    assert_eq!(statuses(builder(&guest).instance_reuse(3), 7), replaced);
    assert_eq!(statuses(builder(&guest).instance_reuse(1), 3), [401; 3]);
}

#[test]
fn an_instance_that_trapped_is_not_used_again() {
    let third = "(if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))";
    let guest = guest_that(&format!("{COUNTS} {third}"), CREATED, "");
    let replaced = [401, 402, 500, 401, 402, 500, 401];
    assert_eq!(statuses(builder(&guest), 7), replaced);
}

#[test]
fn an_instance_that_grew_is_replaced_and_a_small_one_is_not() {
    for (pages, statuses_of_3) in [(2, [401, 402, 403]), (16, [401; 3])] {
        let grow = format!("(drop (memory.grow (i32.const {pages})))");
        let guest = guest_that(&format!("{COUNTS} {grow}"), CREATED, "");
        assert_eq!(statuses(builder(&guest), 3), statuses_of_3, "{pages} pages");
    }
}
