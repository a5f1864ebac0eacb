//! The flags of `serve` for TLS and for the authentication of clients.

use std::path::PathBuf;
use std::sync::Arc;

use alldata_peer_server_http::{PeerServerBuilder, TokenFile};
#[cfg(feature = "tls")]
use alldata_peer_server_http::{TlsConfig, TlsFiles};
use anyhow::Result;
use clap::Args;

/// The heading of these flags in the help.
const HEADING: &str = "Access";

/// TLS, and the authentication of clients.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Access {
    /// PEM file with the certificate of the server and those of its authorities: the listener speaks TLS.
    /// Read again when it changes, and on SIGHUP
    #[cfg(feature = "tls")]
    #[arg(
        long,
        env = "ALLDATA_PEER_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key of --tls-cert
    #[cfg(feature = "tls")]
    #[arg(
        long,
        env = "ALLDATA_PEER_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// PEM file with authorities: only clients with a certificate of one of them are served
    #[cfg(feature = "tls")]
    #[arg(
        long,
        env = "ALLDATA_PEER_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_client_ca: Option<PathBuf>,
    /// DNS name, or else common name, that the certificate of a client must have; may be repeated
    #[cfg(feature = "tls")]
    #[arg(
        long,
        env = "ALLDATA_PEER_TLS_CLIENT_NAME",
        value_name = "NAME",
        value_delimiter = ',',
        requires = "tls_client_ca"
    )]
    tls_client_name: Vec<String>,
    /// File with a line NAME:TOKEN for each client that may put. Requests need the field
    /// Authorization: Bearer TOKEN. Read again when it changes, and on SIGHUP
    #[arg(long, env = "ALLDATA_PEER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The tokens and certificates, which the listeners share.
#[derive(Default)]
pub(crate) struct OpenAccess {
    pub(crate) tokens: Option<Arc<TokenFile>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsConfig>,
}

impl Access {
    /// Reads the files.
    pub(crate) fn open(&self) -> Result<OpenAccess> {
        let mut access = OpenAccess::default();
        if let Some(path) = &self.token_file {
            access.tokens = Some(Arc::new(TokenFile::open(path)?));
        }
        #[cfg(feature = "tls")]
        if let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) {
            access.tls = Some(TlsConfig::from_pem_files(TlsFiles {
                certificates: certificates.clone(),
                key: key.clone(),
                client_authorities: self.tls_client_ca.clone(),
                client_names: self.tls_client_name.clone(),
            })?);
        }
        Ok(access)
    }
}

impl OpenAccess {
    /// Sets up a server.
    pub(crate) fn apply_to(&self, mut server: PeerServerBuilder) -> PeerServerBuilder {
        if let Some(tokens) = &self.tokens {
            server = server.authorizer(Arc::clone(tokens));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return server.tls(tls.clone());
        }
        server
    }
}
