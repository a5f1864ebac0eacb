//! Assembles the data that the connections of a server share.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::component::loaded_component::LoadedComponent;
use crate::limits::Limits;
use crate::metrics::server_metrics::ServerMetrics;
use crate::server::access_log::AccessLog;
use crate::server::auth::Authorizer;
use crate::server::body_quota::{BodyLimits, BodyQuota};
use crate::server::body_reader::FRAMING_BUFFERS;
use crate::server::connection;
use crate::server::context::ServerContext;
use crate::server::trusted_proxies::TrustedProxies;
use crate::sink::BoxSink;
use crate::sink::dispatcher::SinkDispatcher;

/// The data that the connections share.
pub(crate) fn assemble(
    limits: Limits,
    component: LoadedComponent,
    authorizer: Option<Arc<dyn Authorizer>>,
    access_log: Option<AccessLog>,
    proxies: Option<TrustedProxies>,
    sink: BoxSink,
) -> Arc<ServerContext> {
    let max_body_bytes = limits.max_body_bytes.min(limits.max_buffered_bytes);
    // A component with a sink of its own reads the body, and then does the work of the server's sink.
    let request_timeout = limits.body_timeout.saturating_add(limits.sink_timeout);
    let request_timeout = (!component.needs_sink()).then_some(request_timeout);
    let metrics = Arc::<ServerMetrics>::default();
    let dispatcher = SinkDispatcher::new(sink, limits.sink_timeout, Arc::clone(&metrics));
    let context = Arc::new(ServerContext {
        limits,
        entry_point: component.into_pool(&dispatcher, Arc::clone(&metrics.instances)),
        dispatcher,
        body_limits: BodyLimits {
            bytes: max_body_bytes,
            framing_bytes: FRAMING_BUFFERS * connection::read_buffer_bytes(&limits) as u64,
            timeout: limits.body_timeout,
            min_rate: NonZeroU64::new(limits.min_body_rate),
        },
        body_quota: BodyQuota::new(limits.max_buffered_bytes, max_body_bytes),
        request_timeout,
        authorizer,
        refusals: Arc::default(),
        access_log,
        proxies,
        metrics,
        tasks: TaskTracker::new(),
        last_responses: Arc::default(),
    });
    context.trim_in_background();
    context
}
