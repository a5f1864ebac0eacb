//! Certificates for tests: an authority, and what it issues, as PEM files in a directory of their own.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// An authority that issues certificates, and the directory of their files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Issued {
    /// The paths as arguments.
    pub(crate) fn paths(&self) -> [String; 2] {
        [&self.certificate, &self.key].map(|path| path.display().to_string())
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("makes a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("makes a certificate");
        let directory = tempfile::tempdir().expect("makes a directory");
        let this = Self { issuer, directory };
        std::fs::write(this.file("ca.pem"), this.issuer.pem()).expect("writes");
        this
    }

    /// The file of its own certificate.
    pub(crate) fn path(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file in its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Issues a certificate for a DNS name, into the files `NAME.pem` and `NAME.key`.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_with(name, |params| {
            let name = name.try_into().expect("is a name");
            params.subject_alt_names = vec![rcgen::SanType::DnsName(name)];
        })
    }

    /// Issues a certificate that has expired.
    pub(crate) fn issue_expired(&self, name: &str) -> Issued {
        self.issue_with(name, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    /// Issues a certificate with other parameters. Its common name is that of its files.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("makes a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let issued = Issued {
            certificate: self.file(&format!("{name}.pem")),
            key: self.file(&format!("{name}.key")),
        };
        std::fs::write(&issued.certificate, certificate.pem()).expect("writes");
        std::fs::write(&issued.key, key.serialize_pem()).expect("writes");
        issued
    }
}
