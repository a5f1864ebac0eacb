//! The file of a Unix socket: made with its mode, taken from a server that was killed, removed at the end.

use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// The most bytes of a path: the field of the system has one more, for the end (`sun_path`).
const MAX_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The bit of a mode that lets all users write, and so connect.
const OTHERS_WRITE: u32 = 0o002;

/// How often the lock of a directory is tried, and the pause after each: together 1 s, since another server has the
/// lock for a few milliseconds.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The file of a socket that this process listens on. Dropped, it is removed, unless another file has taken
/// its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

/// Listens on a socket at `path`. A socket there that no process listens on is replaced.
pub(super) async fn listen(
    path: &Path,
    mode: u32,
    backlog: u32,
) -> io::Result<(UnixListener, SocketFile)> {
    check_path(path)?;
    // Of two servers that start at once, the second must not take the socket that the first has bound, and
    // does not listen on yet.
    let _lock = lock_directory(path).await;
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        id: id(&fs::symlink_metadata(path)?),
    };
    // Before it listens, so that at no time another user can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket.listen(backlog)?, file))
}

/// The path of a listener; of an abstract one, `@` and its name.
pub(super) fn path_of(listener: &UnixListener) -> io::Result<PathBuf> {
    let address = listener.local_addr()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract_name() {
        return Ok(format!("@{}", String::from_utf8_lossy(name)).into());
    }
    Ok(address.as_pathname().unwrap_or(Path::new("")).to_owned())
}

/// Whether every user can connect to a socket, as far as its own mode decides; an abstract socket has none.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & OTHERS_WRITE != 0,
        Err(_) => cfg!(target_os = "linux") && path.as_os_str().as_bytes().starts_with(b"@"),
    }
}

/// Checks that a path fits into the address of a socket.
pub(super) fn check_path(path: &Path) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > MAX_PATH_BYTES {
        let reason =
            format!("the path has {bytes} bytes, but at most {MAX_PATH_BYTES} are possible");
        return Err(io::Error::new(ErrorKind::InvalidInput, reason));
    }
    Ok(())
}

/// Locks the directory of a path. There is no lock without the permission to read it, or while another process
/// keeps it locked, which any local user can do.
async fn lock_directory(path: &Path) -> Option<File> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..LOCK_TRIES {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "cannot lock the directory of a Unix socket");
                return None;
            }
        }
    }
    tracing::warn!(
        path = %path.display(),
        "another process keeps the directory of a Unix socket locked: continuing without the lock"
    );
    None
}

/// Removes the socket of a server that was killed. Nothing else is removed.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let reason = "there is a file that is not a socket; it is not replaced";
        return Err(io::Error::new(ErrorKind::AlreadyExists, reason));
    }
    match UnixStream::connect(path).await {
        // Its queue of connections may also be full.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a Unix socket that no process listens on");
            fs::remove_file(path)
        }
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => {
            let reason = "another process listens on it";
            Err(io::Error::new(ErrorKind::AddrInUse, reason))
        }
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_same = fs::symlink_metadata(&self.path).is_ok_and(|found| id(&found) == self.id);
        if is_same && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a Unix socket");
        }
    }
}
