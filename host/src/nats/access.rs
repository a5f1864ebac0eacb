//! Who one is to the servers, and how connections to them are encrypted: from the parameters of the URL, with the name of
//! the parameter in whatever is wrong.
//!
//! Never shows what is in a file.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::url::{Login, NatsUrl};
use crate::error::Error;
use crate::util::regular_file;

/// How long to wait for what a server says first, to tell why it did not let one in.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What begins a certificate, and a key, in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";

/// The first letters of the seed of a user, and how long it is.
const SEED_START: &str = "SU";
const SEED_BYTES: usize = 58;

/// Adds the login and the encryption that a URL asks for.
///
/// # Errors
///
/// When a file can't be read, or is not what its parameter says.
pub(super) fn add(options: ConnectOptions, url: &NatsUrl) -> Result<ConnectOptions, Error> {
    let mut options = match &url.login {
        Login::Nobody => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Login::Token(token) => options.token(token.clone()),
        Login::Credentials(path) => {
            let credentials = options.credentials(&read("credentials", path)?);
            credentials.map_err(|_| wrong("credentials", path, "it has no JWT with its seed"))?
        }
        Login::Nkey(path) => {
            let seed = read("nkey", path)?.trim().to_owned();
            if !seed.starts_with(SEED_START) || seed.len() != SEED_BYTES {
                return Err(wrong(
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
        hold_pem("tls_ca", authorities, CERTIFICATE, "certificate")?;
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = &url.tls.certificate {
        hold_pem("tls_cert", certificate, CERTIFICATE, "certificate")?;
        hold_pem("tls_key", key, KEY, "private key")?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

fn read(parameter: &'static str, path: &Path) -> Result<String, Error> {
    let text = regular_file::check(path).and_then(|()| fs::read_to_string(path));
    text.map_err(|error| wrong(parameter, path, &error.to_string()))
}

fn hold_pem(parameter: &'static str, path: &Path, begin: &str, what: &str) -> Result<(), Error> {
    match read(parameter, path)?.contains(begin) {
        true => Ok(()),
        false => Err(wrong(parameter, path, &format!("it has no {what} in PEM"))),
    }
}

fn wrong(parameter: &'static str, path: &Path, reason: &str) -> Error {
    Error::NatsFile {
        parameter,
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Why no server lets one in, and which parameters that may be mended by.
pub(super) async fn explain(error: &ConnectError, servers: &[ServerAddr], url: &NatsUrl) -> String {
    let mut text = error.to_string();
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            let _ = write!(text, "; {}", login(&url.login));
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

/// What the servers were told of who one is.
fn login(login: &Login) -> String {
    let file = |parameter, path: &PathBuf| format!("the login is {parameter}={}", path.display());
    match login {
        Login::Nobody => "the URL has no login".to_owned(),
        Login::Password { .. } => "the login is USER:PASSWORD@".to_owned(),
        Login::Token(_) => "the login is TOKEN@".to_owned(),
        Login::Credentials(path) => file("credentials", path),
        Login::Nkey(path) => file("nkey", path),
    }
}

/// What a server says first.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Greeting {
    tls_required: bool,
    tls_available: bool,
    tls_verify: bool,
}

/// Which parameters do not fit a server, as far as what it says shows.
async fn advice(error: &str, server: &ServerAddr, url: &NatsUrl) -> Option<String> {
    let (host, port) = (server.host(), server.port());
    let stream = timeout(PROBE_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .ok()?
        .ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let said = timeout(PROBE_TIMEOUT, reader.read_line(&mut line)).await;
    let greeting: Option<Greeting> = line
        .strip_prefix("INFO ")
        .and_then(|text| serde_json::from_str(text).ok());
    let tls = &url.tls;
    let Some(greeting) = greeting else {
        let is_silent = said.is_err() && !tls.first;
        return is_silent.then(|| {
            format!("{host}:{port} says nothing: it may take only connections that are encrypted at once (tls_first=true)")
        });
    };
    let is_encrypted = greeting.tls_required || greeting.tls_available;
    if !is_encrypted && (tls.required || tls.first) {
        let parameter = if tls.first { "tls_first" } else { "tls" };
        return Some(format!(
            "{parameter}=true is given, but {host}:{port} has no TLS"
        ));
    }
    if tls.first {
        return Some(format!(
            "tls_first=true is given, but {host}:{port} speaks before it encrypts: it takes tls=true"
        ));
    }
    if !greeting.tls_required && !tls.required {
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
    if greeting.tls_verify {
        return Some(match &tls.certificate {
            None => format!("{host}:{port} asks for a certificate: tls_cert and tls_key"),
            Some((path, _)) => format!(
                "{host}:{port} asks for a certificate, and may not trust tls_cert={}",
                path.display()
            ),
        });
    }
    None
}
