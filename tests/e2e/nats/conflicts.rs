//! A conflict with a large event: the stored event is read once.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::{STREAM, Single, can_start};

/// The time for which no further request must arrive.
const QUIET_TIME: Duration = Duration::from_millis(300);

#[test]
fn large_event_is_read_for_the_first_conflict_only() {
    if !can_start("conflicts with a large event") {
        return;
    }
    let nats = Single::start();
    let peer = nats.peer();
    let large = format!("[{}1]", "1,".repeat(100_000));
    peer.put("large", &large).assert_created();
    let mut reads = nats.block_on(async {
        let client = async_nats::connect(nats.cluster.hosts()).await;
        let client = client.expect("connects");
        let reads = client.subscribe(format!("$JS.API.STREAM.MSG.GET.{STREAM}"));
        let reads = reads.await.expect("subscribes");
        client.flush().await.expect("is subscribed");
        reads
    });
    let mut count = || {
        nats.block_on(async {
            let mut count = 0;
            while let Ok(Some(_)) = tokio::time::timeout(QUIET_TIME, reads.next()).await {
                count += 1;
            }
            count
        })
    };
    for number in 0..20 {
        peer.put("large", &number.to_string()).assert_problem(409);
    }
    assert_eq!(count(), 1);
    // Nothing is acknowledged on the basis of the cache alone.
    peer.put("large", &large.replace(',', ", "))
        .assert_created();
    peer.put("large", &large).assert_created();
    assert_eq!(count(), 2);
    peer.put("large", "3").assert_problem(409);
    assert_eq!(count(), 0);
}
