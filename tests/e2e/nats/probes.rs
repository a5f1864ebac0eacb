//! How a peer interprets the responses of servers to its puts and probes.
//!
//! On a fake server, which defines the responses and their order.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::json;

use super::STREAM;
use super::fake_server::{FakeServer, Message, stream_info};
use crate::support::{Peer, wait_until};

/// A time that does not matter.
const TIME: &str = "2026-11-26T00:00:00Z";

/// The number of attempts that fail for each reason.
const ATTEMPTS: usize = 3;

fn start(server: &FakeServer) -> Peer {
    let url = format!("nats://{}/{STREAM}?replicas=1", server.address());
    Peer::builder().sink(&url).start()
}

/// An event that is acknowledged while the response to a probe is on its way is not counted in it.
#[test]
fn response_older_than_an_acknowledgement_shows_no_loss() {
    let (looks, stored) = (Arc::new(AtomicUsize::new(0)), AtomicU64::new(0));
    let looked = Arc::clone(&looks);
    let held = Mutex::new(None);
    let server = FakeServer::start_with("2.15.1", move |request| {
        let mut held = held.lock().expect("is whole");
        let number = stored.load(Ordering::Relaxed);
        let is_put = request.subject.starts_with("alldata.") && !request.subject.ends_with('%');
        if is_put {
            let number = stored.fetch_add(1, Ordering::Relaxed) + 1;
            let stored = Message::json(json!({"stream": STREAM, "seq": number}).to_string());
            // The peer has the acknowledgement of one put before it sends the next.
            let is_second = number % 2 == 0;
            let released = held.take_if(|_| is_second);
            return [stored].into_iter().chain(released).collect();
        }
        let info = stream_info(STREAM, TIME, number, &json!({})).to_string();
        let info = Message::json(info);
        looked.fetch_add(1, Ordering::Relaxed);
        if number == 0 || number % 2 != 0 {
            return vec![info];
        }
        let subject = Some(request.reply_to.to_owned());
        *held = Some(Message { subject, ..info });
        Vec::new()
    });
    let peer = start(&server);
    let put = |key: &str| peer.put(key, "1").assert_created();
    put("a");
    put("b");
    let before = looks.load(Ordering::Relaxed);
    wait_until("the stream is looked at", || {
        looks.load(Ordering::Relaxed) > before
    });
    put("c");
    put("d");
    wait_until("it is looked at again", || {
        looks.load(Ordering::Relaxed) > before + 1
    });
    put("e");
}

#[test]
fn each_reason_is_logged_once_when_it_changes() {
    let attempts = AtomicUsize::new(0);
    let server = FakeServer::start("2.15.1", move |subject| {
        if !subject.starts_with("alldata.") || subject.ends_with('%') {
            return Some(stream_info(STREAM, TIME, 0, &json!({})).to_string());
        }
        let reason = match attempts.fetch_add(1, Ordering::Relaxed) / ATTEMPTS {
            0 => "the first reason",
            1 => "the second reason",
            _ => return Some(json!({"stream": STREAM, "seq": 1}).to_string()),
        };
        let error = json!({"code": 503, "err_code": 10008, "description": reason});
        Some(json!({"stream": STREAM, "error": error}).to_string())
    });
    let mut peer = start(&server);
    peer.put("a", "1").assert_created();
    peer.signal(Signal::TERM);
    peer.wait();
    let lines = peer.rest_of_stderr();
    let counts = [
        "the first reason",
        "the second reason",
        "takes events again",
    ]
    .map(|text| {
        let lines = lines.iter().filter(|line| line.contains(text));
        lines.count()
    });
    assert_eq!(counts, [1, 1, 1], "{lines:#?}");
}
