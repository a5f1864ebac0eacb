//! Puts from many connections at once, and the comparison of acknowledged events with stored ones.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crate::support::{DEADLINE, Post, run};

/// Events by key.
pub(crate) type Events = BTreeMap<String, String>;

/// Puts from several connections at once, one after the other on each, until all are done or the server has ended.
pub(crate) struct Load {
    acknowledgements: Receiver<(String, String)>,
    /// The events that `wait_for` has received.
    seen: Events,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, name: &str, connections: usize, puts: usize) -> Self {
        let (sender, acknowledgements) = mpsc::channel();
        let threads = (0..connections).map(|connection| {
            let prefix = format!("{name}-{connection:02}");
            let sender = sender.clone();
            thread::spawn(move || put_in_a_row(address, &prefix, puts, &sender))
        });
        Self {
            threads: threads.collect(),
            acknowledgements,
            seen: Events::new(),
        }
    }

    /// Waits for `count` acknowledgements.
    pub(crate) fn wait_for(&mut self, count: usize) {
        for _ in 0..count {
            let next = self.acknowledgements.recv_timeout(DEADLINE);
            self.seen.extend([next.expect("a put is acknowledged")]);
        }
    }

    /// Waits for the end and returns all acknowledged events.
    pub(crate) fn finish(self) -> Events {
        let mut events = self.seen;
        events.extend(self.acknowledgements);
        for thread in self.threads {
            thread.join().expect("each response was a 201");
        }
        events
    }
}

fn put_in_a_row(
    address: SocketAddr,
    prefix: &str,
    puts: usize,
    acknowledgements: &Sender<(String, String)>,
) {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connects");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("sets an option");
    let mut stream = BufReader::new(stream);
    for number in 0..puts {
        let key = format!("{prefix}-{number:05}");
        let event = format!(
            "{{ \"é of\":\t\"{key}\", \"n\": {number}.0e1, \"pad\": \"{}\" }}",
            "é\\n".repeat(number % 7 * 40)
        );
        let put = Post::put(&key, &event).bytes();
        if stream.get_mut().write_all(&put).is_err() {
            return;
        }
        let Some(head) = read_response(&mut stream) else {
            return;
        };
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
        acknowledgements.send((key, event)).expect("is waited for");
    }
}

/// Reads a response without a body; `None` if the server has ended.
fn read_response(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match stream.read_line(&mut head) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no response in time"),
            Err(_) => return None,
        }
    }
    Some(head)
}

pub(crate) fn exported(store: &str) -> Events {
    run(&["export", "--store", store]).events()
}

/// Asserts that each of `events` is stored unchanged.
#[track_caller]
pub(crate) fn assert_holds(stored: &Events, events: &Events) {
    for (key, event) in events {
        // Without the events in the message: some are large.
        assert!(
            stored.get(key) == Some(event),
            "{key} is not stored unchanged"
        );
    }
}

/// Asserts that `events` are stored unchanged, and nothing else.
#[track_caller]
pub(crate) fn assert_same(stored: &Events, events: &Events) {
    assert_holds(stored, events);
    let other = stored.keys().find(|key| !events.contains_key(*key));
    assert_eq!(other, None, "stored, but not acknowledged");
}
