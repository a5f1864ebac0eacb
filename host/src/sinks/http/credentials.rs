//! The credentials that the sink `http:` sends: Basic (RFC 7617), or a Bearer token from a file (RFC 6750).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::error::Error;
use crate::util::log_limiter::LogLimiter;
use crate::util::regular_file;

/// The largest file of a token in bytes. Servers refuse header sections that are larger.
const MAX_TOKEN_FILE_BYTES: u64 = 16 * 1024;

/// The shortest time from one read of the file to the next: each put may be refused.
const MIN_RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// The value of the field `Authorization`, which is never logged.
#[derive(Debug)]
pub(super) enum Credentials {
    None,
    Basic(HeaderValue),
    Token(TokenFile),
}

/// A token, and the file that it is read from.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    value: RwLock<HeaderValue>,
    /// When the file was read last after a refusal.
    reloaded: Mutex<Option<Instant>>,
    failing: LogLimiter,
}

impl Credentials {
    /// # Errors
    ///
    /// When the file of a token cannot be read, or contains no token.
    pub(super) fn new(
        basic: Option<HeaderValue>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, Error> {
        Ok(match (basic, token_file) {
            (_, Some(path)) => {
                let value = RwLock::new(read_token(&path)?);
                Self::Token(TokenFile {
                    path,
                    value,
                    reloaded: Mutex::default(),
                    failing: LogLimiter::default(),
                })
            }
            (Some(basic), None) => Self::Basic(basic),
            (None, None) => Self::None,
        })
    }

    pub(super) fn value(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Basic(value) => Some(value.clone()),
            Self::Token(token) => Some(token.value()),
        }
    }

    /// Reads the file of a token again, unless that was done just now. Returns whether the token is another than
    /// `refused`.
    pub(super) async fn reload(&self, refused: Option<&HeaderValue>) -> bool {
        let Self::Token(token) = self else {
            return false;
        };
        // Many puts may be refused at the same time.
        let mut reloaded = token.reloaded.lock().await;
        let is_due = reloaded.is_none_or(|time| time.elapsed() >= MIN_RELOAD_PAUSE);
        if is_due && Some(&token.value()) == refused {
            token.read_again().await;
            *reloaded = Some(Instant::now());
        }
        Some(&token.value()) != refused
    }
}

impl TokenFile {
    fn value(&self) -> HeaderValue {
        let value = self.value.read().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }

    async fn read_again(&self) {
        let path = self.path.clone();
        let read = spawn_blocking(move || read_token(&path)).await;
        match read {
            Ok(Ok(value)) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = value;
            }
            Ok(Err(error)) => {
                if let Some(suppressed) = self.failing.check(&error.to_string()) {
                    tracing::warn!(%error, suppressed, "the token file cannot be read again");
                }
            }
            Err(panicked) => tracing::error!(%panicked, "the token file was not read again"),
        }
    }
}

/// The field value of the token in a file: its first line that is no comment, `TOKEN` or `NAME:TOKEN`.
fn read_token(path: &Path) -> Result<HeaderValue, Error> {
    let fail = |source| Error::File {
        operation: "read a token from",
        path: path.to_owned(),
        source,
    };
    let read = || -> io::Result<String> {
        regular_file::check(path)?;
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(fail)?;
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    // A token contains no colon (RFC 6750).
    let token = line.map(|line| line.rsplit(':').next().unwrap_or(line).trim());
    let token = token.filter(|token| !token.is_empty());
    let invalid = |reason| fail(io::Error::new(io::ErrorKind::InvalidData, reason));
    let token = token.ok_or_else(|| invalid("it contains no token"))?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| invalid("its token has characters that no header field may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Credentials, read_token};

    #[test]
    fn token_is_read_from_the_first_line() {
        let file = tempfile::NamedTempFile::new().expect("is made");
        for text in ["abc", "abc\n", "# comment\n\n name:abc \nother:def\n"] {
            fs::write(file.path(), text).expect("is written");
            let value = read_token(file.path()).expect("has a token");
            assert_eq!(value, "Bearer abc");
            assert!(value.is_sensitive());
        }
        for text in ["", "\n# abc\n", "name:", "a\u{1}b"] {
            fs::write(file.path(), text).expect("is written");
            let error = read_token(file.path()).expect_err("has none");
            assert!(error.to_string().starts_with("cannot read a token from "));
        }
    }

    #[tokio::test]
    async fn token_that_has_changed_is_read_again() {
        let file = tempfile::NamedTempFile::new().expect("is made");
        fs::write(file.path(), "abc").expect("is written");
        let path = Some(file.path().to_owned());
        let credentials = Credentials::new(None, path.clone()).expect("has a token");
        let refused = credentials.value();
        fs::write(file.path(), "def").expect("is written");
        assert!(credentials.reload(refused.as_ref()).await);
        assert_eq!(credentials.value().expect("is there"), "Bearer def");
        // Another put, whose request had the old token.
        assert!(credentials.reload(refused.as_ref()).await);
        // Not so soon again.
        let refused = credentials.value();
        fs::write(file.path(), "ghi").expect("is written");
        assert!(!credentials.reload(refused.as_ref()).await);
        let credentials = Credentials::new(None, path).expect("has a token");
        let refused = credentials.value();
        fs::remove_file(file.path()).expect("is removed");
        assert!(!credentials.reload(refused.as_ref()).await);
        assert_eq!(credentials.value(), refused);
    }
}
