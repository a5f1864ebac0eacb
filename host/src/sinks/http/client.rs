//! The HTTP client of a sink.

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::sync::Weak;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::ResponseFuture;

#[cfg(feature = "tls")]
use super::tls_client::TlsClient;
use crate::sink::reopen::Reopen;
use crate::util::http_client::HttpClient;

/// The client of a sink.
#[derive(Debug)]
pub(super) enum PeerClient {
    Plain(HttpClient<Full<Bytes>>),
    #[cfg(feature = "tls")]
    Tls(Arc<TlsClient>),
}

impl PeerClient {
    pub(super) fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            #[cfg(feature = "tls")]
            Self::Tls(client) => client.request(request),
        }
    }

    /// The part that reads files again, if there are any.
    pub(super) fn files(&self) -> Option<Weak<dyn Reopen>> {
        match self {
            Self::Plain(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(client) => {
                let client = Arc::downgrade(client);
                Some(client as Weak<dyn Reopen>)
            }
        }
    }
}
