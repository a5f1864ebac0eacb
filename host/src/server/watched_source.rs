//! A source that is read again when its files change or on request: when that is due, and its lines of the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use crate::error::Error;
use crate::server::reload_source::Source;
use crate::util::log_limiter::LogLimiter;

/// How many looks in a row may find another change until the source is read anyway: 10 s. A file that is being written
/// is not read in part, and one that changes all the time is still read.
const MAX_CHANGES_IN_A_ROW: u32 = 5;

/// How long before its expiry a certificate is warned of: two weeks, as it is usual for renewals by hand.
const EXPIRY_WARNING_TIME: Duration = Duration::from_secs(14 * DAY_SECONDS);

/// The pause between two warnings of the same certificate.
const EXPIRY_WARNING_PAUSE: Duration = Duration::from_secs(DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A source, and the state of its watching.
pub(super) struct Watched {
    source: Source,
    /// When its expiry was warned of.
    warned: Option<Instant>,
    /// Whether it is to be read: it has changed, or the last attempt failed.
    pub(super) is_pending: bool,
    /// How many of the last looks found a change.
    changes_in_a_row: u32,
    failing: LogLimiter,
}

impl Watched {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            warned: None,
            is_pending: false,
            changes_in_a_row: 0,
            failing: LogLimiter::default(),
        }
    }

    pub(super) fn check(&mut self, is_requested: bool) {
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
        let reloading = self.source.reloading();
        match reloaded {
            Ok(()) => {
                self.warned = None;
                self.failing = LogLimiter::default();
                match self.source.expiry() {
                    Some((_, expires)) => tracing::info!(expires, "{}", reloading.done),
                    None => tracing::info!("{}", reloading.done),
                }
            }
            Err(error) => self.log_failure(&with_causes(&error), is_requested),
        }
    }

    /// Logs each failure of a requested attempt, and the others now and then.
    fn log_failure(&self, error: &str, is_requested: bool) {
        let suppressed = self.failing.check(error);
        if is_requested || suppressed.is_some() {
            let suppressed = suppressed.unwrap_or(0);
            tracing::error!(
                %error,
                suppressed,
                "{}: the old stays in effect until an attempt succeeds",
                self.source.reloading().failed
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

/// The texts of an error and its causes, but those that a text before has already.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::{MAX_CHANGES_IN_A_ROW, Watched};
    use crate::error::Error;
    use crate::server::auth::{Authorizer, RequestHead, Unauthorized};
    use crate::server::reload_source::Source;
    use crate::util::identity::Identity;

    #[derive(Default)]
    pub(in crate::server) struct Scripted {
        has_changed: AtomicBool,
        pub(in crate::server) is_valid: AtomicBool,
        pub(in crate::server) reloads: AtomicU32,
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
