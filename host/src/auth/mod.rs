//! Who may put: the decision about each request before its body is read.

mod token_file;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{HeaderMap, Method, Uri};

use crate::error::Error;

pub use token_file::{MIN_TOKEN_BYTES, TokenFile};

/// Decides who may put. [`TokenFile`] is one; see
/// [`PeerServerBuilder::authorizer`](crate::PeerServerBuilder::authorizer).
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about a request, by its header section. Called for each request, in the task of its connection, so it
    /// must neither block nor take long.
    ///
    /// # Errors
    ///
    /// When the request is refused. The response is 401.
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized>;

    /// Whether its source has changed since the last call. Called every few seconds on a thread that may block.
    fn has_changed(&self) -> bool {
        false
    }

    /// Reads its source again, because it has changed or
    /// [`PeerServer::reload`](crate::PeerServer::reload) was called. Called on a thread that may block.
    ///
    /// # Errors
    ///
    /// When the source cannot be used. Then the old one stays in effect, and the error is logged.
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

/// A request without its body.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The address of the client; `None` for a connection that was accepted elsewhere.
    pub peer: Option<SocketAddr>,
}

/// The name of a client, for the log. Its clones share it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity(Arc<str>);

/// Why a request is refused with 401.
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
        }
    }
}

impl Identity {
    /// A name, which must not be a secret.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
