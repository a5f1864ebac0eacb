//! Credentials and TLS of connections, by the parameters of the URL. Errors name the parameter and the file.
//!
//! The contents of a file are never printed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::credentials::Credentials;
use super::url::NatsUrl;
use crate::error::Error;
use crate::util::regular_file;

/// How long to wait for the `INFO` of a server, to find out why connecting failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The start of a certificate, and of a key, in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";

/// The first letters of the seed of a user, and its length.
const SEED_START: &str = "SU";
const SEED_BYTES: usize = 58;

/// Adds the credentials and the TLS settings of a URL.
///
/// # Errors
///
/// When a file can't be read, or is not what its parameter says.
pub(super) fn apply(options: ConnectOptions, url: &NatsUrl) -> Result<ConnectOptions, Error> {
    let mut options = match &url.credentials {
        Credentials::None => options,
        Credentials::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Credentials::Token(token) => options.token(token.clone()),
        Credentials::JwtFile(path) => {
            let credentials = options.credentials(&read("credentials", path)?);
            credentials
                .map_err(|_| file_error("credentials", path, "it has no JWT with its seed"))?
        }
        Credentials::NkeyFile(path) => {
            let seed = read("nkey", path)?.trim().to_owned();
            if !seed.starts_with(SEED_START) || seed.len() != SEED_BYTES {
                return Err(file_error(
                    "nkey",
                    path,
                    "it has no seed of a user, which begins with SU",
                ));
            }
            options.nkey(seed)
        }
    };
    options = options.require_tls(url.tls.required || url.tls.first);
    if url.tls.first {
        options = options.tls_first();
    }
    if let Some(authorities) = &url.tls.authorities {
        check_pem("tls_ca", authorities, CERTIFICATE, "certificate")?;
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = &url.tls.certificate {
        check_pem("tls_cert", certificate, CERTIFICATE, "certificate")?;
        check_pem("tls_key", key, KEY, "private key")?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

fn read(parameter: &'static str, path: &Path) -> Result<String, Error> {
    let text = regular_file::check(path).and_then(|()| fs::read_to_string(path));
    text.map_err(|error| file_error(parameter, path, &error.to_string()))
}

fn check_pem(parameter: &'static str, path: &Path, begin: &str, what: &str) -> Result<(), Error> {
    match read(parameter, path)?.contains(begin) {
        true => Ok(()),
        false => Err(file_error(
            parameter,
            path,
            &format!("it has no {what} in PEM"),
        )),
    }
}

fn file_error(parameter: &'static str, path: &Path, reason: &str) -> Error {
    Error::NatsFile {
        parameter,
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The reason why connecting failed, and the parameters that may have to change.
pub(super) async fn describe_failure(
    error: &ConnectError,
    servers: &[ServerAddr],
    url: &NatsUrl,
) -> String {
    let mut text = error.to_string();
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            let _ = write!(text, "; {}", describe(&url.credentials));
        }
        ConnectErrorKind::Io | ConnectErrorKind::TimedOut | ConnectErrorKind::Tls => {
            for server in servers {
                if let Some(advice) = advice(&text, server, url).await {
                    let _ = write!(text, "; {advice}");
                    break;
                }
            }
        }
        _ => {}
    }
    text
}

/// How the URL gives the credentials.
fn describe(credentials: &Credentials) -> String {
    let file =
        |parameter, path: &PathBuf| format!("the credentials are {parameter}={}", path.display());
    match credentials {
        Credentials::None => "the URL has no credentials".to_owned(),
        Credentials::Password { .. } => "the credentials are USER:PASSWORD@".to_owned(),
        Credentials::Token(_) => "the credentials are TOKEN@".to_owned(),
        Credentials::JwtFile(path) => file("credentials", path),
        Credentials::NkeyFile(path) => file("nkey", path),
    }
}

/// The part of the first message of a server, `INFO`, that tells what it requires.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerInfo {
    tls_required: bool,
    tls_available: bool,
    tls_verify: bool,
}

/// The parameters that do not fit a server, as far as its `INFO` tells.
async fn advice(error: &str, server: &ServerAddr, url: &NatsUrl) -> Option<String> {
    let (host, port) = (server.host(), server.port());
    let stream = timeout(PROBE_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .ok()?
        .ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let said = timeout(PROBE_TIMEOUT, reader.read_line(&mut line)).await;
    let info: Option<ServerInfo> = line
        .strip_prefix("INFO ")
        .and_then(|text| serde_json::from_str(text).ok());
    let tls = &url.tls;
    let Some(info) = info else {
        let is_silent = said.is_err() && !tls.first;
        return is_silent.then(|| {
            format!("{host}:{port} sends no INFO: it may require TLS from the first byte (tls_first=true)")
        });
    };
    let is_encrypted = info.tls_required || info.tls_available;
    if !is_encrypted && (tls.required || tls.first) {
        let parameter = if tls.first { "tls_first" } else { "tls" };
        return Some(format!(
            "{parameter}=true is given, but {host}:{port} has no TLS"
        ));
    }
    if tls.first {
        return Some(format!(
            "tls_first=true is given, but {host}:{port} sends its INFO before TLS: use tls=true"
        ));
    }
    if !info.tls_required && !tls.required {
        return None;
    }
    if error.contains("certificate") && error.contains("invalid peer") {
        let authorities = tls.authorities.as_ref();
        return Some(match authorities {
            Some(path) => format!(
                "the certificate of {host}:{port} has to be for that host, and signed by one of tls_ca={}",
                path.display()
            ),
            None => format!(
                "the certificate of {host}:{port} has to be for that host, and signed by an authority of the system, or of tls_ca"
            ),
        });
    }
    if info.tls_verify {
        return Some(match &tls.certificate {
            None => format!("{host}:{port} requires a client certificate: tls_cert and tls_key"),
            Some((path, _)) => format!(
                "{host}:{port} requires a client certificate, and may not trust tls_cert={}",
                path.display()
            ),
        });
    }
    None
}
