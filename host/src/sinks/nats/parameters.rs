//! The query parameters of the URL of a stream.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// The most replicas that JetStream supports.
const MAX_REPLICAS: usize = 5;

/// The names of the parameters, for messages.
const KNOWN: &str = "replicas, subject, credentials, nkey, tls, tls_first, tls_ca, tls_cert, tls_key and unsafe_version";

/// The TLS settings of connections. Servers may require TLS where these do not.
#[derive(Clone, Default)]
pub(super) struct Tls {
    pub(super) required: bool,
    /// TLS begins before the server has sent its `INFO`.
    pub(super) first: bool,
    /// A file with the certificates of authorities.
    pub(super) authorities: Option<PathBuf>,
    /// A certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

/// The parameters, as far as they are given.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) replicas: Option<usize>,
    pub(super) subject: Option<String>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) nkey: Option<PathBuf>,
    pub(super) tls: Tls,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) unsafe_version: bool,
}

impl Parameters {
    /// # Errors
    ///
    /// A sentence that tells which parameter is wrong. It never has a part of a password.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        // Unlike in a form, a plus sign in the name of a file is a plus sign.
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Text that can't be a name may be a part of a password.
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                return Err(format!("the parameters of a stream are {KNOWN}"));
            }
            if seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            seen.push(name);
            parameters.set(name, decode(value)?)?;
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{name} has no value"));
        }
        match name {
            "replicas" => {
                let replicas = value.parse().ok();
                let replicas = replicas.filter(|replicas| (1..=MAX_REPLICAS).contains(replicas));
                let wrong = || format!("replicas is {value:?}, but must be 1 to {MAX_REPLICAS}");
                self.replicas = Some(replicas.ok_or_else(wrong)?);
            }
            "subject" => self.subject = Some(value),
            "credentials" => self.credentials = Some(value.into()),
            "nkey" => self.nkey = Some(value.into()),
            "tls" => self.tls.required = parse_bool(name, &value)?,
            "tls_first" => self.tls.first = parse_bool(name, &value)?,
            "tls_ca" => self.tls.authorities = Some(value.into()),
            "tls_cert" => self.tls_cert = Some(value.into()),
            "tls_key" => self.tls_key = Some(value.into()),
            "unsafe_version" => self.unsafe_version = parse_bool(name, &value)?,
            _ => return Err(format!("there is no {name}, only {KNOWN}")),
        }
        Ok(())
    }
}

fn parse_bool(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("{name} is {value:?}, but must be true or false"))
}

/// Decodes percent-encoded text.
pub(super) fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "its percent-encoded text is no UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}
