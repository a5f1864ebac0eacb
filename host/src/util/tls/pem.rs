//! Certificates and private keys from PEM files, for both ends of a connection.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, RootCertStore};

use crate::error::Error;
use crate::util::regular_file;

/// The largest PEM file in bytes: twenty times the file of all public authorities.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// The start of a private key that is encrypted, for which there is no flag with its password.
const ENCRYPTED_KEYS: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

/// A PEM file, and what it is given as, for its errors: "TLS certificate (--tls-cert)".
#[derive(Debug, Clone, Copy)]
pub(crate) struct PemFile<'a> {
    pub(crate) path: &'a Path,
    pub(crate) role: &'static str,
}

/// The cryptography of all TLS connections. It is named, since a program with another one besides has no default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl PemFile<'_> {
    /// The certificates of the file, in their order; one at least.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no certificate or a damaged one.
    pub(crate) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let text = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|error| self.pem_error(&error))?;
        if certificates.is_empty() {
            return Err(self.error(&"it has no certificate in PEM format"));
        }
        Ok(certificates)
    }

    /// The authorities of the file.
    ///
    /// # Errors
    ///
    /// As [`certificates`](Self::certificates), and when one of them is not a certificate.
    pub(crate) fn roots(self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.error(&error))?;
        }
        Ok(roots)
    }

    /// The first private key of the file: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC), without a password.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no such key.
    pub(crate) fn private_key(self) -> Result<PrivateKeyDer<'static>, Error> {
        let text = self.read()?;
        let is_encrypted = String::from_utf8_lossy(&text)
            .lines()
            .any(|line| ENCRYPTED_KEYS.iter().any(|start| line.contains(start)));
        match PrivateKeyDer::from_pem_slice(&text) {
            Ok(_) | Err(pem::Error::NoItemsFound) if is_encrypted => {
                Err(self.error(&"its private key is encrypted: remove the password"))
            }
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => {
                Err(self.error(&"it has no private key in PEM format"))
            }
            Err(error) => Err(self.pem_error(&error)),
        }
    }

    /// The chain of certificates in this file, with the private key in another, which may be the same.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be used, or the key is not that of the first certificate.
    pub(crate) fn certified_key(
        self,
        key_file: PemFile<'_>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, Error> {
        let certificates = self.certificates()?;
        let key = key_file.private_key()?;
        CertifiedKey::from_der(certificates, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let path = self.path.display();
                key_file.error(&format!(
                    "its private key does not match the first certificate of {path}"
                ))
            }
            rustls::Error::InvalidCertificate(_) => self.error(&error),
            error => key_file.error(&error),
        })
    }

    /// An error of this file.
    pub(crate) fn error(self, reason: &dyn std::fmt::Display) -> Error {
        Error::TlsFile {
            role: self.role,
            path: self.path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The error of a section that is not PEM, with text in the place of the bytes that the error has.
    fn pem_error(self, error: &pem::Error) -> Error {
        match error {
            pem::Error::MissingSectionEnd { end_marker } => {
                let label = String::from_utf8_lossy(end_marker);
                self.error(&format!("the line END {label} is missing"))
            }
            pem::Error::IllegalSectionStart { .. } => self.error(&"a BEGIN line is malformed"),
            error => self.error(error),
        }
    }

    fn read(self) -> Result<Vec<u8>, Error> {
        let read = || -> io::Result<Vec<u8>> {
            regular_file::check(self.path)?;
            let mut text = Vec::new();
            File::open(self.path)?
                .take(MAX_PEM_BYTES + 1)
                .read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| self.error(&error))?;
        if text.len() as u64 > MAX_PEM_BYTES {
            return Err(self.error(&format!("it has more than {MAX_PEM_BYTES} bytes")));
        }
        Ok(text)
    }
}
