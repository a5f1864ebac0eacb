//! The exit code of an error.

use alldata_peer_server_http::Error;

use crate::config::ConfigError;
#[cfg(feature = "otlp")]
use crate::otlp;
use crate::{access_log, proxies, put, reader, serve};

/// The exit code of wrong usage, the same as that of clap.
const EXIT_USAGE: u8 = 2;

/// The exit code of a command that failed.
pub(crate) fn of(error: &anyhow::Error) -> u8 {
    let is_usage = error.is::<put::NotJson>()
        || error.is::<reader::InvalidStoreUrl>()
        || error.is::<serve::UnusedSink>()
        || error.is::<access_log::SharedOutput>()
        || error.is::<proxies::NoTrustedProxy>()
        || matches!(error.downcast_ref(), Some(ConfigError::Invalid { .. }))
        || matches!(
            error.downcast_ref(),
            Some(Error::SinkUrl { .. } | Error::InvalidSetting { .. })
        );
    #[cfg(feature = "otlp")]
    let is_usage = is_usage || error.is::<otlp::InvalidSetting>();
    #[cfg(feature = "admin")]
    let is_usage = is_usage || matches!(error.downcast_ref(), Some(Error::AdminAddress { .. }));
    if is_usage { EXIT_USAGE } else { 1 }
}
