//! Reads certificates and tokens again when their files change or on request, and warns of certificates that
//! expire. It all happens beside the connections, in one task for each server.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::auth::Authorizer;
use crate::error::Error;
#[cfg(feature = "tls")]
use crate::tls::TlsConfig;

/// How often the files are looked at: soon enough for a person who has replaced one, and cheap.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

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

/// What is read again.
pub(crate) enum Source {
    #[cfg(feature = "tls")]
    Tls(TlsConfig),
    Authorizer(Arc<dyn Authorizer>),
}

/// A source, and when its expiry was warned of.
struct Watched {
    source: Source,
    warned: Option<Instant>,
}

impl Reloader {
    /// Starts the task, unless there is nothing to read again.
    pub(crate) fn start(sources: Vec<Source>) -> Option<Self> {
        if sources.is_empty() {
            return None;
        }
        let requested = Arc::new(Notify::new());
        let watched = sources.into_iter().map(|source| Watched {
            source,
            warned: None,
        });
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
    fn check(&mut self, is_requested: bool) {
        // Always asked, so that a change that is read now is not read again.
        let has_changed = self.source.has_changed();
        if is_requested || has_changed {
            self.reload();
        }
        self.warn_of_expiry();
    }

    fn reload(&mut self) {
        let name = self.source.name();
        match self.source.reload() {
            Ok(()) => {
                self.warned = None;
                match self.source.expiry() {
                    Some((_, expires)) => tracing::info!(expires, "{name} read again"),
                    None => tracing::info!("{name} read again"),
                }
            }
            Err(error) => tracing::error!(%error, "{name} not read again: the old stays in effect"),
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
