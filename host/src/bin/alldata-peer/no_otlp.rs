//! In the place of `otlp` in a program without that feature, which exports no traces.

use tracing_subscriber::layer::Identity;

pub(crate) struct Traces;

impl Traces {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "with the feature, settings may be invalid"
    )]
    pub(crate) fn open(_is_server: bool) -> anyhow::Result<Self> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "with the feature, it may have one")]
    pub(crate) fn layer(&self) -> Option<Identity> {
        None
    }

    pub(crate) fn log(&self) {}

    pub(crate) fn flush(self) {}
}
