//! Reads certificates and tokens again when their files change or on request, and warns of certificates that
//! expire. It all happens beside the connections, in one task for each server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::server::auth::Authorizer;
use crate::util::log_limiter::LogLimiter;
#[cfg(feature = "tls")]
use crate::util::tls::TlsConfig;

/// How often the files are looked at: soon enough for a person who has replaced one, and cheap.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// How many looks in a row may find another change until the source is read anyway: 10 s. A file that is being written
/// is not read in part, and one that changes all the time is still read.
const MAX_CHANGES_IN_A_ROW: u32 = 5;

/// How long before its expiry a certificate is warned of: two weeks, as it is usual for renewals by hand.
const EXPIRY_WARNING_TIME: Duration = Duration::from_secs(14 * DAY_SECONDS);

/// The pause between two warnings of the same certificate.
const EXPIRY_WARNING_PAUSE: Duration = Duration::from_secs(DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The task of a server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Reloader {
    requested: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// A source that is read again.
pub(crate) enum Source {
    #[cfg(feature = "tls")]
    Tls(TlsConfig),
    Authorizer(Arc<dyn Authorizer>),
}

/// A source, and the state of its watching.
struct Watched {
    source: Source,
    /// When its expiry was warned of.
    warned: Option<Instant>,
    /// Whether it is to be read: it has changed, or the last attempt failed.
    is_pending: bool,
    /// How many of the last looks found a change.
    changes_in_a_row: u32,
    failing: LogLimiter,
}

impl Reloader {
    /// Starts the task, unless there is nothing to read again.
    pub(crate) fn start(sources: Vec<Source>) -> Option<Self> {
        if sources.is_empty() {
            return None;
        }
        let requested = Arc::new(Notify::new());
        let watched = sources.into_iter().map(Watched::new);
        let task = tokio::spawn(run(watched.collect(), Arc::clone(&requested)));
        Some(Self {
            requested,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Has the task read all sources again. Requests during one are served by one more.
    pub(crate) fn request(&self) {
        self.requested.notify_one();
    }
}

async fn run(mut watched: Vec<Watched>, requested: Arc<Notify>) {
    let mut is_requested = false;
    loop {
        // Files may be on a mount that blocks.
        let checked = tokio::task::spawn_blocking(move || {
            for watched in &mut watched {
                watched.check(is_requested);
            }
            watched
        });
        watched = match checked.await {
            Ok(watched) => watched,
            Err(error) => {
                tracing::error!(%error, "certificates and tokens are not read again any more");
                return;
            }
        };
        is_requested = tokio::select! {
            () = requested.notified() => true,
            () = tokio::time::sleep(POLL_INTERVAL) => false,
        };
    }
}

impl Watched {
    fn new(source: Source) -> Self {
        Self {
            source,
            warned: None,
            is_pending: false,
            changes_in_a_row: 0,
            failing: LogLimiter::default(),
        }
    }

    fn check(&mut self, is_requested: bool) {
        // An embedder's authorizer that panics must not end the watching.
        let checked = catch_unwind(AssertUnwindSafe(|| {
            // Always asked, so that a change that is read now is not read again.
            let has_changed = self.source.has_changed();
            if self.is_due(has_changed, is_requested) {
                // Until it has succeeded, also if it panics.
                self.is_pending = true;
                let reloaded = self.source.reload();
                self.is_pending = reloaded.is_err();
                self.log(reloaded, is_requested);
            }
        }));
        if checked.is_err() {
            self.log_failure("its code panicked", is_requested);
        }
        self.warn_of_expiry();
    }

    /// Whether the source is to be read now. After a change this is once a look has found no other, since the file
    /// may be written in parts.
    fn is_due(&mut self, has_changed: bool, is_requested: bool) -> bool {
        self.is_pending |= has_changed;
        self.changes_in_a_row = if has_changed {
            self.changes_in_a_row + 1
        } else {
            0
        };
        let is_settled = !has_changed || self.changes_in_a_row >= MAX_CHANGES_IN_A_ROW;
        let is_due = is_requested || self.is_pending && is_settled;
        if is_due {
            self.changes_in_a_row = 0;
        }
        is_due
    }

    fn log(&mut self, reloaded: Result<(), Error>, is_requested: bool) {
        let name = self.source.name();
        match reloaded {
            Ok(()) => {
                self.warned = None;
                self.failing = LogLimiter::default();
                match self.source.expiry() {
                    Some((_, expires)) => tracing::info!(expires, "{name} read again"),
                    None => tracing::info!("{name} read again"),
                }
            }
            Err(error) => self.log_failure(&error.to_string(), is_requested),
        }
    }

    /// Logs each failure of a requested attempt, and the others now and then.
    fn log_failure(&self, error: &str, is_requested: bool) {
        let suppressed = self.failing.check(error);
        if is_requested || suppressed.is_some() {
            let name = self.source.name();
            let suppressed = suppressed.unwrap_or(0);
            tracing::error!(
                %error,
                suppressed,
                "{name} not read again: the old stays in effect until an attempt succeeds"
            );
        }
    }

    fn warn_of_expiry(&mut self) {
        let Some((expiry, expires)) = self.source.expiry() else {
            return;
        };
        let left = expiry.duration_since(SystemTime::now());
        let left = left.unwrap_or(Duration::ZERO);
        let is_warned = self
            .warned
            .is_some_and(|warned| warned.elapsed() < EXPIRY_WARNING_PAUSE);
        if left > EXPIRY_WARNING_TIME || is_warned {
            return;
        }
        self.warned = Some(Instant::now());
        if left.is_zero() {
            tracing::warn!(expires, "the TLS certificate has expired (--tls-cert)");
        } else {
            let days = left.as_secs() / DAY_SECONDS;
            tracing::warn!(
                expires,
                days,
                "the TLS certificate expires soon (--tls-cert)"
            );
        }
    }
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => "TLS certificates",
            Self::Authorizer(_) => "tokens",
        }
    }

    fn has_changed(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.has_changed(),
            Self::Authorizer(authorizer) => authorizer.has_changed(),
        }
    }

    fn reload(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.reload(),
            Self::Authorizer(authorizer) => authorizer.reload(),
        }
    }

    /// When a certificate expires, also as text.
    fn expiry(&self) -> Option<(SystemTime, String)> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.expiry_for_log().map(|it| (it.time, it.text)),
            Self::Authorizer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::{MAX_CHANGES_IN_A_ROW, Source, Watched};
    use crate::error::Error;
    use crate::server::auth::{Authorizer, RequestHead, Unauthorized};
    use crate::util::identity::Identity;

    #[derive(Default)]
    struct Scripted {
        has_changed: AtomicBool,
        is_valid: AtomicBool,
        reloads: AtomicU32,
    }

    impl Authorizer for Scripted {
        fn authorize(&self, _: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
            Err(Unauthorized::NoCredentials)
        }

        fn has_changed(&self) -> bool {
            self.has_changed.load(Ordering::Relaxed)
        }

        fn reload(&self) -> Result<(), Error> {
            self.reloads.fetch_add(1, Ordering::Relaxed);
            if self.is_valid.load(Ordering::Relaxed) {
                return Ok(());
            }
            Err(Error::TokenFile {
                path: "tokens".into(),
                reason: "it is scripted".to_owned(),
            })
        }
    }

    /// The number of reloads after each look. A look is (changed, valid, requested).
    fn reloads(looks: &[(bool, bool, bool)]) -> Vec<u32> {
        let source = Arc::new(Scripted::default());
        let mut watched = Watched::new(Source::Authorizer(source.clone()));
        let after = looks.iter().map(|&(has_changed, is_valid, is_requested)| {
            source.has_changed.store(has_changed, Ordering::Relaxed);
            source.is_valid.store(is_valid, Ordering::Relaxed);
            watched.check(is_requested);
            source.reloads.load(Ordering::Relaxed)
        });
        after.collect()
    }

    #[test]
    fn changing_source_is_read_once_it_has_settled() {
        let (changed, same) = ((true, true, false), (false, true, false));
        let looks = [same, changed, changed, same, same];
        assert_eq!(reloads(&looks), [0, 0, 0, 1, 1]);
    }

    #[test]
    fn request_is_served_at_once() {
        assert_eq!(reloads(&[(true, true, true), (false, true, false)]), [1, 1]);
    }

    #[test]
    fn source_that_always_changes_is_still_read() {
        let looks = [(true, true, false); 2 * MAX_CHANGES_IN_A_ROW as usize];
        assert_eq!(reloads(&looks).last(), Some(&2));
    }

    #[test]
    fn failed_attempt_is_repeated_until_it_succeeds_but_not_during_a_change() {
        let (failing, changed) = ((false, false, false), (true, true, false));
        let (valid, requested) = ((false, true, false), (false, false, true));
        let looks = [requested, failing, changed, valid, valid];
        assert_eq!(reloads(&looks), [1, 2, 2, 3, 3]);
    }
}
