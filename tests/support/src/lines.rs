//! The output of a program, line by line.
//!
//! It is read at once, so that no program waits for its reader.

use std::io::{BufRead as _, BufReader, Read};
use std::iter;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::DEADLINE;

/// The lines of a stream that were not read by a test yet.
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line, which has to arrive within `deadline`.
    #[track_caller]
    pub fn next(&self, deadline: Duration) -> String {
        self.0.recv_timeout(deadline).expect("writes a line")
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub fn with(&self, text: &str) -> String {
        self.with_within(DEADLINE, text)
    }

    /// The same, where each line may take until `deadline`.
    #[track_caller]
    pub fn with_within(&self, deadline: Duration, text: &str) -> String {
        let mut others = Vec::new();
        loop {
            match self.0.recv_timeout(deadline) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => others.push(line),
                Err(_) => panic!("no line with {text:?}:\n{}", others.join("\n")),
            }
        }
    }

    /// The lines up to the end of the stream.
    pub fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.0.recv_timeout(DEADLINE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => panic!("the stream does not end"),
            }
        }
    }

    /// The same without a failure, for the message of another one.
    pub(super) fn unread(&self) -> Vec<String> {
        let lines = iter::from_fn(|| self.0.recv_timeout(DEADLINE).ok());
        lines.collect()
    }
}
