//! One compiled component in several servers: each has its own sink, limits and end.

use std::sync::Arc;
use std::sync::mpsc;

use alldata_peer_server_http::sinks::DiscardSink;
use alldata_peer_server_http::{CompiledComponent, Error, Limits, PeerServer};
use tokio::sync::Notify;

use crate::support::{DEADLINE, Embedded, Post, both_components};

#[test]
fn servers_with_one_component_share_no_limit() {
    for component in both_components() {
        let builder = || PeerServer::builder().compiled_component(component);
        let (enter, entered) = mpsc::channel();
        let go_on = Arc::new(Notify::new());
        let gate = Arc::clone(&go_on);
        let narrow = builder().on_put(move |_, _| {
            let (enter, gate) = (enter.clone(), Arc::clone(&gate));
            async move {
                enter.send(()).expect("the test waits");
                gate.notified().await;
                Ok(())
            }
        });
        let narrow = Embedded::start(narrow.limits(Limits {
            max_concurrent_requests: 1,
            max_body_bytes: 100,
            ..Limits::default()
        }));
        let wide = Embedded::start(builder().sink(DiscardSink));

        let mut waiting = narrow.connect();
        waiting.send(Post::put("key1", "1").bytes());
        entered.recv_timeout(DEADLINE).expect("reaches the sink");
        narrow.put("key2", "2").assert_problem(503);
        let large = format!("\"{}\"", "x".repeat(1000));
        narrow.put("large", &large).assert_problem(413);
        let mut clients = [(); 4].map(|()| wide.connect());
        for client in &mut clients {
            client.send(Post::put("large", &large).bytes());
        }
        for client in &mut clients {
            client.answer().assert_created();
        }
        go_on.notify_one();
        waiting.answer().assert_created();

        narrow.close();
        drop(narrow);
        wide.put("key3", "3").assert_created();
        wide.close();
    }
}

#[test]
fn invalid_component_is_an_error_with_its_size() {
    for binary in [&b"(component)"[..], b"\0asm\x0d\0\x01\0\xff"] {
        let error = CompiledComponent::compile(binary).expect_err("is invalid");
        assert!(matches!(error, Error::Component { .. }), "{error:?}");
        let size = format!("of {} bytes", binary.len());
        assert!(error.to_string().contains(&size), "{error}");
    }
}
