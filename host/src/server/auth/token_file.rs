//! Tokens of clients in a file: a line `NAME:TOKEN` for each, as in the password files of HTTP servers.
//!
//! Keeps digests only. Digests have one length and are compared in constant time, with those of all tokens, so
//! that the time of a response tells neither a part nor the length of a token.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use hyper::header::AUTHORIZATION;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::error::Error;
use crate::server::auth::{Authorizer, RequestHead, Unauthorized};
use crate::util::identity::Identity;
use crate::util::regular_file;
use crate::util::watched_files::WatchedFiles;

/// The shortest token in bytes: 128 bits as hexadecimal digits.
pub const MIN_TOKEN_BYTES: usize = 32;

/// How many tokens a file may have: each request is compared with all of them, which takes some 20 ns for each.
const MAX_TOKENS: u32 = 1024;

/// The largest file in bytes: a KiB for each token.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// How many copies of the tokens there are. A thread uses one of them, so that threads on different processors rarely
/// share the counters of a lock or of a name.
const SHARDS: usize = 16;

/// The scheme of credentials (RFC 6750).
const SCHEME: &str = "Bearer";

/// The tokens of a file, as an [`Authorizer`].
///
/// Each line is `NAME:TOKEN`; empty lines and those that begin with `#` are ignored. A token has
/// [`MIN_TOKEN_BYTES`] or more of the characters of RFC 6750 (letters, digits, `-._~+/`, and `=` at the end).
/// Several tokens may have one name, so that a token can be replaced without a pause. A request needs one of
/// them in its field `Authorization: Bearer TOKEN`.
///
/// When the file is read again, invalid lines are logged and ignored: the tokens of its valid lines are in effect, also
/// if there is none, so a token that was removed is no longer valid. If the file cannot be read, the old tokens stay in
/// effect.
pub struct TokenFile {
    path: PathBuf,
    files: WatchedFiles,
    shards: [RwLock<Vec<Token>>; SHARDS],
}

#[derive(Clone)]
struct Token {
    identity: Identity,
    digest: [u8; blake3::OUT_LEN],
}

impl TokenFile {
    /// Reads the tokens of a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, a line is malformed, a token is too short or is there twice, or there is none.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let files = WatchedFiles::new(vec![path.clone()]);
        let this = Self {
            path,
            files,
            shards: Default::default(),
        };
        let parsed = this.read()?;
        if let Some(reason) = parsed.invalid {
            return Err(this.error(reason));
        }
        this.set(&parsed.tokens);
        Ok(this)
    }

    fn error(&self, reason: String) -> Error {
        Error::TokenFile {
            path: self.path.clone(),
            reason,
        }
    }

    fn read(&self) -> Result<Parsed, Error> {
        let text = read(&self.path).map_err(|source| self.error(source.to_string()))?;
        warn_if_readable_by_others(&self.path);
        Ok(parse(&text))
    }

    fn set(&self, tokens: &[Token]) {
        for shard in &self.shards {
            // Names are copied, so that threads do not count references to the same one.
            let copies = tokens.iter().map(|token| Token {
                identity: Identity::new(token.identity.name()),
                digest: token.digest,
            });
            *shard.write().unwrap_or_else(PoisonError::into_inner) = copies.collect();
        }
    }

    /// The name that a token belongs to.
    fn find(&self, token: &[u8]) -> Option<Identity> {
        let digest = blake3::hash(token);
        // The value is replaced as a whole, so a poisoned lock is still good.
        let tokens = self.shards[shard()].read();
        let tokens = tokens.unwrap_or_else(PoisonError::into_inner);
        let mut found = u32::MAX;
        for (number, token) in (0..).zip(tokens.iter()) {
            let is_equal = token.digest.ct_eq(digest.as_bytes());
            found.conditional_assign(&number, is_equal);
        }
        let found = tokens.get(usize::try_from(found).unwrap_or(usize::MAX))?;
        Some(found.identity.clone())
    }
}

impl Authorizer for TokenFile {
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        let mut fields = request.headers.get_all(AUTHORIZATION).iter();
        let field = fields.next().ok_or(Unauthorized::NoCredentials)?;
        if fields.next().is_some() {
            return Err(Unauthorized::InvalidCredentials);
        }
        let token = bearer(field.as_bytes()).ok_or(Unauthorized::NoCredentials)?;
        self.find(token).ok_or(Unauthorized::InvalidCredentials)
    }

    fn has_changed(&self) -> bool {
        self.files.have_changed()
    }

    /// A token that is no longer in the file must not be valid because another line is invalid, so the valid lines are
    /// the tokens, as with the keys of sshd.
    fn reload(&self) -> Result<(), Error> {
        let parsed = self.read()?;
        self.set(&parsed.tokens);
        if let Some(reason) = parsed.invalid {
            let (path, valid) = (self.path.display(), parsed.tokens.len());
            tracing::error!(
                %path,
                reason,
                valid,
                "the token file is invalid: only the tokens of its valid lines are in effect (--token-file)"
            );
        }
        Ok(())
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The token of a field `Authorization`, if it has the scheme `Bearer`.
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
        return None;
    }
    match token {
        [] => Some(token),
        [b' ', ..] => Some(token.trim_ascii()),
        _ => None,
    }
}

/// The copy of the tokens that this thread uses.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

fn read(path: &Path) -> io::Result<String> {
    regular_file::check(path)?;
    let mut text = String::new();
    let file = File::open(path)?;
    let bytes = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_FILE_BYTES {
        let text = format!("it has more than {MAX_FILE_BYTES} bytes");
        return Err(io::Error::other(text));
    }
    Ok(text)
}

/// The content of a file.
struct Parsed {
    tokens: Vec<Token>,
    /// The reason why the first invalid line is invalid, or why there is no token. It has no part of a line, which may
    /// be a token.
    invalid: Option<String>,
}

fn parse(text: &str) -> Parsed {
    let mut tokens = Vec::new();
    let mut invalid = None;
    let mut lines = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = parse_line(number, line).and_then(|token| {
            if let Some(other) = lines.get(&token.digest) {
                return Err(format!("lines {other} and {number} have the same token"));
            }
            if tokens.len() == MAX_TOKENS as usize {
                return Err(format!("it has more than {MAX_TOKENS} tokens"));
            }
            Ok(token)
        });
        match token {
            Ok(token) => {
                lines.insert(token.digest, number);
                tokens.push(token);
            }
            Err(reason) => {
                invalid.get_or_insert(reason);
            }
        }
    }
    if tokens.is_empty() {
        invalid.get_or_insert_with(|| "it has no token".to_owned());
    }
    Parsed { tokens, invalid }
}

/// The token of a line that is neither empty nor a comment, or the reason why it has none.
fn parse_line(number: usize, line: &str) -> Result<Token, String> {
    let Some((name, token)) = line.split_once(':') else {
        return Err(format!("line {number} is not NAME:TOKEN"));
    };
    let (name, token) = (name.trim(), token.trim());
    if name.is_empty() || name.contains(char::is_control) {
        return Err(format!("line {number} has no name before the colon"));
    }
    if token.len() < MIN_TOKEN_BYTES {
        return Err(format!(
            "the token of line {number} has fewer than {MIN_TOKEN_BYTES} characters; \
             `openssl rand -hex 32` makes one"
        ));
    }
    if !is_token(token) {
        return Err(format!(
            "the token of line {number} has characters other than letters, digits and -._~+/, with = at the end"
        ));
    }
    Ok(Token {
        identity: Identity::new(name),
        digest: *blake3::hash(token.as_bytes()).as_bytes(),
    })
}

/// Whether this is a `b64token` (RFC 6750, section 2.1).
fn is_token(token: &str) -> bool {
    let start = token.trim_end_matches('=');
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !start.is_empty() && start.bytes().all(is_known)
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    /// The permission of other users to read.
    const OTHERS_READ: u32 = 0o004;
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
    if mode.is_ok_and(|mode| mode & OTHERS_READ != 0) {
        let path = path.display();
        tracing::warn!(%path, "other users can read the token file: chmod o-r makes it private");
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_: &Path) {}
