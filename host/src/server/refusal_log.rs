//! Counts the requests that had no response with 201, by reason, and logs the counts.
//!
//! The first refusal for a reason is logged at once. Further ones are logged together, with their number,
//! in one line after each pause. The rest is logged when the server closes, so the counts of all lines add
//! up to the number of refusals. A put with the response 201 touches nothing here.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

#[cfg(feature = "tls")]
use alldata_peer_protocol::outcome::Outcome;
use hyper::Response;
use tokio::runtime::Handle;
use tracing::Level;
use tracing::field::display;

#[cfg(feature = "admin")]
use crate::sink::reason::Description;
use crate::sink::reason::{REASONS, Reason};
use crate::sink::refusal::Refusal;
use crate::util::identity::Identity;
use crate::util::request_id::RequestId;

/// The pause between two lines for the same reason.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// The refusals of a server.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog([Counter; REASONS.len()]);

/// The refusals for one reason.
#[derive(Debug, Default)]
struct Counter {
    total: AtomicU64,
    /// The refusals that no line includes yet.
    unlogged: AtomicU64,
    /// Whether a task waits to log them.
    is_pausing: AtomicBool,
    /// The last refusal, and when it was.
    last: Mutex<Option<(Refusal, SystemTime)>>,
    /// The first refusal that no line includes yet.
    example: Mutex<Option<Refusal>>,
}

/// A request, as the log names it.
pub(crate) struct RequestInfo {
    pub(crate) id: RequestId,
    /// The address of the client, if it has one.
    pub(crate) address: Option<IpAddr>,
    pub(crate) client: Option<Identity>,
}

/// Marks a response whose refusal was counted.
#[derive(Clone)]
struct Counted;

impl RefusalLog {
    /// Counts a response that has a refusal attached to it, or else is not successful, unless that was done: by the
    /// refusal, or else by its status.
    pub(crate) fn count_response<B>(
        self: &Arc<Self>,
        response: &mut Response<B>,
        request: impl FnOnce() -> RequestInfo,
    ) {
        let status = response.status();
        let extensions = response.extensions_mut();
        if extensions.remove::<Counted>().is_some() {
            return;
        }
        let attached: Option<Refusal> = extensions.remove();
        // A component may respond with another status than its sink has caused.
        let attached = attached.filter(|refusal| refusal.status == status.as_u16());
        if attached.is_none() && status.is_success() {
            return;
        }
        let status = status.as_u16();
        let refusal = attached.unwrap_or_else(|| Refusal::from_response(status, ""));
        self.count_of(refusal, &request());
    }

    /// Counts a response before it is sent, so that it is not counted again then.
    pub(crate) fn count_early<B>(
        self: &Arc<Self>,
        refusal: Refusal,
        response: &mut Response<B>,
        request: impl FnOnce() -> RequestInfo,
    ) {
        response.extensions_mut().insert(refusal);
        self.count_response(response, request);
        response.extensions_mut().insert(Counted);
    }

    fn count_of(self: &Arc<Self>, refusal: Refusal, request: &RequestInfo) {
        let client = request.client.as_ref().map(Identity::name);
        self.count(refusal.of_request(request.id, request.address, client));
    }

    /// Counts bytes that hyper cannot parse as a request, with the status code of the response.
    pub(crate) fn count_parse_error(
        self: &Arc<Self>,
        error: &hyper::Error,
        request: &RequestInfo,
        status: u16,
    ) {
        let refusal = Refusal {
            detail: Some(error.to_string()),
            ..Refusal::from_response(status, "")
        };
        self.count_of(refusal, request);
    }

    /// Counts a request that is refused before hyper reads it.
    #[cfg(feature = "tls")]
    pub(crate) fn count_outcome(self: &Arc<Self>, outcome: &Outcome, request: &RequestInfo) {
        self.count_of(Refusal::from_outcome(outcome), request);
    }

    fn count(self: &Arc<Self>, refusal: Refusal) {
        let (reason, status) = (refusal.reason, refusal.status);
        let (key, detail) = (refusal.key.as_deref(), refusal.detail.as_deref());
        let client = refusal.client.as_deref();
        tracing::debug!(
            status,
            reason = reason.describe().name,
            request_id = refusal.request_id.map(display),
            address = refusal.address.map(display),
            client,
            key,
            detail,
            "refused"
        );
        let counter = &self.0[reason as usize];
        counter.total.fetch_add(1, Ordering::Relaxed);
        if cfg!(feature = "admin")
            && let Ok(mut last) = counter.last.try_lock()
        {
            *last = Some((refusal.clone(), SystemTime::now()));
        }
        // If it is locked, another refusal is the example.
        if let Ok(mut example) = counter.example.try_lock() {
            example.get_or_insert(refusal);
        }
        counter.unlogged.fetch_add(1, Ordering::SeqCst);
        if !counter.is_pausing.swap(true, Ordering::SeqCst) {
            counter.report(reason);
            let pausing = report_after_pauses(Arc::downgrade(self), reason);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(pausing)),
                // The rest is logged when the server closes.
                Err(_no_runtime) => {}
            }
        }
    }

    /// The number of refusals for each reason, in the order of [`REASONS`].
    #[cfg(feature = "admin")]
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static Description, u64)> {
        let totals = self.0.iter();
        let totals = totals.map(|counter| counter.total.load(Ordering::Relaxed));
        REASONS.iter().zip(totals)
    }

    /// The last refusal for a reason, and when it was.
    #[cfg(feature = "admin")]
    pub(crate) fn last(&self, reason: Reason) -> Option<(Refusal, SystemTime)> {
        // The value is replaced as a whole, so a poisoned lock is still good.
        let last = self.0[reason as usize].last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs the refusals that are not logged yet, and one line with all totals, if there are any.
    pub(crate) fn report_totals(&self) {
        let mut totals = Vec::new();
        let mut sum = 0;
        for (described, counter) in REASONS.iter().zip(&self.0) {
            counter.report(described.reason);
            let total = counter.total.load(Ordering::Relaxed);
            if total > 0 {
                sum += total;
                totals.push(format!("{}={total}", described.name));
            }
        }
        if sum > 0 {
            let totals = totals.join(" ");
            tracing::info!(sum, totals, "refused since the start");
        }
    }
}

impl Counter {
    /// Logs the refusals that are not logged yet. Returns their number.
    fn report(&self, reason: Reason) -> u64 {
        let example = {
            // The value is replaced as a whole, so a poisoned lock is still good.
            let mut example = self.example.lock().unwrap_or_else(PoisonError::into_inner);
            example.take()
        };
        let count = self.unlogged.swap(0, Ordering::SeqCst);
        if count == 0 {
            return 0;
        }
        let total = self.total.load(Ordering::Relaxed);
        let example = example.unwrap_or_else(|| Refusal::new(reason));
        let (key, detail) = (example.key.as_deref(), example.detail.as_deref());
        let client = example.client.as_deref();
        let (request_id, address) = (
            example.request_id.map(display),
            example.address.map(display),
        );
        let (status, description) = (example.status, reason.describe());
        let (name, text) = (description.name, description.text);
        // The level of a line has to be constant.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    status,
                    reason = name,
                    count,
                    total,
                    request_id,
                    address,
                    client,
                    key,
                    detail,
                    "refused: {text}"
                )
            };
        }
        if description.level == Level::WARN {
            log!(warn);
        } else {
            log!(info);
        }
        count
    }

    /// Ends the pauses, unless there were further refusals.
    fn end_pausing(&self) -> bool {
        self.is_pausing.store(false, Ordering::SeqCst);
        let has_more = self.unlogged.load(Ordering::SeqCst) > 0;
        // Whichever thread sets it continues, this one or one that counts.
        !has_more || self.is_pausing.swap(true, Ordering::SeqCst)
    }
}

/// Logs refusals for one reason after each pause, until a pause had none.
async fn report_after_pauses(refusals: Weak<RefusalLog>, reason: Reason) {
    loop {
        tokio::time::sleep(LINE_PAUSE).await;
        let Some(refusals) = refusals.upgrade() else {
            return;
        };
        let counter = &refusals.0[reason as usize];
        if counter.report(reason) == 0 && counter.end_pausing() {
            return;
        }
    }
}
