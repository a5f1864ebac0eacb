//! A sink that holds puts back until the test lets them pass.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use alldata_peer_server_http::PeerServerBuilder;
use tokio::sync::Notify;

use super::DEADLINE;

/// A put: its key and its event.
pub type Put = (String, String);

/// The gate before a sink that accepts everything.
pub struct Gate {
    entered: Receiver<String>,
    stored: Receiver<Put>,
    go_on: Arc<Notify>,
}

impl Gate {
    /// Gives a server a sink that holds back the puts whose key and event are like that.
    pub fn before(
        builder: PeerServerBuilder,
        holds: fn(&str, &str) -> bool,
    ) -> (PeerServerBuilder, Self) {
        let (enter, entered) = mpsc::channel();
        let (store, stored) = mpsc::channel();
        let go_on = Arc::new(Notify::new());
        let gate = Arc::clone(&go_on);
        let builder = builder.on_put(move |key, event| {
            let (enter, store, gate) = (enter.clone(), store.clone(), Arc::clone(&gate));
            async move {
                if holds(&key, &event) {
                    enter.send(key.clone()).expect("the test waits");
                    gate.notified().await;
                    // The server may have begun to close while this was polled: now it has noticed.
                    tokio::task::yield_now().await;
                }
                // The test may have ended.
                let _ = store.send((key, event));
                Ok(())
            }
        });
        let gate = Self {
            entered,
            stored,
            go_on,
        };
        (builder, gate)
    }

    /// Waits until a put is held back, and returns its key.
    pub fn wait_for_put(&self) -> String {
        let entered = self.entered.recv_timeout(DEADLINE);
        entered.expect("reaches the sink")
    }

    /// Whether no further put is held back.
    #[must_use]
    pub fn has_no_other(&self) -> bool {
        self.entered.try_recv().is_err()
    }

    /// Lets one put pass.
    pub fn open(&self) {
        self.go_on.notify_one();
    }

    /// Waits for the next put that is stored.
    pub fn wait_for_stored(&self) -> Put {
        let stored = self.stored.recv_timeout(DEADLINE);
        stored.expect("is stored")
    }

    /// Asserts that the next put that is stored has this key.
    #[track_caller]
    pub fn assert_stored(&self, key: &str) {
        assert_eq!(self.wait_for_stored().0, key);
    }

    /// Asserts that no further put is stored.
    #[track_caller]
    pub fn assert_nothing_stored(&self) {
        let stored = self.stored.try_recv();
        let is_none = matches!(
            stored,
            Err(TryRecvError::Empty | TryRecvError::Disconnected)
        );
        assert!(is_none, "{stored:?}");
    }
}
