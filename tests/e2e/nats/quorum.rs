//! Two of three servers are down: the responses to puts, how soon they come, and after the servers are back.
//!
//! Under load this is tested in `faults`.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Cluster, Replicas, can_start, url};
use crate::support::{Peer, Post, run, wait_until};

/// The latest time for a 503, once the fault has lasted.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn puts_without_a_quorum_are_refused_until_it_returns() {
    if !can_start("a cluster without a quorum") {
        return;
    }
    let mut cluster = Cluster::start(3, "");
    let store = url(&cluster, "replicas=3");
    let mut ends = Peer::builder().sink(&store).start();
    let stays = Peer::builder().sink(&store).start();
    stays.put("before", "1").assert_created();
    // The leader remains, and for a while does not notice that it no longer leads.
    let leader = Replicas::of(&cluster).leader();
    cluster.kill((leader + 1) % 3);
    cluster.kill((leader + 2) % 3);
    for peer in [&ends, &stays] {
        refuse_at_once(peer);
    }
    // An unacknowledged put delays the end of the peer for as long as it would delay the client.
    let mut waiting = ends.connect();
    waiting.send(Post::put("waits", "1").bytes());
    ends.signal(Signal::TERM);
    if let Some(answer) = waiting.answer_or_end() {
        assert!([503, 504].contains(&answer.status), "{}", answer.text());
    }
    assert_eq!(ends.wait().code(), Some(0));
    cluster.restart_killed();
    wait_until("puts are taken again", || {
        stays.put("after", "1").status == 201
    });
    stays.log_line("the stream takes events again");
    stays.put("before", "1").assert_created();
    stays.put("before", "2").assert_problem(409);
    stays.put("after", "2").assert_problem(409);
    cluster.wait();
    run(&["verify", "--store", &store]).assert_ok();
    let output = run(&["get", "before", "--store", &store]);
    assert_eq!(output.assert_ok(), "1\n");
}

/// Puts until one is refused at once. A leader that has not noticed that it no longer leads may still allow
/// another attempt after that.
#[track_caller]
fn refuse_at_once(peer: &Peer) {
    let refused_in = |number: usize| {
        let start = Instant::now();
        let answer = peer.put(&format!("meanwhile{number}"), "1");
        match answer.status {
            503 => assert_eq!(answer.assert_problem(503)["stored"], "no"),
            504 => assert_eq!(answer.assert_problem(504)["stored"], "unknown"),
            _ => panic!("without a quorum: {}", answer.text()),
        }
        (answer.status, start.elapsed())
    };
    let is_at_once = |number| {
        let (status, took) = refused_in(number);
        status == 503 && took < AT_ONCE
    };
    let mut number = 0;
    wait_until("puts are refused at once", || {
        number += 1;
        is_at_once(number)
    });
}
