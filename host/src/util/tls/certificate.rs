//! The parts of a certificate that rustls does not tell: its names, and the end of its validity.

use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

/// When a certificate expires.
#[derive(Debug, Clone)]
pub(crate) struct Expiry {
    pub(crate) time: SystemTime,
    /// The same, for the log.
    pub(crate) text: String,
}

/// When the first of these certificates to expire does so; `None` if none of them can be parsed.
pub(crate) fn expiry(chain: &[CertificateDer<'_>]) -> Option<Expiry> {
    let ends = chain.iter().filter_map(|certificate| {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let end = certificate.validity().not_after;
        let seconds = u64::try_from(end.timestamp()).unwrap_or(0);
        Some(Expiry {
            time: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
            text: end.to_string(),
        })
    });
    ends.min_by_key(|end| end.time)
}

/// The DNS names of a certificate, or, if it has none, its common names (RFC 6125, section 6.4.4).
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let names = dns_names(&certificate);
    if !names.is_empty() {
        return names;
    }
    let names = certificate.subject().iter_common_name();
    let names = names.filter_map(|name| name.as_str().ok());
    names.map(str::to_owned).collect()
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}
