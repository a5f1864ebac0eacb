//! The path of a store: from its URL, made absolute, and why SQLite can't open a file there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::store_error::store_error;
use crate::error::Error;
use crate::util::redaction::without_login;

/// The path of a URL such as `sqlite:PATH`, or what is wrong with it.
pub(crate) fn path_of_url<'a>(scheme: &str, path: &'a str) -> Result<&'a Path, String> {
    if path.is_empty() {
        return Err("the path is missing".to_owned());
    }
    if let Some(rest) = path.strip_prefix("//") {
        let rest = rest.split('?').next().unwrap_or_default();
        // Somebody took it for the URL of a server, and may have put a password into it.
        let path = if rest.contains('@') { "PATH" } else { rest };
        return Err(format!(
            "a path follows the colon at once, as in {scheme}:{path} (an absolute path begins with one slash)"
        ));
    }
    if path.contains('?') {
        return Err("it has no parameters, and no path has a `?` in it".to_owned());
    }
    Ok(Path::new(path))
}

/// The path of a store in a URL `sqlite:PATH`, or `None` where it is of another form.
///
/// # Errors
///
/// When what follows `sqlite:` is no path.
#[must_use]
pub fn sqlite_path(url: &str) -> Option<Result<&Path, Error>> {
    let path = url.strip_prefix("sqlite:")?;
    Some(
        path_of_url("sqlite", path).map_err(|reason| Error::SinkUrl {
            url: without_login(url),
            reason,
        }),
    )
}

/// The path of a store as SQLite is given it: absolute, with its directory resolved, since SQLite
/// itself takes `missing/..` for a directory.
///
/// # Errors
///
/// When there is no such directory, or what is there is no regular file.
pub(super) fn resolve_path(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source: io::Error| Error::File {
        operation: "open",
        path: path.to_owned(),
        source,
    };
    let says = |kind, text: String| fail(io::Error::new(kind, text));
    let is_directory = || says(ErrorKind::IsADirectory, "it is a directory".to_owned());
    // Of `a.db/` SQLite would make `a.db`.
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let text = "its name ends with a slash, as that of a directory";
        return Err(says(ErrorKind::NotADirectory, text.to_owned()));
    }
    let name = path.file_name().ok_or_else(is_directory)?;
    let given = path.parent().filter(|path| !path.as_os_str().is_empty());
    let given = given.unwrap_or(Path::new("."));
    let missing = |kind| match kind {
        ErrorKind::NotFound => says(
            kind,
            format!("the directory {} does not exist", given.display()),
        ),
        _ => says(kind, format!("{} is not a directory", given.display())),
    };
    let directory = match fs::canonicalize(given) {
        Ok(directory) if directory.is_dir() => directory,
        Ok(_) => return Err(missing(ErrorKind::NotADirectory)),
        Err(error) => {
            return Err(match error.kind() {
                kind @ (ErrorKind::NotFound | ErrorKind::NotADirectory) => missing(kind),
                _ => fail(error),
            });
        }
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(is_directory()),
        Ok(found) if !found.is_file() => {
            let text = "it is not a regular file".to_owned();
            return Err(says(ErrorKind::InvalidInput, text));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
        Ok(_) | Err(_) => {}
    }
    Ok(directory.join(name))
}

/// Makes an [`Error`] of one that SQLite had when it opened a file, with the cause that it does not
/// tell.
pub(super) fn open_error(path: &Path, error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
        && let Err(source) = may_be_opened(path)
    {
        return Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        };
    }
    store_error(path, "open")(error)
}

/// Whether the system would let this process write to a file, or make it.
#[cfg(unix)]
pub(super) fn may_be_opened(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    if path.exists() {
        access(path, Access::READ_OK | Access::WRITE_OK)?;
    }
    let directory = path.parent().unwrap_or(path);
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn may_be_opened(_: &Path) -> io::Result<()> {
    Ok(())
}
