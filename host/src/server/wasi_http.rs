//! A request that a guest handles through `wasi:http`, from its call to its answer.
//!
//! Never reads a body, and never looks into an answer.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alldata_peer_guest::outcome::Outcome;
use http_body_util::{BodyExt as _, Either};
use hyper::Request;
use hyper::header::{HOST, HeaderValue};
use tokio::sync::oneshot;

use crate::component::incoming_handler::{SetAnswer, WholePre};
use crate::component::pool::Loan;
use crate::component::put_sink::RefusalSlot;
use crate::server::body::{BodyShare, LimitedBody};
use crate::server::connection_state::{Activity, OpenAnswer};
use crate::server::detach_on_drop::Work;
use crate::server::response::{Response, respond};
use crate::sink::refusal::Refusal;

/// A guest at work, as the answer that it will give.
///
/// Ready once there is an answer. The guest may not be done by then, and goes on.
pub(crate) struct Exchange {
    call: Work<Ended>,
    answer: oneshot::Receiver<SetAnswer>,
    /// Why the guest may answer so.
    refusal: RefusalSlot,
    /// `None` as long as the guest runs.
    ended: Option<Ended>,
    activity: Arc<Activity>,
}

/// How a call of the guest ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// By returning.
    Returned,
    /// By a trap, which is logged.
    Trapped,
    /// By its time. Its instance is gone.
    TimedOut,
}

impl Exchange {
    /// Lets a guest handle `request`, in no more than `time` where that is given.
    pub(crate) fn begin(
        mut loan: Loan<WholePre>,
        mut request: Request<LimitedBody>,
        share: Arc<BodyShare>,
        time: Option<Duration>,
        activity: &Arc<Activity>,
    ) -> Self {
        give_authority(&mut request);
        let (sender, answer) = oneshot::channel();
        let refusal = loan.instance.refusal_slot();
        // One that an earlier request has left.
        take(&refusal);
        Self {
            call: Work::new(call(loan, request, share, time, sender), activity),
            answer,
            refusal,
            ended: None,
            activity: Arc::clone(activity),
        }
    }
}

/// Runs the guest to its end, and keeps it unless it trapped. The body counts as in flight for as
/// long, since the guest holds it.
async fn call(
    mut loan: Loan<WholePre>,
    request: Request<LimitedBody>,
    _share: Arc<BodyShare>,
    time: Option<Duration>,
    answer: oneshot::Sender<SetAnswer>,
) -> Ended {
    let handled = loan.instance.handle(request, answer);
    let handled = match time {
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
        Ok(()) => {
            loan.give_back();
            Ended::Returned
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the guest trapped");
            Ended::Trapped
        }
    }
}

impl Future for Exchange {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        if let Poll::Ready(ended) = Pin::new(&mut self.call).poll(context) {
            self.ended = Some(ended);
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(match answer {
            Ok(Ok(mut response)) => {
                if let Some(refusal) = take(&self.refusal) {
                    response.extensions_mut().insert(*refusal);
                }
                // Dropped with the body: until then the connection is not without a task.
                let open = OpenAnswer::new(&self.activity);
                response.map(|body| {
                    let body = body.map_err(move |error| {
                        let _ = &open;
                        error
                    });
                    Either::Right(body.boxed_unsync())
                })
            }
            Ok(Err(error)) => {
                tracing::error!(?error, "the guest answered with an error");
                respond(&Outcome::Failed)
            }
            Err(_dropped) => match self.ended {
                Some(Ended::TimedOut) => respond(&Outcome::Unknown),
                Some(Ended::Trapped) => respond(&Outcome::Failed),
                Some(Ended::Returned) | None => {
                    tracing::error!("the guest ended without an answer");
                    respond(&Outcome::Failed)
                }
            },
        })
    }
}

/// What is behind the lock is set as a whole, so a poisoned one is still good.
fn take(slot: &RefusalSlot) -> Option<Box<Refusal>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
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
