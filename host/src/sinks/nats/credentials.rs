//! The credentials in the URL of a stream.

use std::path::PathBuf;

use super::parameters::decode;

/// The credentials that servers are given.
#[derive(Clone, Default)]
pub(super) enum Credentials {
    #[default]
    None,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    /// A file with a JWT and the seed of its key.
    JwtFile(PathBuf),
    /// A file with the seed of a key.
    NkeyFile(PathBuf),
}

impl Credentials {
    /// From the text before `@`, and the parameters `credentials` and `nkey`.
    ///
    /// # Errors
    ///
    /// A sentence that tells what is wrong.
    pub(super) fn parse(
        login: Option<&str>,
        credentials: Option<PathBuf>,
        nkey: Option<PathBuf>,
    ) -> Result<Credentials, String> {
        match (login, credentials, nkey) {
            (None, None, None) => Ok(Credentials::None),
            (Some(login), None, None) => match login.split_once(':') {
                Some((user, password)) => Ok(Credentials::Password {
                    user: decode(user)?,
                    password: decode(password)?,
                }),
                None => Ok(Credentials::Token(decode(login)?)),
            },
            (None, Some(file), None) => Ok(Credentials::JwtFile(file)),
            (None, None, Some(file)) => Ok(Credentials::NkeyFile(file)),
            _ => Err("give one of USER:PASSWORD@, TOKEN@, credentials and nkey".to_owned()),
        }
    }
}
