//! The metrics of a server, by their names.

use std::fmt;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

use crate::admin::families::{Families, Labels};
use crate::admin::sink_families;
use crate::admin::status::open_connections;
use crate::limits::Limits;
use crate::metrics::Counter;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::{AccessLog, LineCounts, Monitor, Observed};

impl Monitor {
    /// Registers all metrics of the server, whose names start with `alldata_peer_`. They are read at each scrape.
    /// Before the server has started there are only few of them.
    ///
    /// The durations of requests, guests and sinks are observed from the first call on: until somebody can read them,
    /// no request reads the clock for them.
    pub fn register(&self, registry: &mut Registry) {
        self.enable_timing();
        registry.register_collector(Box::new(ServerCollector(self.clone())));
    }
}

/// The metrics of a server, read when they are asked for.
#[derive(Debug)]
struct ServerCollector(Monitor);

impl Collector for ServerCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("wasmtime", env!("BUILD_WASMTIME")),
        ];
        let help = "The versions of the program and of wasmtime";
        families.info("alldata_peer_build", help, &labels)?;
        let is_ready = u64::from(self.0.health().is_ready());
        let help = "Whether /readyz responds with 200";
        families.gauge("alldata_peer_ready", help, None, is_ready)?;
        let encoded = self.0.observe(|observed, context| {
            requests(&mut families, observed)?;
            connections(&mut families, observed)?;
            limits(&mut families, &observed.limits)?;
            if let Some(context) = context {
                let in_use = context.entry_point.permits_in_use();
                let help = "Requests that are handled now";
                families.gauge("alldata_peer_requests_in_service", help, None, in_use)?;
                let help = "Bytes of request bodies in memory now";
                let used = context.body_quota.used();
                families.gauge("alldata_peer_buffered_body", help, Some(Unit::Bytes), used)?;
                access_log(&mut families, context.access_log.as_ref())?;
                if let Some(sink) = context.dispatcher.sink_metrics() {
                    sink_families::encode(&mut families, sink)?;
                }
            }
            Ok(())
        });
        encoded.unwrap_or(Ok(()))
    }
}

fn requests(families: &mut Families<'_>, observed: &Observed) -> fmt::Result {
    let metrics = &observed.metrics;
    let statuses: Vec<_> = observed
        .refusals
        .totals()
        .map(|(reason, total)| (reason.name, reason.status_label(), total))
        .collect();
    let stored = (
        "stored",
        "201".to_owned(),
        metrics.sum(|shard| &shard.stored),
    );
    let all: Vec<_> = [stored].into_iter().chain(statuses).collect();
    let labels: Vec<_> = all
        .iter()
        .map(|(outcome, status, _)| [("outcome", *outcome), ("status", &**status)])
        .collect();
    let values = labels.iter().zip(&all);
    let values = values.map(|(labels, (_, _, total))| (labels as Labels<'_>, *total));
    let help = "Requests by their outcome and the status code of their response";
    families.counters("alldata_peer_requests", help, values)?;
    let received = metrics.sum(|shard| &shard.body_bytes);
    let help = "Bytes of request bodies that were received";
    families.counter("alldata_peer_body", help, Some(Unit::Bytes), received)?;
    latencies(families, metrics)
}

fn latencies(families: &mut Families<'_>, metrics: &ServerMetrics) -> fmt::Result {
    let seconds = Some(Unit::Seconds);
    let request = metrics.observations(|shard| &shard.request_time);
    let help = "Time from the end of the header section of a request to its response";
    families.histogram(
        "alldata_peer_request_duration",
        help,
        seconds.clone(),
        &request,
    )?;
    let guest = metrics.observations(|shard| &shard.guest_time);
    let help = "Time of a call of the component, and of the host before it; with wasi:http it includes the sink";
    families.histogram("alldata_peer_guest_duration", help, seconds.clone(), &guest)?;
    let sink = metrics.observations(|shard| &shard.sink_time);
    let help = "Time of a put in the sink";
    families.histogram("alldata_peer_sink_duration", help, seconds, &sink)?;
    let instances = &metrics.instances;
    let help = "Instances of the component in memory";
    families.gauge("alldata_peer_instances", help, None, instances.alive())?;
    let help = "Instances of the component that were made";
    families.counter(
        "alldata_peer_instances_created",
        help,
        None,
        instances.created.get(),
    )?;
    let help = "Calls of the component that trapped";
    families.counter(
        "alldata_peer_guest_traps",
        help,
        None,
        instances.trapped.get(),
    )
}

fn connections(families: &mut Families<'_>, observed: &Observed) -> fmt::Result {
    let metrics = &observed.metrics;
    let opened = metrics.sum(|shard| &shard.connections_opened);
    let open = open_connections(metrics);
    families.gauge("alldata_peer_connections", "Open connections", None, open)?;
    let waiting = observed.connections.waiting() as u64;
    let help = "Connections that wait until another one closes (--max-connections)";
    families.gauge("alldata_peer_connections_waiting", help, None, waiting)?;
    let help = "Connections that were accepted and served";
    families.counter("alldata_peer_connections_accepted", help, None, opened)?;
    let refused = metrics.connections_refused.get();
    let help =
        "Connections that were closed at once (--max-connections-per-address, or a shutdown)";
    families.counter("alldata_peer_connections_refused", help, None, refused)?;
    let closed: [(Labels<'_>, u64); 2] = [
        (
            &[("reason", "timeout")],
            metrics.connections_timed_out.get(),
        ),
        (&[("reason", "limit")], metrics.connections_evicted.get()),
    ];
    let help = "Idle connections that were closed (--idle-timeout, --max-connections)";
    families.counters("alldata_peer_connections_closed_idle", help, closed)?;
    let invalid = metrics.proxy_headers_invalid.get();
    let help =
        "Connections of trusted proxies that were closed for their header (--proxy-protocol)";
    families.counter("alldata_peer_proxy_headers_invalid", help, None, invalid)?;
    tls(families, observed)
}

fn tls(families: &mut Families<'_>, observed: &Observed) -> fmt::Result {
    let failed = observed.metrics.handshakes_failed.get();
    let help = "TLS handshakes that failed, also for a request in plain HTTP";
    families.counter("alldata_peer_tls_handshakes_failed", help, None, failed)?;
    let expiry = observed.transport.expiry();
    let expiry = expiry.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    if let Some(expiry) = expiry {
        let help = "When the TLS certificate expires, in seconds since 1970 (--tls-cert)";
        let (name, unit) = (
            "alldata_peer_tls_certificate_expiry_time",
            Some(Unit::Seconds),
        );
        families.gauge(name, help, unit, expiry.as_secs())?;
    }
    Ok(())
}

fn access_log(families: &mut Families<'_>, log: Option<&AccessLog>) -> fmt::Result {
    let get =
        |counter: fn(&LineCounts) -> &Counter| log.map_or(0, |log| counter(log.counts()).get());
    let lines: [(Labels<'_>, u64); 3] = [
        (&[("outcome", "written")], get(|counts| &counts.written)),
        (
            &[("outcome", "queue_full")],
            get(|counts| &counts.queue_full),
        ),
        (
            &[("outcome", "write_failed")],
            get(|counts| &counts.write_failed),
        ),
    ];
    let help = "Lines of the access log (--access-log): written, or dropped";
    families.counters("alldata_peer_access_log_lines", help, lines)
}

/// The limits that numbers above are compared with.
fn limits(families: &mut Families<'_>, limits: &Limits) -> fmt::Result {
    let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
    let help = "The limit on open connections (--max-connections)";
    let max = limits.max_connections;
    families.gauge("alldata_peer_connections_limit", help, None, max)?;
    let help = "The limit on requests that are handled at a time (--max-concurrent-requests)";
    let max = limits.max_concurrent_requests;
    families.gauge("alldata_peer_requests_in_service_limit", help, None, max)?;
    let help = "The limit on bytes of request bodies in memory (--max-buffered-bytes)";
    let max = limits.max_buffered_bytes;
    families.gauge("alldata_peer_buffered_body_limit", help, bytes.clone(), max)?;
    let help = "The limit on bytes of a body (--max-body)";
    families.gauge(
        "alldata_peer_body_limit",
        help,
        bytes,
        limits.max_body_bytes,
    )?;
    let help = "The time that the sink may take for a put (--sink-timeout)";
    let max = limits.sink_timeout.as_secs_f64();
    families.gauge("alldata_peer_sink_timeout", help, seconds, max)
}
