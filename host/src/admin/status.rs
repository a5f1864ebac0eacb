//! `/status.json`: the data of the page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::metrics::histogram::Observations;
use crate::metrics::recent_events::RecentEvent;
use crate::metrics::server_metrics::ServerMetrics;
use crate::metrics::sink_metrics::SinkMetrics;
use crate::server::{Monitor, Observed, ServerContext};

/// The state of a server at one time. Totals are since its start; the page computes rates from two of them.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    time_ms: u64,
    ready: bool,
    reasons: Vec<String>,
    /// Missing before the server has started.
    #[serde(flatten)]
    server: Option<ServerStatus>,
}

#[derive(Serialize)]
struct ServerStatus {
    outcomes: Vec<OutcomeTotal>,
    latency: Latencies,
    body_bytes: u64,
    connections: u64,
    limits: Vec<LimitUse>,
    problems: Vec<Problem>,
    events: Vec<Event>,
}

#[derive(Serialize)]
struct OutcomeTotal {
    outcome: &'static str,
    status: String,
    total: u64,
}

#[derive(Serialize)]
struct Latencies {
    request: Buckets,
    guest: Buckets,
    sink: Buckets,
}

/// A histogram in seconds. There is one count more than bounds, of those above the last bound.
#[derive(Serialize)]
struct Buckets {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Serialize)]
struct LimitUse {
    name: &'static str,
    flag: &'static str,
    unit: &'static str,
    used: u64,
    limit: u64,
}

/// The refusals for one reason, with the last of them.
#[derive(Serialize)]
struct Problem {
    reason: &'static str,
    text: &'static str,
    count: u64,
    time_ms: Option<u64>,
    key: Option<String>,
    detail: Option<String>,
}

#[derive(Serialize)]
struct Event {
    key: String,
    bytes: usize,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
}

impl Status {
    /// The status now. Events are recorded for a while from now on, with their text if `shows_events`.
    pub(super) fn of(monitor: &Monitor, shows_events: bool) -> Self {
        let health = monitor.health();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time_ms: milliseconds(SystemTime::now()),
            ready: health.is_ready(),
            reasons: health.reasons.iter().map(ToString::to_string).collect(),
            server: monitor
                .observe(|observed, context| ServerStatus::of(observed, context, shows_events)),
        }
    }
}

impl ServerStatus {
    fn of(observed: &Observed, context: Option<&ServerContext>, shows_events: bool) -> Self {
        let metrics = &observed.metrics;
        let connections = open_connections(metrics);
        let events = metrics.recent_events.watch(shows_events);
        Self {
            outcomes: outcomes(observed),
            latency: Latencies {
                request: metrics.observations(|shard| &shard.request_time).into(),
                guest: metrics.observations(|shard| &shard.guest_time).into(),
                sink: metrics.observations(|shard| &shard.sink_time).into(),
            },
            body_bytes: metrics.sum(|shard| &shard.body_bytes),
            connections,
            limits: limits(observed, context, connections),
            problems: problems(observed),
            events: events.into_iter().map(Event::from).collect(),
        }
    }
}

/// How many connections are open.
pub(super) fn open_connections(metrics: &ServerMetrics) -> u64 {
    // Read in this order: a connection that ends meanwhile must not be missing from the second number.
    let ended = metrics.sum(|shard| &shard.connections_ended);
    let opened = metrics.sum(|shard| &shard.connections_opened);
    opened.saturating_sub(ended)
}

fn outcomes(observed: &Observed) -> Vec<OutcomeTotal> {
    let stored = OutcomeTotal {
        outcome: "stored",
        status: "201".to_owned(),
        total: observed.metrics.sum(|shard| &shard.stored),
    };
    let refused = observed.refusals.totals();
    let refused = refused.map(|(reason, total)| OutcomeTotal {
        outcome: reason.name,
        status: reason.status_label(),
        total,
    });
    [stored].into_iter().chain(refused).collect()
}

fn limits(observed: &Observed, context: Option<&ServerContext>, connections: u64) -> Vec<LimitUse> {
    let limits = &observed.limits;
    let mut uses = vec![LimitUse {
        name: "Connections",
        flag: "--max-connections",
        unit: "",
        used: connections,
        limit: limits.max_connections.into(),
    }];
    let Some(context) = context else {
        return uses;
    };
    uses.push(LimitUse {
        name: "Requests in service",
        flag: "--max-concurrent-requests",
        unit: "",
        used: context.entry_point.permits_in_use().into(),
        limit: limits.max_concurrent_requests.into(),
    });
    uses.push(LimitUse {
        name: "Bodies in memory",
        flag: "--max-buffered-bytes",
        unit: "bytes",
        used: context.body_quota.used(),
        limit: limits.max_buffered_bytes,
    });
    if let Some(sink) = context.dispatcher.sink_metrics() {
        sink_limits(sink, &mut uses);
    }
    uses
}

fn sink_limits(sink: &SinkMetrics, uses: &mut Vec<LimitUse>) {
    if let Some(queue) = &sink.queue {
        let (puts, bytes) = queue.depth();
        uses.push(LimitUse {
            name: "Queue",
            flag: "--max-queue",
            unit: "",
            used: puts as u64,
            limit: queue.max_puts as u64,
        });
        uses.push(LimitUse {
            name: "Queue",
            flag: "--max-queue-bytes",
            unit: "bytes",
            used: bytes as u64,
            limit: queue.max_bytes as u64,
        });
    }
    if let Some(store) = &sink.store {
        uses.push(LimitUse {
            name: "WAL",
            flag: "--max-wal",
            unit: "bytes",
            used: store.wal_bytes.get(),
            limit: store.max_wal_bytes,
        });
    }
}

/// The last first.
fn problems(observed: &Observed) -> Vec<Problem> {
    let totals = observed.refusals.totals();
    let refused = totals.filter(|(_, total)| *total > 0);
    let problems = refused.map(|(reason, count)| {
        let last = observed.refusals.last(reason.reason);
        let (refusal, time) =
            last.map_or((None, None), |(refusal, time)| (Some(refusal), Some(time)));
        Problem {
            reason: reason.name,
            text: reason.text,
            count,
            time_ms: time.map(milliseconds),
            key: refusal.as_ref().and_then(|refusal| refusal.key.clone()),
            detail: refusal.and_then(|refusal| refusal.detail),
        }
    });
    let mut problems: Vec<Problem> = problems.collect();
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.time_ms));
    problems
}

impl From<Observations> for Buckets {
    fn from(observations: Observations) -> Self {
        let finite = observations.buckets.iter().map(|(bound, _)| *bound);
        Self {
            bounds: finite.filter(|bound| bound.is_finite()).collect(),
            counts: observations
                .buckets
                .iter()
                .map(|(_, count)| *count)
                .collect(),
        }
    }
}

impl From<RecentEvent> for Event {
    fn from(recent: RecentEvent) -> Self {
        Self {
            key: recent.key,
            bytes: recent.bytes,
            time_ms: milliseconds(recent.time),
            event: recent.event,
        }
    }
}

/// Since 1970 UTC; a clock before that counts as then.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
