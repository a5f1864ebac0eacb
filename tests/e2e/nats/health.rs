//! Readiness and metrics of a server whose sink is a stream.

use crate::support::admin::{get, scrape};
use crate::support::{Peer, wait_until};

use super::{Single, can_start};

#[test]
fn lost_connection_is_not_ready_and_counted_when_it_is_back() {
    if !can_start("losing a connection") {
        return;
    }
    let mut server = Single::start();
    let url = server.url();
    let peer = Peer::builder().admin().sink(&url).start();
    peer.put("key1", "1").assert_created();
    let value = |name: &str| scrape(peer.admin()).value(&format!("alldata_peer_nats_{name}"));
    assert_eq!(get(peer.admin(), "/readyz").status, 200);
    assert_eq!(value("connected"), 1.0);
    assert_eq!(value("leader_known"), 1.0);
    assert_eq!(value("reconnections_total"), 0.0);
    server.cluster.kill(0);
    wait_until("the connection is lost", || value("connected") == 0.0);
    // The put shows that the stream takes nothing.
    peer.put("key2", "1").assert_problem(503);
    let readiness = get(peer.admin(), "/readyz");
    assert_eq!(readiness.status, 503);
    assert!(
        readiness.text().contains("the sink"),
        "{}",
        readiness.text()
    );
    server.cluster.restart(0);
    wait_until("it is ready again", || {
        peer.put("key2", "1");
        get(peer.admin(), "/readyz").status == 200
    });
    assert_eq!(value("connected"), 1.0);
    assert!(value("reconnections_total") >= 1.0);
}
