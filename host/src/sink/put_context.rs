//! The context of a put: the request with which it came.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::{HeaderMap, Uri};

use crate::util::identity::Identity;
use crate::util::request_id::RequestId;

/// The request of a put, for sinks that ask for it: see
/// [`put_with_context`](crate::PutSink::put_with_context). Its `Debug` output has the names of header fields and not
/// their values, which may be credentials.
#[derive(Clone)]
#[non_exhaustive]
pub struct PutContext {
    /// The id of the request, which the log and the response to a refused put have.
    pub request_id: RequestId,
    /// The address of the other end of the connection, or that of the client by the PROXY protocol; `None` for a Unix
    /// socket and for a connection that was accepted elsewhere.
    pub peer: Option<SocketAddr>,
    /// The address of the client: that of `peer`, or the one that a trusted proxy tells in a header field.
    pub client_ip: Option<IpAddr>,
    /// The name of the client, if the server has an authorizer.
    pub client: Option<Identity>,
    /// The target of the request.
    pub uri: Uri,
    /// The header fields of the request; without `Authorization` if the server has an authorizer.
    pub headers: HeaderMap,
}

impl fmt::Debug for PutContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        formatter
            .debug_struct("PutContext")
            .field("request_id", &self.request_id)
            .field("peer", &self.peer)
            .field("client_ip", &self.client_ip)
            .field("client", &self.client)
            .field("uri", &self.uri)
            .field("headers", &headers)
            .finish()
    }
}
