//! A put through the entry point `protocol`: the calls of a guest, and of the sink.

use std::sync::Arc;

use alldata_peer_protocol::outcome::Outcome;
use bytes::Bytes;

use crate::component::loaded_component::EntryPoint;
use crate::component::pool::Permit;
use crate::component::protocol::ProtocolPre;
use crate::component::put_sink::protocol;
use crate::metrics::histogram::Stopwatch;
use crate::server::body::BodyReservation;
use crate::server::context::ConnectionContext;
use crate::server::response::{Response, ResponseKind, acquire_outcome, into_response};
use crate::server::spans;
use crate::sink::refusal::Refusal;
use crate::sink::{PutContext, PutError};

/// Has a guest decode the body, puts the event, and, if that failed, has a guest make the response. No
/// instance is held while the sink works. The body counts towards the quota until the end, since the event
/// is a part of it. `start` is the end of the work before it. Returns the response and the end of the work on it.
pub(crate) async fn put(
    reservation: Arc<BodyReservation>,
    body: Bytes,
    put_context: Option<Box<PutContext>>,
    start: Stopwatch,
) -> Result<(ResponseKind, Stopwatch), Outcome> {
    let context = reservation.context();
    let EntryPoint::Protocol(pool) = &context.server.entry_point else {
        unreachable!("the caller has matched it");
    };
    let metrics = &context.server.metrics;
    let pooled = pool.acquire().await;
    let mut pooled = pooled.map_err(|error| acquire_outcome(error, context.request_id()))?;
    let decoded = spans::guest(pooled.instance_mut().decode(body)).await;
    let decoded_at = metrics.shard().observe_guest(start);
    let decoded = decoded.map_err(|error| trap_outcome(&error, context))?;
    let permit = pooled.release();
    let (response, end, refusal) = match decoded {
        Err(response) => {
            let refusal = Refusal::from_response(response.status, &response.body);
            (response, decoded_at, Box::new(refusal))
        }
        Ok(put) => {
            let id = || context.request_id();
            let putting = context
                .dispatcher
                .put(put.key, put.event, put_context, id, decoded_at);
            match putting.await {
                Ok(end) => {
                    metrics.shard().count_stored();
                    return Ok((ResponseKind::Stored, end));
                }
                // Boxed, since its size would be part of every put's future.
                Err(refused) => {
                    let response = error_response(permit, refused.error, context);
                    let response = Box::pin(response).await?;
                    (response, start.restart(), refused.refusal)
                }
            }
        }
    };
    let mut response = guest_response(response, context)?;
    // Counted here, since a client that has closed its connection gets no response.
    let refusals = &context.server.refusals;
    refusals.count_early(*refusal, &mut response, || context.request_info());
    Ok((response.into(), end))
}

/// The response that a guest made, if it is valid.
pub(crate) fn guest_response(
    response: protocol::Response,
    context: &ConnectionContext,
) -> Result<Response, Outcome> {
    into_response(response, || context.request_id()).map_err(|error| {
        let request_id = context.request_id();
        tracing::error!(%request_id, %error, "the guest returned an invalid response");
        Outcome::Failed
    })
}

async fn error_response(
    permit: Permit<'_, ProtocolPre>,
    error: PutError,
    context: &ConnectionContext,
) -> Result<protocol::Response, Outcome> {
    let mut pooled = permit.acquire().await.map_err(|error| {
        acquire_outcome(error, context.request_id());
        // Without a guest the client does not learn whether the event is stored.
        Outcome::Failed
    })?;
    let response = pooled
        .instance_mut()
        .error_response(error)
        .await
        .map_err(|error| trap_outcome(&error, context))?;
    pooled.release();
    Ok(response)
}

fn trap_outcome(error: &wasmtime::Error, context: &ConnectionContext) -> Outcome {
    context.server.metrics.instances.trapped.increment();
    tracing::error!(
        request_id = %context.request_id(),
        error = format!("{error:#}"),
        "the guest trapped"
    );
    Outcome::Failed
}
