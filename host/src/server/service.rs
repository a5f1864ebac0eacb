//! From a request to its answer, by way of a guest.
//!
//! Answers by itself where there is no guest to answer, as with overload or a trap, and for what is
//! not the guest's to know: the limits of a body, and on the short way the method and a body that was
//! cut off. Never judges a body.

use std::sync::Arc;
use std::time::Duration;

use alldata_peer_guest::content_coding;
use alldata_peer_guest::outcome::{InvalidRequest, Outcome};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_ENCODING, EXPECT, HeaderValue};
use hyper::{Method, Request};

use crate::component::pool::{DirectGuests, Guests, Instances, NoInstance, Place};
use crate::component::protocol::{DirectPre, PutAnswer};
use crate::server::body::{BodyBudget, BodyLimits, BodyShare, BrokenLimit, LimitedBody};
use crate::server::connection_state::Activity;
use crate::server::detach_on_drop::Work;
use crate::server::framing;
use crate::server::message_scanner::Defect;
use crate::server::refusal_log::Refusals;
use crate::server::response::{Response, respond, respond_with};
use crate::server::wasi_http::Exchange;
use crate::sink::PutError;
use crate::sink::refusal::{Reason, Refusal};
use crate::util::local::Local;

/// After how many seconds a client that met an overloaded server may come back.
const OVERLOAD_RETRY_SECONDS: u32 = 1;

/// What every connection of a server shares.
pub(crate) struct Handler {
    pub(crate) guests: Guests,
    pub(crate) body_limits: BodyLimits,
    pub(crate) body_budget: Local<BodyBudget>,
    /// How long a guest may take for a request where its sink is its own, which the server does
    /// not see.
    pub(crate) request_time: Option<Duration>,
    /// What goes on on the connection.
    pub(crate) activity: Arc<Activity>,
    pub(crate) refusals: Arc<Refusals>,
}

impl Handler {
    /// The same for another connection.
    pub(crate) fn apart(&self) -> Self {
        Self {
            guests: self.guests.apart(),
            body_limits: self.body_limits,
            body_budget: self.body_budget.apart(),
            request_time: self.request_time,
            activity: Arc::new(self.activity.apart()),
            refusals: Arc::clone(&self.refusals),
        }
    }

    /// Answers one request. Dropped before its end, because the connection is, it leaves the
    /// guest running: what was read whole is put.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response {
        let may_withhold_body = request.headers().contains_key(EXPECT);
        let is_chunked = request.body().size_hint().exact().is_none();
        let ambiguity = match self.activity.defect() {
            Some(Defect::Fragment) => Some(Outcome::InvalidRequest(InvalidRequest::Target)),
            Some(Defect::Length) => Some(Outcome::InvalidRequest(InvalidRequest::Syntax)),
            Some(Defect::TooLarge) => Some(over(BrokenLimit::Bytes, self.body_limits)),
            None => framing::refuse(&request),
        };
        let share = BodyBudget::share(&self.body_budget);
        let mut response = self.answer(request, ambiguity.as_ref(), &share).await;
        // A client that expects `100 Continue` and is refused may send its body or not. Whatever
        // it sends next could be read as either, so it is told to send nothing more. Nor is
        // anything taken after a request that others may read as two, or whose end they may see
        // elsewhere, nor after a body that is not waited for any more.
        if ambiguity.is_some()
            || is_chunked && !share.has_ended()
            || share.broken_limit() == Some(BrokenLimit::Time)
            || may_withhold_body && !response.status().is_success()
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            self.activity.linger();
        }
        self.refusals.count_response(&mut response);
        response
    }

    /// Answers a request that may have been judged by its head.
    async fn answer(
        &self,
        request: Request<Incoming>,
        judged: Option<&Outcome>,
        share: &Arc<BodyShare>,
    ) -> Response {
        let limits = self.body_limits;
        let request = LimitedBody::new(request, limits, Arc::clone(share), &self.activity);
        let answer = match judged {
            Some(outcome) => Err(outcome.clone()),
            None => self.let_guest_answer(request, share).await,
        };
        match (share.broken_limit(), answer) {
            // Who read the body saw it end too early, but not why.
            (Some(limit), _) => respond_over(limit, limits),
            (None, Ok(response)) => response,
            (None, Err(outcome)) => respond(&outcome),
        }
    }

    /// What a guest answers, or how the request ended without one.
    async fn let_guest_answer(
        &self,
        request: Request<LimitedBody>,
        share: &Arc<BodyShare>,
    ) -> Result<Response, Outcome> {
        let announced = request.body().size_hint().lower();
        let is_post = *request.method() == Method::POST;
        if is_post && announced > self.body_limits.bytes {
            return Err(over(BrokenLimit::Bytes, self.body_limits));
        }
        match &self.guests {
            Guests::Direct(_) if !is_post => Err(Outcome::MethodNotAllowed),
            Guests::Direct(guests) => {
                let codings = request.headers().get_all(CONTENT_ENCODING).iter();
                if let Some(coding) =
                    content_coding::first_other(codings.map(HeaderValue::as_bytes))
                {
                    return Err(Outcome::UnsupportedContentCoding(coding));
                }
                let body = request.into_body().whole().await;
                let body = body.map_err(|_ended_early| Outcome::CutOff)?;
                let put = put(guests.clone(), body, Arc::clone(share));
                Work::new(put, &self.activity).await
            }
            Guests::Whole(instances) => {
                let loan = Instances::lend(instances).await.map_err(no_instance)?;
                let request = request.map(LimitedBody::gathered);
                let (share, time) = (Arc::clone(share), self.request_time);
                Ok(Exchange::begin(loan, request, share, time, &self.activity).await)
            }
        }
    }
}

/// Has a guest read the body, puts what that asks for, and has a guest say what is answered if that
/// failed. None waits for the sink. The body counts as in flight until all is done, since the event
/// is a part of it.
async fn put(
    guests: DirectGuests,
    body: Bytes,
    _share: Arc<BodyShare>,
) -> Result<Response, Outcome> {
    let loan = Instances::lend(&guests.instances).await;
    let mut loan = loan.map_err(no_instance)?;
    let decoded = loan.instance.decode(body).await.map_err(trapped)?;
    let place = loan.give_back();
    let (answer, refusal) = match decoded {
        Err(answer) => {
            let refusal = Refusal::of_answer(answer.status, &answer.problem);
            (answer, Some(Box::new(refusal)))
        }
        Ok(put) => match guests.sink.put(put.key, put.event).await {
            Ok(()) => (put.stored, None),
            // Its room would be part of each put's.
            Err(refused) => {
                let answer = Box::pin(explain(place, refused.error)).await?;
                (answer, Some(refused.refusal))
            }
        },
    };
    let mut response = respond_with(answer).map_err(|error| {
        tracing::error!(%error, "the guest answered what is no answer");
        Outcome::Failed
    })?;
    if let Some(refusal) = refusal {
        // Here, since a client that is gone is answered by nobody.
        guests.sink.refusals().count_early(*refusal, &mut response);
    }
    Ok(response)
}

async fn explain(place: Place<DirectPre>, error: PutError) -> Result<PutAnswer, Outcome> {
    let loan = place.lend().await;
    // Without a guest nobody says whether the event may be stored, so it may.
    let mut loan = loan.map_err(|none| {
        no_instance(none);
        Outcome::Failed
    })?;
    let answer = loan.instance.explain(error).await.map_err(trapped)?;
    loan.give_back();
    Ok(answer)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` has")]
fn trapped(error: wasmtime::Error) -> Outcome {
    tracing::error!(error = format!("{error:#}"), "the guest trapped");
    Outcome::Failed
}

/// How a request ends for which there is no guest.
fn no_instance(none: NoInstance) -> Outcome {
    match none {
        NoInstance::Busy => Outcome::Unavailable {
            retry_after_seconds: OVERLOAD_RETRY_SECONDS,
        },
        NoInstance::Broken(error) => {
            tracing::error!(error = format!("{error:#}"), "the guest can't be started");
            Outcome::Failed
        }
    }
}

/// The answer to a request whose body went over a limit.
fn respond_over(limit: BrokenLimit, limits: BodyLimits) -> Response {
    let mut response = respond(&over(limit, limits));
    if limit == BrokenLimit::Budget {
        let refusal = Refusal::new(Reason::TooManyBodyBytes);
        response.extensions_mut().insert(refusal);
    }
    response
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
