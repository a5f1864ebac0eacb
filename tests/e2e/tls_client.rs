//! A client that speaks TLS, for `Connection`, and a peer for it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::certificates::{Authority, Issued};
use crate::support::{ClientStream, Connection, Peer, PeerBuilder};

/// The name of the certificates of servers.
pub(crate) const SERVER_NAME: &str = "localhost";

/// The settings of a client.
pub(crate) struct TlsClient(Arc<ClientConfig>);

/// A TLS connection of a client. Without `close_notify`, its end is an error.
pub(crate) struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

/// A peer in the making that speaks TLS, with a certificate of this authority.
pub(crate) fn tls_peer(authority: &Authority) -> PeerBuilder {
    let [certificate, key] = authority.issue(SERVER_NAME).paths();
    Peer::builder().arguments(&["--tls-cert", &certificate, "--tls-key", &key])
}

impl TlsClient {
    /// A client that trusts this authority, and has no certificate.
    pub(crate) fn new(authority: &Authority) -> Self {
        let config = ClientConfig::builder().with_root_certificates(roots(authority));
        Self::of(config.with_no_client_auth())
    }

    /// A client with a certificate.
    pub(crate) fn with_certificate(authority: &Authority, issued: &Issued) -> Self {
        let config = ClientConfig::builder().with_root_certificates(roots(authority));
        let certificate = CertificateDer::from_pem_file(&issued.certificate).expect("reads");
        let key = PrivateKeyDer::from_pem_file(&issued.key).expect("reads");
        let config = config.with_client_auth_cert(vec![certificate], key);
        Self::of(config.expect("is a pair"))
    }

    /// A client of one version of TLS.
    pub(crate) fn of_version(
        authority: &Authority,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let config = ClientConfig::builder_with_protocol_versions(&[version]);
        let config = config.with_root_certificates(roots(authority));
        Self::of(config.with_no_client_auth())
    }

    fn of(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// A connection to a server that accepts it.
    pub(crate) fn connect(&self, address: SocketAddr) -> Connection {
        Connection::on(self.stream(address).expect("shakes hands"))
    }

    /// The error of a connection that is refused, in its handshake or, with TLS 1.3, after it.
    #[track_caller]
    pub(crate) fn refusal(&self, address: SocketAddr) -> String {
        let refused = self
            .stream(address)
            .and_then(|mut stream| stream.read(&mut [0]));
        let error = refused.expect_err("is refused");
        error.to_string()
    }

    pub(crate) fn stream(&self, address: SocketAddr) -> io::Result<TlsStream> {
        self.stream_after(address, b"")
    }

    /// A stream on which these bytes were sent before the handshake.
    pub(crate) fn stream_after(&self, address: SocketAddr, before: &[u8]) -> io::Result<TlsStream> {
        let mut socket = Connection::try_socket(address).expect("connects");
        socket.write_all(before)?;
        let name = ServerName::try_from(SERVER_NAME).expect("is a name");
        let mut connection =
            ClientConnection::new(Arc::clone(&self.0), name).expect("is a connection");
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(TlsStream(StreamOwned::new(connection, socket)))
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).expect("is a certificate");
    roots
}

impl TlsStream {
    pub(crate) fn connection(&self) -> &ClientConnection {
        &self.0.conn
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl ClientStream for TlsStream {
    fn finish(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown(Shutdown::Write)
    }

    fn set_read_timeout(&mut self, time: Duration) -> io::Result<()> {
        self.0.sock.set_read_timeout(Some(time))
    }
}
