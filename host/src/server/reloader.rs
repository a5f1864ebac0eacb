//! Reads certificates and tokens again when their files change or on request, has the sink reopen its file on request,
//! and warns of certificates that expire. It all happens beside the connections, in one task for each source.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::server::reload_source::Source;
use crate::server::watched_source::Watched;

/// How often the files are looked at: soon enough for a person who has replaced one, and cheap.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The result of [`PeerServer::reload_and_wait`](crate::PeerServer::reload_and_wait).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The server has nothing to read again.
    Nothing,
    /// All was read again or reopened.
    All,
    /// Not all was; the errors are in the log. The old stays in effect where it failed, and it is tried again.
    Failed,
}

/// The tasks of a server, one for each source, so that one that blocks does not hold up the others. They end when this
/// is dropped.
#[derive(Debug)]
pub(crate) struct Reloader {
    requests: watch::Sender<Requests>,
    tasks: Vec<SourceTask>,
}

#[derive(Debug)]
struct SourceTask {
    /// Closed once the task has ended.
    done: watch::Receiver<Done>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Requests {
    made: u64,
    is_over: bool,
}

/// The last request that was carried out for a source.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    number: u64,
    has_failed: bool,
}

impl Reloader {
    /// Starts the tasks, unless there is nothing to read again.
    pub(crate) fn start(sources: Vec<Source>) -> Option<Self> {
        if sources.is_empty() {
            return None;
        }
        let requests = watch::Sender::new(Requests::default());
        let start = |source| {
            let (reporting, done) = watch::channel(Done::default());
            let task = tokio::spawn(run(Watched::new(source), requests.subscribe(), reporting));
            let _task = AbortOnDropHandle::new(task);
            SourceTask { done, _task }
        };
        let tasks = sources.into_iter().map(start).collect();
        Some(Self { requests, tasks })
    }

    /// Has the tasks read all sources again. Requests during one are served by one more. The future waits until it is
    /// done, and returns whether all succeeded.
    pub(crate) fn request(&self) -> impl Future<Output = bool> + use<> {
        self.requests.send_modify(|requests| requests.made += 1);
        let number = self.requests.borrow().made;
        let all: Vec<_> = self.tasks.iter().map(|task| task.done.clone()).collect();
        async move {
            let mut has_succeeded = true;
            for mut done in all {
                let done = done.wait_for(|done| done.number >= number).await;
                // An error: the task has ended, and has said why.
                has_succeeded &= done.is_ok_and(|done| !done.has_failed);
            }
            has_succeeded
        }
    }

    /// Ends the tasks, and waits for that.
    pub(crate) async fn stop(&self) {
        self.requests
            .send_modify(|requests| requests.is_over = true);
        for task in &self.tasks {
            let mut done = task.done.clone();
            while done.changed().await.is_ok() {}
        }
    }
}

async fn run(
    mut watched: Watched,
    mut requested: watch::Receiver<Requests>,
    done: watch::Sender<Done>,
) {
    loop {
        let Requests { made, is_over } = *requested.borrow_and_update();
        if is_over {
            return;
        }
        let is_requested = made > done.borrow().number;
        // Files may be on a mount that blocks.
        let checked = tokio::task::spawn_blocking(move || {
            watched.check(is_requested);
            watched
        });
        watched = match checked.await {
            Ok(watched) => watched,
            Err(error) => {
                tracing::error!(%error, "a source is not read again any more");
                return;
            }
        };
        if is_requested {
            done.send_replace(Done {
                number: made,
                has_failed: watched.is_pending,
            });
        }
        tokio::select! {
            changed = requested.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex, Weak};
    use std::time::Duration;

    use super::Reloader;
    use crate::error::Error;
    use crate::server::reload_source::Source;
    use crate::server::watched_source::tests::Scripted;
    use crate::sink::reopen::Reopen;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A sink whose file cannot be reopened until the test ends.
    struct Blocked(Mutex<Receiver<()>>);

    impl Reopen for Blocked {
        fn reopen(&self) -> Result<(), Error> {
            let _ = self.0.lock().expect("is whole").recv();
            Ok(())
        }
    }

    #[tokio::test]
    async fn sink_that_blocks_does_not_hold_up_tokens() {
        let (go_on, wait) = channel::<()>();
        let blocked: Arc<dyn Reopen> = Arc::new(Blocked(Mutex::new(wait)));
        let tokens = Arc::new(Scripted::default());
        let sources = vec![
            Source::Sink(Arc::downgrade(&blocked) as Weak<dyn Reopen>),
            Source::Authorizer(tokens.clone()),
        ];
        let reloader = Reloader::start(sources).expect("has sources");
        let request = reloader.request();
        let read = async {
            while tokens.reloads.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let read = tokio::time::timeout(DEADLINE, read).await;
        drop(go_on);
        read.expect("tokens are read");
        assert!(!request.await, "the scripted authorizer fails");
        tokens.is_valid.store(true, Ordering::Relaxed);
        assert!(reloader.request().await);
    }
}
