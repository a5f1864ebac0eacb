//! The URL of a stream: which servers, which stream, and how to be let in.
//!
//! Never shows a password or a token: they are left out of what is printed of it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

use super::subject::Prefix;
use crate::error::Error;
use crate::util::redaction::without_login;

/// How many servers keep each event unless the URL says otherwise: of three, one may be lost.
pub const DEFAULT_REPLICAS: usize = 3;

/// The most replicas that JetStream makes.
const MAX_REPLICAS: usize = 5;

/// What the subjects of all events begin with unless the URL says otherwise.
pub const DEFAULT_SUBJECT: &str = "alldata";

/// The longest name of a stream in bytes, which is the longest name of a file.
const MAX_STREAM_BYTES: usize = 255;

/// What the URLs look like, for messages.
const FORM: &str = "nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT],…/STREAM?replicas=3&subject=alldata";

/// The names of the parameters.
const KNOWN: &str = "replicas, subject, credentials, nkey, tls, tls_first, tls_ca, tls_cert, tls_key and unsafe_version";

/// Where the events are: `nats://HOST:PORT,HOST:PORT,…/STREAM`.
///
/// Before the hosts may stand `USER:PASSWORD@` or `TOKEN@`. Behind a question mark may follow, each
/// once and percent-encoded where needed: `replicas` (1 to 5), `subject`, `credentials=FILE` (a JWT
/// with its seed), `nkey=FILE` (a seed), `tls=true`, `tls_first=true` (before the server speaks),
/// `tls_ca=FILE`, `tls_cert=FILE` with `tls_key=FILE`, all PEM, and `unsafe_version=true` (puts also into
/// servers that are known to lose events).
///
/// Printed, it has neither user nor password nor token.
#[derive(Clone)]
pub struct NatsUrl {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) stream: String,
    pub(super) replicas: usize,
    pub(super) prefix: Prefix,
    pub(super) login: Login,
    pub(super) tls: Tls,
    /// Whether events are put also into servers of versions that lose some.
    pub(super) unsafe_version: bool,
}

/// Who one is to the servers.
#[derive(Clone, Default)]
pub(super) enum Login {
    #[default]
    Nobody,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A file with a JWT and the seed of its key.
    Credentials(PathBuf),
    /// A file with the seed of a key.
    Nkey(PathBuf),
}

/// How connections are encrypted. Servers may ask for it also where this does not.
#[derive(Clone, Default)]
pub(super) struct Tls {
    pub(super) required: bool,
    pub(super) first: bool,
    pub(super) authorities: Option<PathBuf>,
    /// A certificate and its key.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
}

impl NatsUrl {
    /// Whether a URL of a sink or a store is of this kind, right or wrong.
    #[must_use]
    pub fn is_one(url: &str) -> bool {
        url.starts_with("nats:")
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    replicas: Option<usize>,
    subject: Option<String>,
    credentials: Option<PathBuf>,
    nkey: Option<PathBuf>,
    tls: Tls,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    unsafe_version: bool,
}

impl FromStr for NatsUrl {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        parse(url).map_err(|reason| Error::SinkUrl {
            url: without_login(url),
            reason,
        })
    }
}

fn parse(url: &str) -> Result<NatsUrl, String> {
    let form = || format!("a stream is {FORM}");
    let rest = url.strip_prefix("nats://").ok_or_else(form)?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // First, so that no part of a password is taken for a host and said to be none.
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, place),
    };
    let (hosts, stream) = place.split_once('/').ok_or_else(form)?;
    let servers: Result<Vec<_>, _> = hosts.split(',').map(parse_server).collect();
    let stream = parse_stream(&decode(stream)?)?;
    let parameters = Parameters::parse(query)?;
    let login = parse_login(login, parameters.credentials, parameters.nkey)?;
    let certificate = match (parameters.tls_cert, parameters.tls_key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("tls_cert and tls_key go together".to_owned()),
    };
    let subject = parameters.subject.as_deref().unwrap_or(DEFAULT_SUBJECT);
    Ok(NatsUrl {
        servers: servers?,
        stream,
        replicas: parameters.replicas.unwrap_or(DEFAULT_REPLICAS),
        prefix: Prefix::new(subject)?,
        login,
        tls: Tls {
            certificate,
            ..parameters.tls
        },
        unsafe_version: parameters.unsafe_version,
    })
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parameters = Self::default();
        let mut seen = Vec::new();
        // Not as in a form: a plus sign in the name of a file is one.
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // What can be no name may be a part of a password.
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            {
                return Err(format!("behind the question mark stands {KNOWN}"));
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

fn parse_server(host: &str) -> Result<ServerAddr, String> {
    // A path, a query or a login of its own would be passed over.
    let is_plain = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    let server = is_plain.then(|| host.parse::<ServerAddr>().ok()).flatten();
    let server = server.filter(|server| !server.host().is_empty());
    server.ok_or_else(|| "what stands for its hosts is no HOST:PORT,HOST:PORT".to_owned())
}

fn parse_stream(name: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte.is_ascii_graphic() && !b".*<>&/\\@\"".contains(&byte);
    match name {
        "" => Err("the name of the stream is missing".to_owned()),
        _ if name.len() > MAX_STREAM_BYTES => Err(format!(
            "the name of the stream has more than {MAX_STREAM_BYTES} bytes"
        )),
        _ if name.bytes().all(is_fit) => Ok(name.to_owned()),
        _ => Err(format!(
            "{name:?} is no name of a stream: it may not have white space, nor . * < > & / \\ @ \""
        )),
    }
}

fn parse_login(
    login: Option<&str>,
    credentials: Option<PathBuf>,
    nkey: Option<PathBuf>,
) -> Result<Login, String> {
    match (login, credentials, nkey) {
        (None, None, None) => Ok(Login::Nobody),
        (Some(login), None, None) => match login.split_once(':') {
            Some((user, password)) => Ok(Login::Password {
                user: decode(user)?,
                password: decode(password)?,
            }),
            None => Ok(Login::Token(decode(login)?)),
        },
        (None, Some(file), None) => Ok(Login::Credentials(file)),
        (None, None, Some(file)) => Ok(Login::Nkey(file)),
        _ => Err("give one of USER:PASSWORD@, TOKEN@, credentials and nkey".to_owned()),
    }
}

fn parse_bool(name: &str, value: &str) -> Result<bool, String> {
    value
        .parse()
        .map_err(|_| format!("{name} is {value:?}, but must be true or false"))
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "what is percent-encoded in it is no UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nats://")?;
        for (number, server) in self.servers.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let (open, close) = match server.host().contains(':') {
                true => ("[", "]"),
                false => ("", ""),
            };
            let (host, port) = (server.host(), server.port());
            write!(formatter, "{comma}{open}{host}{close}:{port}")?;
        }
        write!(formatter, "/{}", self.stream)
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("NatsUrl")
            .field(&self.to_string())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Login, NatsUrl};

    #[track_caller]
    fn parse(url: &str) -> NatsUrl {
        url.parse().expect("is one")
    }

    #[test]
    fn most_is_as_usual() {
        let url = parse("nats://a,b:1,[::1]:2/events");
        assert_eq!(url.to_string(), "nats://a:4222,b:1,[::1]:2/events");
        assert_eq!((url.stream(), url.replicas), ("events", 3));
        assert_eq!(url.prefix.all(), "alldata.*");
        assert!(matches!(url.login, Login::Nobody));
        assert!(!url.tls.required && !url.tls.first && !url.unsafe_version);
        assert!(parse("nats://a/e?unsafe_version=true").unsafe_version);
    }

    #[test]
    fn whatever_may_be_said_is_understood() {
        let url = parse(
            "nats://a/e?replicas=5&subject=x.y&tls=true&tls_first=true&tls_ca=%2Fca&tls_cert=c+d&tls_key=k",
        );
        assert_eq!((url.replicas, url.prefix.all()), (5, "x.y.*".to_owned()));
        assert!(url.tls.required && url.tls.first);
        assert_eq!(url.tls.authorities.as_deref(), Some(Path::new("/ca")));
        let (certificate, key) = url.tls.certificate.expect("is given");
        assert_eq!((certificate, key), ("c+d".into(), "k".into()));
        let file = |url: &str| match parse(url).login {
            Login::Credentials(path) | Login::Nkey(path) => path,
            _ => panic!("is a file"),
        };
        assert_eq!(file("nats://a/e?credentials=f").as_os_str(), "f");
        assert_eq!(file("nats://a/e?nkey=a%20@b").as_os_str(), "a @b");
    }

    #[test]
    fn who_one_is_stands_before_the_hosts() {
        for (login, expected) in [("u%40:p%3a", ("u@", "p:")), ("u:p/:w", ("u", "p/:w"))] {
            let url = parse(&format!("nats://{login}@a,b/e"));
            assert_eq!(url.to_string(), "nats://a:4222,b:4222/e");
            match &url.login {
                Login::Password { user, password } => {
                    assert_eq!((user.as_str(), password.as_str()), expected);
                }
                _ => panic!("is a password"),
            }
        }
        let url = parse("nats://secret@a/e");
        assert!(matches!(&url.login, Login::Token(token) if token == "secret"));
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_is_said_without_what_lets_one_in() {
        for (url, reason) in [
            ("nats:", "a stream is nats://"),
            ("nats://u:secret@a", "a stream is nats://"),
            ("nats://u:secret@a/", "the name of the stream is missing"),
            ("nats://u:secret@/e", "no HOST:PORT"),
            ("nats://u:secret@a,,b/e", "no HOST:PORT"),
            ("nats://u:secret@a:x/e", "no HOST:PORT"),
            ("nats://u:secret/x@a:70000/e", "no HOST:PORT"),
            ("nats://u:secret@a/e.f", "\"e.f\" is no name"),
            ("nats://u:secret@a/e f", "\"e f\" is no name"),
            ("nats://u:secret@a/e&f", "\"e&f\" is no name"),
            ("nats://u:secret@a/e/f", "\"e/f\" is no name"),
            ("nats://u:secret@a/%FF", "no UTF-8"),
            ("nats://u:%FF@a/e", "no UTF-8"),
            ("nats://u:secret@a/e?replicas=0", "replicas is \"0\""),
            ("nats://u:secret@a/e?replicas=6", "replicas is \"6\""),
            ("nats://u:secret@a/e?replicas=", "replicas has no value"),
            (
                "nats://u:secret@a/e?replicas=1&replicas=1",
                "replicas is given twice",
            ),
            ("nats://u:secret@a/e?subject=a b", "\"a b\" is no subject"),
            ("nats://u:secret@a/e?tls=yes", "tls is \"yes\""),
            (
                "nats://u:secret@a/e?unsafe_version=1",
                "unsafe_version is \"1\"",
            ),
            ("nats://u:secret@a/e?tls_key=k", "go together"),
            ("nats://u:secret@a/e?other=1", "there is no other, only"),
            ("nats://u:secret@a/e?nkey=k", "give one of"),
            ("nats://a/e?nkey=k&credentials=c", "give one of"),
            ("nats://u:x/e?secret@a/e", "behind the question mark"),
        ] {
            let error = url.parse::<NatsUrl>().expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
