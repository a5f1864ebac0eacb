//! The TLS settings of a listener, and the files that they are read from.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::SingleCertAndKey;

use crate::error::Error;
use crate::util::tls::certificate::{self, Expiry};
use crate::util::tls::client_names::ClientNames;
use crate::util::tls::pem::{PemFile, provider};
use crate::util::watched_files::WatchedFiles;

/// The only protocol over TLS (RFC 7301): the server speaks no HTTP/2.
const ALPN_PROTOCOL: &[u8] = b"http/1.1";

/// The TLS settings of a server. Its clones share one state.
///
/// Those that were read from files are read again by [`reload`](Self::reload), which a server does when the
/// files change.
#[derive(Clone)]
pub struct TlsConfig(Arc<Shared>);

struct Shared {
    /// `None` for settings that do not come from files.
    files: Option<(TlsFiles, WatchedFiles)>,
    /// Read for each connection, and replaced as a whole.
    current: RwLock<Current>,
}

/// The PEM files of a server, for [`TlsConfig::from_pem_files`].
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The certificate of the server, followed by those of its authorities, except for the root.
    pub certificates: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// The authorities of client certificates. If this is given, clients without a certificate of one of
    /// them are refused.
    pub client_authorities: Option<PathBuf>,
    /// The names of clients: a client certificate must have one of them as a DNS name or, if it has no DNS
    /// name, as its common name. Without names, every certificate of the authorities is accepted.
    pub client_names: Vec<String>,
}

/// Settings that were loaded.
#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    expiry: Option<Expiry>,
}

impl TlsConfig {
    /// Settings from PEM files: TLS 1.2 and 1.3, `http/1.1` by ALPN.
    ///
    /// # Errors
    ///
    /// When a file cannot be used, the key is not that of the certificate, or there are client names without
    /// authorities.
    pub fn from_pem_files(files: TlsFiles) -> Result<Self, Error> {
        let watched = WatchedFiles::new(files.paths());
        let current = files.load()?;
        Ok(Self(Arc::new(Shared {
            files: Some((files, watched)),
            current: RwLock::new(current),
        })))
    }

    /// Settings of your own. They should offer `http/1.1` by ALPN, and no other protocol. They are never read
    /// again; a [`ResolvesServerCert`](tokio_rustls::rustls::server::ResolvesServerCert) can replace the
    /// certificate.
    #[must_use]
    pub fn from_server_config(config: Arc<ServerConfig>) -> Self {
        let expiry = None;
        Self(Arc::new(Shared {
            files: None,
            current: RwLock::new(Current { config, expiry }),
        }))
    }

    /// Reads the files again. New connections get the new settings, and the others keep theirs. After an error all
    /// keep the old settings.
    ///
    /// # Errors
    ///
    /// As [`from_pem_files`](Self::from_pem_files).
    pub fn reload(&self) -> Result<(), Error> {
        if let Some((files, _)) = &self.0.files {
            let current = files.load()?;
            *self
                .0
                .current
                .write()
                .unwrap_or_else(PoisonError::into_inner) = current;
        }
        Ok(())
    }

    /// When the certificate of the server, or one that it is sent with, expires; `None` for settings that do
    /// not come from files.
    #[must_use]
    pub fn expiry(&self) -> Option<SystemTime> {
        self.current().expiry.map(|expiry| expiry.time)
    }

    /// The settings for a new connection.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    /// Whether clients need a certificate. Settings of your own are taken to demand it, since rustls does not
    /// tell.
    #[must_use]
    pub fn authenticates_clients(&self) -> bool {
        let files = self.0.files.as_ref();
        files.is_none_or(|(files, _)| files.client_authorities.is_some())
    }

    /// The same as [`expiry`](Self::expiry), for the log.
    pub(crate) fn expiry_for_log(&self) -> Option<Expiry> {
        self.current().expiry
    }

    /// Whether a file has changed since the last call, or since it was read first.
    pub(crate) fn has_changed(&self) -> bool {
        let files = self.0.files.as_ref();
        files.is_some_and(|(_, watched)| watched.have_changed())
    }

    fn current(&self) -> Current {
        // The value is replaced as a whole, so a poisoned lock is still good.
        let current = self.0.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsConfig")
            .field("files", &self.0.files.as_ref().map(|(files, _)| files))
            .finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.certificates.clone(), self.key.clone()];
        paths.extend(self.client_authorities.clone());
        paths
    }

    fn load(&self) -> Result<Current, Error> {
        let provider = provider();
        let certificates = PemFile {
            path: &self.certificates,
            role: "TLS certificate (--tls-cert)",
        };
        let key = PemFile {
            path: &self.key,
            role: "TLS key (--tls-key)",
        };
        let certified = certificates.certified_key(key, &provider)?;
        let expiry = certificate::expiry(&certified.cert);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| certificates.error(&error))?
            .with_client_cert_verifier(self.client_verifier()?);
        let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
        Ok(Current {
            config: Arc::new(config),
            expiry,
        })
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let Some(path) = &self.client_authorities else {
            if self.client_names.is_empty() {
                return Ok(Arc::new(NoClientAuth));
            }
            return Err(Error::Tls {
                reason: "names of clients need authorities of clients (--tls-client-ca)".to_owned(),
            });
        };
        let authorities = PemFile {
            path,
            role: "authorities of TLS clients (--tls-client-ca)",
        };
        let roots = Arc::new(authorities.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| authorities.error(&error))?;
        if self.client_names.is_empty() {
            return Ok(verifier);
        }
        Ok(Arc::new(ClientNames {
            verifier,
            names: self.client_names.clone(),
        }))
    }
}
