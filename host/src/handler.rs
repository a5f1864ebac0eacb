//! From a request to its answer, by way of the guest.
//!
//! Answers by itself only where there is no guest to answer, as with overload, a trap or a guest that
//! says nothing, and for what only the host knows: the limits of a body. Never reads a body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alldata_peer_guest::outcome::{Outcome, PROBLEM_MEDIA_TYPE, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::body::{BodyBudget, BodyLimits, BodyShare, BrokenLimit, LimitedBody};
use crate::guest::{GuestAnswer, Response};
use crate::instances::{Instances, Loan, NoInstance};

/// After how many seconds a client that met an overloaded server may come back.
const OVERLOAD_RETRY_SECONDS: u32 = 1;

/// What every connection of a server shares.
pub(crate) struct Handler {
    pub(crate) instances: Instances,
    pub(crate) body_limits: BodyLimits,
    pub(crate) body_budget: Arc<BodyBudget>,
    /// How long a guest may take for a request where its sink is its own, which the server does
    /// not see.
    pub(crate) request_time: Option<Duration>,
    /// Guests that outlive their connection, and bodies that are drained.
    pub(crate) tasks: TaskTracker,
}

impl Handler {
    /// Answers one request. Dropped before its end, because the connection is, it leaves the
    /// guest running: what was read whole is put.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response {
        let may_withhold_body = request.headers().contains_key(EXPECT);
        let mut response = self.answer(request).await;
        // A client that expects `100 Continue` and is refused may send its body or not. Whatever
        // it sends next could be read as either, so it is told to send nothing more.
        if may_withhold_body && !response.status().is_success() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response {
        let announced = request.body().size_hint().lower();
        let method = request.method().clone();
        let share = self.body_budget.share();
        let (limits, tasks) = (self.body_limits, self.tasks.clone());
        let mut request = LimitedBody::new(request, limits, Arc::clone(&share), tasks);
        if method == Method::POST && announced > limits.bytes {
            return respond(&over(BrokenLimit::Bytes, limits));
        }
        give_authority(&mut request);
        let loan = match self.instances.lend().await {
            Ok(loan) => loan,
            Err(NoInstance::Busy) => {
                return respond(&Outcome::Unavailable {
                    retry_after_seconds: OVERLOAD_RETRY_SECONDS,
                });
            }
            Err(NoInstance::Broken(error)) => {
                tracing::error!(error = format!("{error:#}"), "the guest can't be started");
                return respond(&Outcome::Failed);
            }
        };
        let tasks = self.tasks.clone();
        let (sender, answer) = oneshot::channel();
        let call = self.call(loan, request, Arc::clone(&share), sender);
        let exchange = Exchange {
            call: Some(Box::pin(call)),
            timed_out: false,
            answer,
            runtime: Handle::current(),
            tasks,
        };
        let response = exchange.await;
        match share.broken_limit() {
            // The guest saw the body end too early, but not why.
            Some(limit) => respond(&over(limit, limits)),
            None => response,
        }
    }

    /// Runs the guest to its end, and keeps it unless it trapped. The body counts as in flight for
    /// as long, since the guest holds it.
    async fn call(
        self: Arc<Self>,
        mut loan: Loan,
        request: Request<LimitedBody>,
        _share: Arc<BodyShare>,
        answer: oneshot::Sender<GuestAnswer>,
    ) -> Ended {
        let handled = loan.instance.handle(request, answer);
        let handled = match self.request_time {
            None => handled.await,
            Some(time) => match tokio::time::timeout(time, handled).await {
                Ok(handled) => handled,
                Err(_elapsed) => {
                    tracing::error!(?time, "the guest did not answer in time");
                    return Ended::TimedOut;
                }
            },
        };
        match handled {
            Ok(()) => self.instances.give_back(loan),
            Err(error) => tracing::error!(error = format!("{error:#}"), "the guest trapped"),
        }
        Ended::Itself
    }
}

/// How a call of the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// By returning or by a trap.
    Itself,
    /// By [`Handler::request_time`]. Its instance is gone.
    TimedOut,
}

/// A guest at work, as the answer that it will give.
///
/// Ready once there is an answer. The guest may not be done by then, or the client may go away
/// before: dropped with the call unfinished, it hands the call to the runtime.
struct Exchange {
    call: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    timed_out: bool,
    answer: oneshot::Receiver<GuestAnswer>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl Future for Exchange {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        if let Some(call) = &mut self.call
            && let Poll::Ready(ended) = call.as_mut().poll(context)
        {
            self.call = None;
            self.timed_out = ended == Ended::TimedOut;
        }
        let timed_out = self.timed_out;
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| match answer {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    tracing::error!(?error, "the guest answered with an error");
                    respond(&Outcome::Failed)
                }
                Err(_dropped) if timed_out => respond(&Outcome::Unknown),
                Err(_dropped) => {
                    tracing::error!("the guest ended without an answer");
                    respond(&Outcome::Failed)
                }
            })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.tasks.spawn_on(call, &self.runtime);
        }
    }
}

/// WASI wants an authority for every request, as text. HTTP/1.0 knows requests without one, and a
/// `Host` may have any bytes.
fn give_authority(request: &mut Request<LimitedBody>) {
    let host = request.headers().get(HOST);
    let has_host = host.is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !has_host {
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().insert(HOST, host);
    }
}

/// How a request ended whose body went over a limit.
fn over(limit: BrokenLimit, limits: BodyLimits) -> Outcome {
    match limit {
        BrokenLimit::Bytes => Outcome::TooLarge {
            limit: Some(limits.bytes),
        },
        BrokenLimit::Time => Outcome::TooSlow,
        BrokenLimit::Budget => Outcome::Unavailable {
            retry_after_seconds: OVERLOAD_RETRY_SECONDS,
        },
    }
}

/// What the guest would answer for `outcome`, where there is no guest to do it.
fn respond(outcome: &Outcome) -> Response {
    let answer = outcome.answer();
    let text = answer.problem.as_ref().map(Problem::to_json);
    let body = Full::new(Bytes::from(text.unwrap_or_default()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(answer.status).expect("outcomes have status codes of RFC 9110");
    let headers = response.headers_mut();
    if answer.problem.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    }
    if let Some((name, value)) = answer.header {
        let value = HeaderValue::from_str(&value).expect("outcomes have printable fields");
        headers.insert(HeaderName::from_static(name), value);
    }
    response
}
