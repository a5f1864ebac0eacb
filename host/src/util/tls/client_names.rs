//! Restricts TLS clients to certificates with certain names.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use crate::util::tls::certificate;

/// Accepts the certificates that another verifier accepts, if they have one of these names.
#[derive(Debug)]
pub(crate) struct ClientNames {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    pub(crate) names: Vec<String>,
}

/// The certificate of a client has none of the names.
#[derive(Debug, thiserror::Error)]
#[error(
    "the client certificate is for {found:?}, which is no name of a client (--tls-client-name)"
)]
struct NameNotAllowed {
    found: Vec<String>,
}

impl ClientCertVerifier for ClientNames {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now)?;
        let found = certificate::names(end_entity);
        let is_allowed = |found: &String| {
            let mut names = self.names.iter();
            names.any(|name| name.eq_ignore_ascii_case(found))
        };
        if found.iter().any(is_allowed) {
            return Ok(verified);
        }
        let error = OtherError(Arc::new(NameNotAllowed { found }));
        Err(CertificateError::Other(error).into())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
