//! The TLS settings of outgoing connections.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore};

use crate::error::Error;
use crate::util::tls::pem::{PemFile, provider};

/// The PEM files of a client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClientFiles<'a> {
    /// The authorities that servers must have a certificate of; those of the system unless given.
    pub(crate) authorities: Option<PemFile<'a>>,
    /// The certificate of the client, and its private key.
    pub(crate) identity: Option<(PemFile<'a>, PemFile<'a>)>,
}

/// Settings for TLS 1.2 and 1.3, without ALPN.
///
/// # Errors
///
/// When a file cannot be used, or the authorities of the system are needed and it has none.
pub(crate) fn client_config(files: ClientFiles<'_>) -> Result<ClientConfig, Error> {
    let roots = match files.authorities {
        Some(file) => file.roots()?,
        None => system_roots()?,
    };
    let provider = provider();
    let identity = files
        .identity
        .map(|(certificates, key)| certificates.certified_key(key, &provider));
    let identity = identity.transpose()?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_error(&error))?
        .with_root_certificates(roots);
    Ok(match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    })
}

/// Whether an error is the alert of a server that refused the certificate of this client, or the lack of one.
pub(crate) fn is_refused_certificate(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // The source of an `io::Error` is not the error that it contains, but the source of that.
        let contained = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        let contained = contained.and_then(|error| error.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = contained {
            return matches!(
                alert,
                AlertDescription::AccessDenied
                    | AlertDescription::BadCertificate
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateRequired
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::UnsupportedCertificate
            );
        }
        next = error.source();
    }
    false
}

/// The authorities that this system trusts, from the files that OpenSSL would use, or those that the environment
/// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system may trust certificates that are too old for rustls.
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let reason = match found.errors.first() {
        Some(error) => format!("the certificates of this system's authorities cannot be read: {error}"),
        None => "this system has no certificates of authorities: install the package ca-certificates, or name a file with them".to_owned(),
    };
    Err(Error::Tls { reason })
}

fn tls_error(error: &dyn std::fmt::Display) -> Error {
    Error::Tls {
        reason: error.to_string(),
    }
}
