//! The requests of a server that were not answered with 201: counted by reason, and logged now and then.
//!
//! Of each reason one line is logged at once, and then one after each pause in which there were more,
//! with their number. What is left is logged when the server closes, so that the counts of all lines
//! are the number of refusals. Nothing here is touched by a put that is answered with 201.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::Response;
use tokio::runtime::Handle;
use tracing::Level;

use crate::sink::reason::{REASONS, Reason};
use crate::sink::refusal::Refusal;

/// How long after a line of one reason the next one comes at the earliest.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// What a server has refused.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog([Counter; REASONS.len()]);

/// The refusals for one reason.
#[derive(Debug, Default)]
struct Counter {
    total: AtomicU64,
    /// Those that no line has told yet.
    unreported: AtomicU64,
    /// Whether a task waits to tell them.
    is_pausing: AtomicBool,
    /// The first of those that no line has told yet.
    example: Mutex<Option<Refusal>>,
}

/// Marks an answer whose refusal was counted.
#[derive(Clone)]
struct Counted;

impl RefusalLog {
    /// Counts an answer that is no success, unless that was done: by the refusal that was attached to
    /// it, or else by its status.
    pub(crate) fn count_response<B>(self: &Arc<Self>, response: &mut Response<B>) {
        let status = response.status();
        let extensions = response.extensions_mut();
        if status.is_success() || extensions.remove::<Counted>().is_some() {
            return;
        }
        let status = status.as_u16();
        let attached: Option<Refusal> = extensions.remove();
        // A component may answer something else than its sink said.
        let attached = attached.filter(|refusal| refusal.status == status);
        self.count(attached.unwrap_or_else(|| Refusal::of_answer(status, "")));
    }

    /// Counts an answer now, so that it is not counted again where it is sent.
    pub(crate) fn count_early<B>(self: &Arc<Self>, refusal: Refusal, response: &mut Response<B>) {
        response.extensions_mut().insert(refusal);
        self.count_response(response);
        response.extensions_mut().insert(Counted);
    }

    /// Counts what hyper takes for no request, with the status that it is answered with.
    pub(crate) fn count_parse_error(self: &Arc<Self>, error: &hyper::Error, status: u16) {
        self.count(Refusal {
            detail: Some(error.to_string()),
            ..Refusal::of_answer(status, "")
        });
    }

    fn count(self: &Arc<Self>, refusal: Refusal) {
        let (reason, status) = (refusal.reason, refusal.status);
        let (key, detail) = (refusal.key.as_deref(), refusal.detail.as_deref());
        tracing::debug!(
            status,
            reason = reason.describe().name,
            key,
            detail,
            "refused"
        );
        let counter = &self.0[reason as usize];
        counter.total.fetch_add(1, Ordering::Relaxed);
        // Those who find it locked have nothing to add.
        if let Ok(mut example) = counter.example.try_lock() {
            example.get_or_insert(refusal);
        }
        counter.unreported.fetch_add(1, Ordering::SeqCst);
        if !counter.is_pausing.swap(true, Ordering::SeqCst) {
            counter.report(reason);
            let pausing = report_after_pauses(Arc::downgrade(self), reason);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(pausing)),
                // The rest is told at the end.
                Err(_no_runtime) => {}
            }
        }
    }

    /// Logs what was not logged yet, and all counts in one line, if there is any.
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
    /// Logs what was not logged yet. Returns how many that were.
    fn report(&self, reason: Reason) -> u64 {
        let example = {
            // What is behind it is set as a whole, so a poisoned lock is still good.
            let mut example = self.example.lock().unwrap_or_else(PoisonError::into_inner);
            example.take()
        };
        let count = self.unreported.swap(0, Ordering::SeqCst);
        if count == 0 {
            return 0;
        }
        let total = self.total.load(Ordering::Relaxed);
        let example = example.unwrap_or_else(|| Refusal::new(reason));
        let (key, detail) = (example.key.as_deref(), example.detail.as_deref());
        let (status, description) = (example.status, reason.describe());
        let (name, text) = (description.name, description.text);
        if description.level == Level::WARN {
            tracing::warn!(
                status,
                reason = name,
                count,
                total,
                key,
                detail,
                "refused: {text}"
            );
        } else {
            tracing::info!(
                status,
                reason = name,
                count,
                total,
                key,
                detail,
                "refused: {text}"
            );
        }
        count
    }

    /// Ends the pauses, unless something came meanwhile.
    fn end_pausing(&self) -> bool {
        self.is_pausing.store(false, Ordering::SeqCst);
        let has_more = self.unreported.load(Ordering::SeqCst) > 0;
        // Who sets it goes on; that may be another who counts.
        !has_more || self.is_pausing.swap(true, Ordering::SeqCst)
    }
}

/// Logs refusals for one reason, after each pause, until there was none in one.
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
