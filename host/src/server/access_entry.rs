//! The entry of a request in the access log, written when the request ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::http::request::Parts;

use crate::server::access_log::{AccessLog, Line, RequestLine};
use crate::server::body::BodyReservation;
use crate::server::context::ConnectionContext;
use crate::server::refusal_log::RequestInfo;

/// The entry of a request. It is logged when this is dropped, without a status if the request got no response.
pub(crate) struct AccessEntry<'a> {
    log: &'a AccessLog,
    context: &'a ConnectionContext,
    reservation: Arc<BodyReservation>,
    request: Option<RequestLine>,
    time: SystemTime,
    start: Instant,
    status: Option<u16>,
}

impl<'a> AccessEntry<'a> {
    /// Begins the entry of the current request; `None` without an access log.
    pub(crate) fn begin(
        context: &'a ConnectionContext,
        head: &Parts,
        reservation: &Arc<BodyReservation>,
    ) -> Option<Self> {
        let log = context.server.access_log.as_ref()?;
        Some(Self {
            log,
            context,
            reservation: Arc::clone(reservation),
            request: Some(RequestLine::new(&head.method, head.uri.path())),
            time: SystemTime::now(),
            start: Instant::now(),
            status: None,
        })
    }

    /// Ends it with the status code of the response.
    pub(crate) fn end(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for AccessEntry<'_> {
    fn drop(&mut self) {
        let info = self.context.request_info();
        self.log.push(Line {
            time: self.time,
            request_id: info.id,
            address: info.address,
            client: info.client,
            request: self.request.take(),
            status: self.status,
            body_bytes: self.reservation.bytes(),
            duration: self.start.elapsed(),
        });
    }
}

/// Logs bytes that are not a request, with the status code of the response.
pub(crate) fn log_unparsed(context: &ConnectionContext, info: &RequestInfo, status: u16) {
    let Some(log) = &context.server.access_log else {
        return;
    };
    log.push(Line {
        time: SystemTime::now(),
        request_id: info.id,
        address: info.address,
        client: None,
        request: None,
        status: Some(status),
        body_bytes: 0,
        duration: Duration::ZERO,
    });
}
