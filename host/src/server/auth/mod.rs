//! Authorization: the decision about each request before its body is read.

mod token_file;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::{HeaderMap, Method, Uri};

use crate::error::Error;
use crate::util::identity::Identity;

pub use token_file::{MIN_TOKEN_BYTES, TokenFile};

/// Decides which requests are authorized. [`TokenFile`] is one; see
/// [`PeerServerBuilder::authorizer`](crate::PeerServerBuilder::authorizer).
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about a request, by its header section. Called for each request, in the task of its connection, so it
    /// must neither block nor take long.
    ///
    /// # Errors
    ///
    /// When the request is refused. The response is 401.
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized>;

    /// Whether its source has changed since the last call. Called every 2 s on a thread that may block. After a change,
    /// [`reload`](Self::reload) is called once this has returned `false`, since a file may be written in parts, and
    /// after 10 s of changes anyway.
    fn has_changed(&self) -> bool {
        false
    }

    /// Reads its source again, because it has changed or
    /// [`PeerServer::reload`](crate::PeerServer::reload) was called. Called on a thread that may block.
    ///
    /// # Errors
    ///
    /// When the source cannot be used. Then the old one stays in effect, the error is logged, and this is called again
    /// every 2 s until it succeeds. A panic counts as an error.
    fn reload(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl<A: Authorizer + ?Sized> Authorizer for Arc<A> {
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        A::authorize(self, request)
    }

    fn has_changed(&self) -> bool {
        A::has_changed(self)
    }

    fn reload(&self) -> Result<(), Error> {
        A::reload(self)
    }
}

/// A request without its body. Its `Debug` output has the names of header fields and not their values, which may be
/// credentials.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The address of the other end of the connection, or that of the client by the PROXY protocol; `None` for a Unix
    /// socket and for a connection that was accepted elsewhere.
    pub peer: Option<SocketAddr>,
    /// The address of the client: that of `peer`, or the one that a trusted proxy tells in a header field.
    pub client_ip: Option<IpAddr>,
}

/// The reason why a request is refused with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// It has no credentials of a kind that is known.
    #[error("the request has no credentials")]
    NoCredentials,
    /// Its credentials are malformed or unknown.
    #[error("the credentials of the request are not valid")]
    InvalidCredentials,
}

impl<'a> RequestHead<'a> {
    /// The parts of a request.
    #[must_use]
    pub fn new<B>(request: &'a hyper::Request<B>, peer: Option<SocketAddr>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            peer,
            client_ip: peer.map(|peer| peer.ip().to_canonical()),
        }
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        formatter
            .debug_struct("RequestHead")
            .field("method", self.method)
            .field("uri", self.uri)
            .field("headers", &headers)
            .field("peer", &self.peer)
            .field("client_ip", &self.client_ip)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::header::AUTHORIZATION;

    use super::RequestHead;

    #[test]
    fn debug_output_of_request_has_no_values_of_fields() {
        let request = Request::get("/path").header(AUTHORIZATION, "Bearer secret");
        let request = request.body(()).expect("is valid");
        let debug = format!("{:?}", RequestHead::new(&request, None));
        assert!(debug.contains("authorization") && debug.contains("/path"));
        assert!(!debug.contains("secret"), "{debug}");
    }
}
