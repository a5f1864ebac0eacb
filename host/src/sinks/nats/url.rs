//! The URL of a stream: its servers, its name, its subjects, and the credentials.
//!
//! Passwords and tokens are never printed, not even in parts or in errors.

use std::fmt;
use std::str::FromStr;

use async_nats::ServerAddr;

use super::credentials::Credentials;
use super::parameters::{Parameters, Tls, decode};
use super::subject::SubjectPrefix;
use crate::error::Error;
use crate::util::redaction::without_login;

/// The default number of replicas: of three, one may fail.
pub const DEFAULT_REPLICAS: usize = 3;

/// The default prefix of the subjects of all events.
pub const DEFAULT_SUBJECT: &str = "alldata";

/// The longest name of a stream in bytes: that of a file.
const MAX_STREAM_BYTES: usize = 255;

/// The form of URLs, for messages.
const FORM: &str = "nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT],…/STREAM?replicas=3&subject=alldata";

/// The URL of a stream: `nats://HOST:PORT,HOST:PORT,…/STREAM`.
///
/// `USER:PASSWORD@` or `TOKEN@` may stand before the hosts. These parameters may follow after a question mark, each
/// once and percent-encoded where needed: `replicas` (1 to 5), `subject`, `credentials=FILE` (a JWT
/// with its seed), `nkey=FILE` (a seed), `tls=true`, `tls_first=true` (before the server speaks),
/// `tls_ca=FILE`, `tls_cert=FILE` with `tls_key=FILE`, all PEM, and `unsafe_version=true` (use servers
/// of versions that are known to lose events).
///
/// Its `Display` and `Debug` output has neither user nor password nor token.
#[derive(Clone)]
pub struct NatsUrl {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) stream: String,
    pub(super) replicas: usize,
    pub(super) prefix: SubjectPrefix,
    pub(super) credentials: Credentials,
    pub(super) tls: Tls,
    /// Whether servers are used whose versions are known to lose events.
    pub(super) unsafe_version: bool,
}

impl NatsUrl {
    /// Whether the URL of a sink or a store has this scheme, whether or not it is valid.
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
    // First, so that no part of a password is reported as a host that is wrong.
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, place),
    };
    let (hosts, stream) = place.split_once('/').ok_or_else(form)?;
    let servers: Result<Vec<_>, _> = hosts.split(',').map(parse_server).collect();
    let stream = parse_stream(&decode(stream)?)?;
    let parameters = Parameters::parse(query)?;
    let credentials = Credentials::parse(login, parameters.credentials, parameters.nkey)?;
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
        prefix: SubjectPrefix::new(subject)?,
        credentials,
        tls: Tls {
            certificate,
            ..parameters.tls
        },
        unsafe_version: parameters.unsafe_version,
    })
}

fn parse_server(host: &str) -> Result<ServerAddr, String> {
    // `ServerAddr` ignores a path, a query and credentials.
    let is_plain = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    let server = is_plain.then(|| host.parse::<ServerAddr>().ok()).flatten();
    let server = server.filter(|server| !server.host().is_empty());
    server.ok_or_else(|| "its hosts have to be HOST:PORT,HOST:PORT".to_owned())
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
            "{name:?} is no valid name of a stream: it must not have white space, nor . * < > & / \\ @ \""
        )),
    }
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

    use super::{Credentials, NatsUrl};

    #[track_caller]
    fn parse(url: &str) -> NatsUrl {
        url.parse().expect("is one")
    }

    #[test]
    fn defaults_apply() {
        let url = parse("nats://a,b:1,[::1]:2/events");
        assert_eq!(url.to_string(), "nats://a:4222,b:1,[::1]:2/events");
        assert_eq!((url.stream(), url.replicas), ("events", 3));
        assert_eq!(url.prefix.wildcard(), "alldata.*");
        assert!(matches!(url.credentials, Credentials::None));
        assert!(!url.tls.required && !url.tls.first && !url.unsafe_version);
        assert!(parse("nats://a/e?unsafe_version=true").unsafe_version);
    }

    #[test]
    fn all_parameters_are_read() {
        let url = parse(
            "nats://a/e?replicas=5&subject=x.y&tls=true&tls_first=true&tls_ca=%2Fca&tls_cert=c+d&tls_key=k",
        );
        assert_eq!(
            (url.replicas, url.prefix.wildcard()),
            (5, "x.y.*".to_owned())
        );
        assert!(url.tls.required && url.tls.first);
        assert_eq!(url.tls.authorities.as_deref(), Some(Path::new("/ca")));
        let (certificate, key) = url.tls.certificate.expect("is given");
        assert_eq!((certificate, key), ("c+d".into(), "k".into()));
        let file = |url: &str| match parse(url).credentials {
            Credentials::JwtFile(path) | Credentials::NkeyFile(path) => path,
            _ => panic!("is a file"),
        };
        assert_eq!(file("nats://a/e?credentials=f").as_os_str(), "f");
        assert_eq!(file("nats://a/e?nkey=a%20@b").as_os_str(), "a @b");
    }

    #[test]
    fn user_and_token_are_read_and_not_printed() {
        for (login, expected) in [("u%40:p%3a", ("u@", "p:")), ("u:p/:w", ("u", "p/:w"))] {
            let url = parse(&format!("nats://{login}@a,b/e"));
            assert_eq!(url.to_string(), "nats://a:4222,b:4222/e");
            match &url.credentials {
                Credentials::Password { user, password } => {
                    assert_eq!((user.as_str(), password.as_str()), expected);
                }
                _ => panic!("is a password"),
            }
        }
        let url = parse("nats://secret@a/e");
        assert!(matches!(&url.credentials, Credentials::Token(token) if token == "secret"));
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn errors_tell_the_reason_and_no_password() {
        for (url, reason) in [
            ("nats:", "a stream is nats://"),
            ("nats://u:secret@a", "a stream is nats://"),
            ("nats://u:secret@a/", "the name of the stream is missing"),
            ("nats://u:secret@/e", "have to be HOST:PORT"),
            ("nats://u:secret@a,,b/e", "have to be HOST:PORT"),
            ("nats://u:secret@a:x/e", "have to be HOST:PORT"),
            ("nats://u:secret/x@a:70000/e", "have to be HOST:PORT"),
            ("nats://u:secret@a/e.f", "\"e.f\" is no valid name"),
            ("nats://u:secret@a/e f", "\"e f\" is no valid name"),
            ("nats://u:secret@a/e&f", "\"e&f\" is no valid name"),
            ("nats://u:secret@a/e/f", "\"e/f\" is no valid name"),
            ("nats://u:secret@a/%FF", "no UTF-8"),
            ("nats://u:%FF@a/e", "no UTF-8"),
            ("nats://u:secret@a/e?replicas=0", "replicas is \"0\""),
            ("nats://u:secret@a/e?replicas=6", "replicas is \"6\""),
            ("nats://u:secret@a/e?replicas=", "replicas has no value"),
            (
                "nats://u:secret@a/e?replicas=1&replicas=1",
                "replicas is given twice",
            ),
            (
                "nats://u:secret@a/e?subject=a b",
                "\"a b\" is no valid subject",
            ),
            ("nats://u:secret@a/e?tls=yes", "tls is \"yes\""),
            (
                "nats://u:secret@a/e?unsafe_version=1",
                "unsafe_version is \"1\"",
            ),
            ("nats://u:secret@a/e?tls_key=k", "go together"),
            ("nats://u:secret@a/e?other=1", "there is no other, only"),
            ("nats://u:secret@a/e?nkey=k", "give one of"),
            ("nats://a/e?nkey=k&credentials=c", "give one of"),
            ("nats://u:x/e?secret@a/e", "the parameters of a stream are"),
        ] {
            let error = url.parse::<NatsUrl>().expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
