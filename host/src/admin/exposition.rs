//! The formats of the metrics.

use std::fmt;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// The media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that the values of `Accept` ask for: OpenMetrics if it is named, and not with less weight
    /// than plain text.
    pub(super) fn of_accept<'a>(accepted: impl Iterator<Item = &'a str>) -> Self {
        let (mut open_metrics, mut plain) = (0.0, 0.0);
        for range in accepted.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            match &*media_type {
                OPEN_METRICS => open_metrics = f32::max(open_metrics, weight),
                "text/plain" => plain = f32::max(plain, weight),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of a registry.
pub(super) fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut encoded = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut encoded, registry)?,
        Format::OpenMetrics => text::encode(&mut encoded, registry)?,
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn open_metrics_is_chosen_by_name_and_weight() {
        let of = |accept: &str| Format::of_accept([accept].into_iter());
        // Prometheus 2.42, Prometheus 3, and a browser.
        assert_eq!(
            of(
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            Format::OpenMetrics
        );
        assert_eq!(
            of("text/plain;version=0.0.4;q=0.6, application/openmetrics-text;q=0.5"),
            Format::Prometheus
        );
        assert_eq!(of("text/html,*/*;q=0.8"), Format::Prometheus);
        assert_eq!(of("application/openmetrics-text;q=0"), Format::Prometheus);
        assert_eq!(of(""), Format::Prometheus);
    }
}
