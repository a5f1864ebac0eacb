//! The sources that are read again: certificates, tokens, and the files of the access log and of a sink.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crate::error::Error;
use crate::server::access_log::AccessLog;
use crate::server::auth::Authorizer;
use crate::sink::reopen::Reopen;
#[cfg(feature = "tls")]
use crate::util::tls::TlsConfig;

/// A source that is read again.
pub(crate) enum Source {
    #[cfg(feature = "tls")]
    Tls(TlsConfig),
    Authorizer(Arc<dyn Authorizer>),
    AccessLog(AccessLog),
    Sink(Weak<dyn Reopen>),
}

/// The messages about a source.
pub(super) struct Reloading {
    pub(super) done: &'static str,
    pub(super) failed: &'static str,
}

impl Source {
    /// What the log says of it.
    pub(super) fn reloading(&self) -> Reloading {
        let (done, failed) = match self {
            #[cfg(feature = "tls")]
            Self::Tls(_) => (
                "TLS certificates read again",
                "TLS certificates not read again",
            ),
            Self::Authorizer(_) => ("tokens read again", "tokens not read again"),
            Self::AccessLog(_) => ("access log reopened", "access log not reopened"),
            Self::Sink(sink) => match sink.upgrade() {
                Some(sink) => (sink.done(), sink.failed()),
                None => ("the sink is closed", "the sink is closed"),
            },
        };
        Reloading { done, failed }
    }

    pub(super) fn has_changed(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.has_changed(),
            Self::Authorizer(authorizer) => authorizer.has_changed(),
            Self::AccessLog(_) => false,
            Self::Sink(sink) => sink.upgrade().is_some_and(|sink| sink.has_changed()),
        }
    }

    pub(super) fn reload(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.reload(),
            Self::Authorizer(authorizer) => authorizer.reload(),
            Self::AccessLog(log) => log.reopen(),
            Self::Sink(sink) => sink.upgrade().map_or(Ok(()), |sink| sink.reopen()),
        }
    }

    /// When a certificate expires, also as text.
    pub(super) fn expiry(&self) -> Option<(SystemTime, String)> {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls(config) => config.expiry_for_log().map(|it| (it.time, it.text)),
            Self::Authorizer(_) | Self::AccessLog(_) | Self::Sink(_) => None,
        }
    }
}
