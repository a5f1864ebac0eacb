//! Bodies that are not read: their clients get the response, whether they continue to send or not.
//!
//! Bodies without end are in `floods`.

use crate::connections::{assert_nothing_put, assert_put, body, both};
use crate::support::{Embedded, Peer, Post};

/// More than the buffers of two sockets hold, so that it is sent only while the server reads.
const LARGE_BODY_BYTES: usize = 5_000_000;

#[test]
fn expect_100_of_refused_request_gets_no_continue() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = Post::new(vec![b' '; 1001]);
    for (post, status) in [(large, 413), (Post::new(body()).method("GET"), 405)] {
        let head = post.header("Expect: 100-continue").head();
        let answer = peer.connect().send(head).any_answer(false);
        answer.assert_problem(status);
    }
}

#[test]
fn client_sending_a_large_refused_body_reads_response() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = vec![b' '; LARGE_BODY_BYTES];
    let parts: Vec<&[u8]> = large.chunks(65_536).collect();
    for post in [Post::new(large.clone()), Post::chunks(&parts)] {
        let detail = peer.send(&post).detail(413);
        assert!(detail.contains("1000"), "{detail}");
        peer.send(&post.method("PUT")).assert_problem(405);
    }
    peer.send(&Post::new(large).http10()).assert_problem(413);
}

#[test]
fn client_sending_despite_expect_100_reads_response() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = Post::new(vec![b' '; LARGE_BODY_BYTES]).header("Expect: 100-continue");
    peer.send(&large).assert_problem(413);
    peer.send(&large.method("PUT")).assert_problem(405);
}

#[test]
fn refused_body_does_not_delay_response() {
    let peer = Peer::builder().arguments(&["--max-body", "1000"]).start();
    let large = vec![b' '; LARGE_BODY_BYTES];
    let (sized, chunks) = (Post::new(large.clone()), Post::chunks(&[&large]));
    let begun = |post: &Post, bytes: usize, status| {
        let request = &post.bytes()[..post.head().len() + bytes];
        peer.connect().send(request).answer().assert_problem(status);
    };
    begun(&sized, 0, 413);
    begun(&sized, 10, 413);
    begun(&chunks, 2000, 413);
    begun(&sized.method("GET"), 10, 405);
}

#[test]
fn connection_continues_after_small_unread_body() {
    let (server, puts) = Embedded::capturing();
    let mut connection = server.connect();
    let [sized, _] = both();
    for _ in 0..2 {
        let unread = sized.clone().method("DELETE");
        connection.ask(&unread).assert_problem(405);
        assert_nothing_put(&puts);
        connection.ask(&sized).assert_created();
        assert_put(&puts);
    }
}
