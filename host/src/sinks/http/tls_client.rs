//! The client of a sink `https:`, which is made again when the files of its TLS settings change.

use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::ResponseFuture;

use super::url::Parameters;
use crate::error::Error;
use crate::sink::reopen::Reopen;
use crate::util::http_client::{CONNECT_TIMEOUT, HttpClient};
use crate::util::tls::client::{ClientFiles, client_config};
use crate::util::tls::pem::PemFile;
use crate::util::watched_files::WatchedFiles;

/// A client whose settings come from the files of a URL.
#[derive(Debug)]
pub(super) struct TlsClient {
    parameters: Parameters,
    watched: WatchedFiles,
    /// Replaced as a whole: a connection with old settings ends after its request.
    current: RwLock<HttpClient<Full<Bytes>>>,
}

impl TlsClient {
    /// # Errors
    ///
    /// When a file cannot be used.
    pub(super) fn new(parameters: Parameters) -> Result<Self, Error> {
        let Parameters { ca, cert, key, .. } = &parameters;
        let files = [ca, cert, key].into_iter().flatten().cloned();
        let watched = WatchedFiles::new(files.collect());
        let current = RwLock::new(client(&parameters)?);
        Ok(Self {
            parameters,
            watched,
            current,
        })
    }

    pub(super) fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        // The value is replaced as a whole, so a poisoned lock is still good.
        let client = self.current.read().unwrap_or_else(PoisonError::into_inner);
        client.request(request)
    }
}

impl Reopen for TlsClient {
    fn has_changed(&self) -> bool {
        self.watched.have_changed()
    }

    fn reopen(&self) -> Result<(), Error> {
        let client = client(&self.parameters)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    fn done(&self) -> &'static str {
        "TLS files of the sink read again"
    }

    fn failed(&self) -> &'static str {
        "TLS files of the sink not read again"
    }
}

/// A new client with the files of a URL.
fn client(parameters: &Parameters) -> Result<HttpClient<Full<Bytes>>, Error> {
    let file = |path, role| PemFile { path, role };
    let authorities = parameters.ca.as_deref();
    let certificate = parameters.cert.as_deref();
    let key = parameters.key.as_deref();
    let certificate = certificate.map(|path| file(path, "client certificate (cert)"));
    let key = key.map(|path| file(path, "key of the client certificate (key)"));
    let config = client_config(ClientFiles {
        authorities: authorities.map(|path| file(path, "certificates of authorities (ca)")),
        identity: certificate.zip(key),
    })?;
    Ok(HttpClient::tls(CONNECT_TIMEOUT, config))
}
