//! A request that a guest handles through `wasi:http`, from its call to its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use alldata_peer_protocol::outcome::Outcome;
use http_body_util::{BodyExt as _, Either};
use hyper::Request;
use hyper::header::{HOST, HeaderValue};
use tokio::sync::oneshot;

use crate::component::incoming_handler::OutparamResult;
use crate::component::loaded_component::EntryPoint;
use crate::component::put_sink::{CurrentPut, RefusalSlot};
use crate::server::body::{BodyReservation, LimitedBody};
use crate::server::connection_state::{ConnectionState, OpenResponse};
use crate::server::context::ConnectionContext;
use crate::server::detach_on_drop::DetachOnDrop;
use crate::server::problem_id;
use crate::server::response::{Response, acquire_outcome};
use crate::server::spans;
use crate::util::request_id::RequestId;

/// A call of a guest, as the future of its response.
///
/// The guest may still run when the response is ready, and then continues.
pub(crate) struct WasiHttpCall {
    call: DetachOnDrop<CallEnd, Arc<ConnectionState>>,
    outparam: oneshot::Receiver<OutparamResult>,
    /// The refusal of the put that the guest responds to.
    refusal: RefusalSlot,
    /// `None` as long as the guest runs.
    end: Option<CallEnd>,
    context: Arc<ConnectionContext>,
    request_id: RequestId,
}

/// How the call of a guest ended. Errors have been logged.
enum CallEnd {
    Returned,
    Trapped,
    /// The request exceeded its time-out, and the instance was dropped.
    TimedOut,
    /// No instance was acquired.
    NotStarted(Outcome),
}

impl WasiHttpCall {
    /// Calls a guest to handle `request`.
    pub(crate) fn start(
        context: &Arc<ConnectionContext>,
        mut request: Request<LimitedBody>,
        reservation: Arc<BodyReservation>,
    ) -> Self {
        ensure_authority(&mut request);
        let (sender, outparam) = oneshot::channel();
        let refusal = RefusalSlot::default();
        // Taken here: the guest may go on after its response, during the next request of the connection.
        let request_id = context.request_id();
        let call = call(
            Arc::clone(context),
            request_id,
            request,
            reservation,
            sender,
            refusal.clone(),
        );
        Self {
            call: DetachOnDrop::new(Box::pin(call), Arc::clone(&context.state)),
            outparam,
            refusal,
            end: None,
            context: Arc::clone(context),
            request_id,
        }
    }

    /// The outcome of a call that ended without a response.
    fn outcome(&mut self) -> Outcome {
        match self.end.take() {
            Some(CallEnd::TimedOut) => Outcome::Unknown,
            Some(CallEnd::Trapped) => Outcome::Failed,
            Some(CallEnd::NotStarted(outcome)) => outcome,
            Some(CallEnd::Returned) | None => {
                let request_id = self.request_id;
                tracing::error!(%request_id, "the guest returned without a response");
                Outcome::Failed
            }
        }
    }
}

/// Runs the guest to its end, and returns the instance to the pool unless it trapped. The body counts
/// towards the quota for as long, since the guest holds it.
async fn call(
    context: Arc<ConnectionContext>,
    request_id: RequestId,
    request: Request<LimitedBody>,
    _reservation: Arc<BodyReservation>,
    outparam: oneshot::Sender<OutparamResult>,
    refusal: RefusalSlot,
) -> CallEnd {
    let EntryPoint::WasiHttp(pool) = &context.server.entry_point else {
        unreachable!("the caller has matched it");
    };
    let start = context.server.metrics.stopwatch();
    let mut pooled = match pool.acquire().await {
        Ok(pooled) => pooled,
        Err(error) => {
            let outcome = acquire_outcome(error, request_id);
            return CallEnd::NotStarted(outcome);
        }
    };
    let metrics = &context.server.metrics;
    let dispatcher = &context.server.dispatcher;
    let put_context = dispatcher.needs_context().then(|| {
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        context.put_context(uri, headers)
    });
    let put = CurrentPut {
        request_id: Some(request_id),
        context: put_context,
        refusal,
    };
    let handled = pooled
        .instance_mut()
        .handle(request, context.is_tls, outparam, put);
    let handled = spans::guest(handled);
    let handled = match context.server.request_timeout {
        None => handled.await,
        Some(timeout) => match tokio::time::timeout(timeout, handled).await {
            Ok(handled) => handled,
            Err(_elapsed) => {
                tracing::error!(%request_id, ?timeout, "the guest did not respond in time");
                return CallEnd::TimedOut;
            }
        },
    };
    metrics.shard().observe_guest(start);
    match handled {
        Ok(()) => {
            pooled.release();
            CallEnd::Returned
        }
        Err(error) => {
            metrics.instances.trapped.increment();
            tracing::error!(
                %request_id,
                error = format!("{error:#}"),
                "the guest trapped"
            );
            CallEnd::Trapped
        }
    }
}

impl Future for WasiHttpCall {
    type Output = Result<Response, Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(end) = Pin::new(&mut self.call).poll(context) {
            self.end = Some(end);
        }
        let outparam = ready!(Pin::new(&mut self.outparam).poll(context));
        Poll::Ready(match outparam {
            Ok(Ok(response)) => {
                let id = || self.request_id;
                let mut response = problem_id::add_to_outgoing(response, id);
                if let Some(refusal) = self.refusal.take() {
                    response.extensions_mut().insert(*refusal);
                }
                // Dropped with the body: the connection is not idle before.
                let open = OpenResponse::new(&self.context.state);
                Ok(response.map(|body| {
                    let body = body.map_err(move |error| {
                        let _ = &open;
                        error
                    });
                    Either::Right(body.boxed_unsync())
                }))
            }
            Ok(Err(error)) => {
                let request_id = self.request_id;
                tracing::error!(%request_id, ?error, "the guest responded with an error");
                Err(Outcome::Failed)
            }
            Err(_dropped) => Err(self.outcome()),
        })
    }
}

/// Gives a request without one an authority, which WASI requires as text: HTTP/1.0 requests may lack a
/// `Host`, and its value may be any bytes.
fn ensure_authority(request: &mut Request<LimitedBody>) {
    let host = request.headers().get(HOST);
    let has_host = host.is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !has_host {
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().insert(HOST, host);
    }
}
