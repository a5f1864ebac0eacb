//! The export of traces by OTLP, as HTTP with Protocol Buffers. The environment variables of OpenTelemetry configure it; it is
//! off unless one of them names an endpoint.
//!
//! Spans wait in a bounded queue, which a thread exports in batches: a put never waits for the exporter.

mod client;
mod exporter;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::{Builder, Runtime};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use client::RuntimeClient;
use exporter::LoggingExporter;
pub(crate) use settings::InvalidSetting;
use settings::Settings;

use crate::signals::Signals;

/// How long the end of the program waits for the export of the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The crate whose spans are exported.
const TARGET: &str = "alldata_peer_server_http";

/// The exporter of the traces of a server, if there is one.
pub(crate) struct Traces(Option<Exporting>);

struct Exporting {
    provider: SdkTracerProvider,
    endpoint: String,
    /// Of the exporter alone, so that it takes no thread from puts.
    runtime: Runtime,
}

impl Traces {
    /// Reads the environment, and opens the exporter if a server is to export traces. Connects later.
    ///
    /// # Errors
    ///
    /// When a variable has an invalid value.
    pub(crate) fn open(is_server: bool) -> Result<Self> {
        let settings = if is_server { Settings::read()? } else { None };
        settings.map(Exporting::open).transpose().map(Self)
    }

    /// The layer that turns spans into traces. Events are not exported: they may have keys.
    pub(crate) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let exporting = self.0.as_ref()?;
        let tracer = exporting.provider.tracer(env!("CARGO_BIN_NAME"));
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // Parents are those of `tracing`.
            .with_context_activation(false);
        let exported = filter_fn(|data| {
            let is_ours = data.target().starts_with(TARGET);
            data.is_span() && is_ours && *data.level() <= tracing::Level::DEBUG
        });
        Some(layer.with_filter(exported.with_max_level_hint(LevelFilter::DEBUG)))
    }

    /// Logs where traces are exported to.
    pub(crate) fn log(&self) {
        if let Some(exporting) = &self.0 {
            tracing::info!(endpoint = exporting.endpoint, "exporting traces");
        }
    }

    /// Exports the last spans, for a limited time. A further signal ends that.
    pub(crate) fn flush(self) {
        let Some(exporting) = self.0 else {
            return;
        };
        let Exporting {
            provider, runtime, ..
        } = exporting;
        let flush = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        let flushing = runtime.spawn_blocking(flush);
        let flushed: Result<()> = runtime.block_on(async {
            let mut signals = Signals::listen()?;
            tokio::select! {
                flushed = flushing => Ok(flushed??),
                signal = signals.next_after_pause() => bail!("{signal} ended the export"),
            }
        });
        if let Err(error) = flushed {
            let error = format!("{error:#}");
            tracing::warn!(error, "the last traces may not be exported");
        }
        runtime.shutdown_background();
    }
}

impl Exporting {
    fn open(settings: Settings) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .context("cannot start the runtime of the exporter of traces")?;
        let last_error = Arc::default();
        let client = RuntimeClient::new(&settings, runtime.handle(), Arc::clone(&last_error))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .context("cannot export traces")?;
        let exporter = LoggingExporter::new(exporter, last_error);
        let provider = SdkTracerProvider::builder()
            .with_resource(settings::resource())
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .build();
        Ok(Self {
            provider,
            endpoint: settings.endpoint_name(),
            runtime,
        })
    }
}
