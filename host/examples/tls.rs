//! A server that speaks TLS only, by tokio-rustls.
//!
//! `cargo run --example tls -- CERTIFICATES KEY` reads two PEM files: the chain of certificates, that of
//! the server first, and its private key. It prints each event, and stops on Ctrl-C.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints its events and its errors"
)]

use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alldata_peer_server_http::PeerServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How many connections there may be at a time, in their handshake or after it: the server does not
/// count those that it is given.
const MAX_CONNECTIONS: usize = 1000;

/// How long a handshake may take: it is a few round trips. The server's time-outs begin after it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after an error of `accept`, such as too many open files, which may last.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args_os().skip(1);
    let (Some(certificates), Some(key)) = (files.next(), files.next()) else {
        return Err("usage: tls CERTIFICATES KEY".into());
    };
    let acceptor = acceptor(certificates.as_ref(), key.as_ref())?;
    let server = PeerServer::builder()
        .on_put(|key, event| async move {
            println!("{key} {event}");
            Ok(())
        })
        .build()
        .await?;
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on https://{}", listener.local_addr()?);

    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let permit = Arc::clone(&permits).acquire_owned();
        let accepting = async { (permit.await, listener.accept().await) };
        let (permit, accepted) = tokio::select! {
            accepted = accepting => accepted,
            result = &mut interrupted => break result?,
        };
        match accepted {
            Ok((stream, _address)) => {
                let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                tokio::spawn(async move {
                    serve(&server, &acceptor, stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // No further connections; those that are open get the responses to their requests.
    drop(listener);
    server.close().await;
    Ok(())
}

async fn serve(server: &PeerServer, acceptor: &TlsAcceptor, stream: TcpStream) {
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => server.serve_connection(stream).await,
        Ok(Err(error)) => eprintln!("a TLS handshake failed: {error}"),
        Err(_elapsed) => eprintln!("a TLS handshake took too long"),
    }
}

fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Box<dyn Error>> {
    let certificates = CertificateDer::pem_file_iter(certificates)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(certificates, key)?;
    // The server speaks HTTP/1.1 and not HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
