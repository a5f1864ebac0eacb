//! A directory that stores compiled components for the next start.
//!
//! Stored components are executed, so a file is loaded only if no other user could have written it and its
//! digest is correct. Otherwise the component is compiled again.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

use crate::component::engine::compile_binary;
use crate::error::Error;

/// The magic number of a file, with the version of its format.
const MAGIC: &[u8; 8] = b"ADPcomp1";

/// The extension of files.
const EXTENSION: &str = "compiled";

/// The extension of files that are not complete yet.
const PARTIAL_EXTENSION: &str = "partial";

/// The most bytes of files; beyond that, the oldest are removed. A component takes one to three times its
/// own size.
const MAX_STORED_BYTES: u64 = 1024 * 1024 * 1024;

/// The mode of new directories and files: only their user has access.
#[cfg(unix)]
const DIRECTORY_MODE: u32 = 0o700;
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;

/// The permissions of others and of the group to write, and the sticky bit, with which users cannot replace
/// the files of others in a directory.
#[cfg(unix)]
const WRITE_OF_OTHERS: u32 = 0o002;
#[cfg(unix)]
const WRITE_OF_GROUP: u32 = 0o020;
#[cfg(unix)]
const STICKY: u32 = 0o1000;

const DIGEST_BYTES: usize = blake3::OUT_LEN;

/// A directory that stores compiled components.
#[derive(Debug)]
pub(crate) struct CompileCache {
    directory: PathBuf,
}

/// Why an existing file is not loaded.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("{0}")]
    Unsafe(String),
    #[error("it is damaged: its digest does not match")]
    Damaged,
    #[error("it cannot be loaded: {0:#}")]
    Refused(wasmtime::Error),
}

impl CompileCache {
    /// Opens a directory. It is created if it does not exist.
    ///
    /// # Errors
    ///
    /// When it cannot be created, or others may write to it or replace it.
    pub(crate) fn open(directory: &Path) -> std::result::Result<Self, Error> {
        let opened = make_directory(directory)
            .and_then(|()| fs::canonicalize(directory))
            .map_err(|error| error.to_string())
            .and_then(|path| check_directory(&path).map(|()| path));
        match opened {
            Ok(directory) => Ok(Self { directory }),
            Err(reason) => Err(Error::CompileCache {
                directory: directory.to_owned(),
                reason,
            }),
        }
    }

    /// The component of a binary: loaded from the directory, or compiled and then written to it, if
    /// possible.
    pub(crate) fn load_or_compile(&self, engine: &Engine, binary: &[u8]) -> Result<Component> {
        let key = key(engine, binary);
        let path = self.path(&key);
        match load(engine, &path, &key) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(reason) => {
                let path = path.display();
                tracing::warn!("the component is compiled again, {path} is not used: {reason}");
            }
        }
        let component = compile_binary(engine, binary)?;
        let compiled = component.serialize()?;
        match self.store(&path, &key, &compiled) {
            Ok(()) => self.remove_oldest(),
            Err(error) => tracing::warn!(
                "the compiled component is not kept in {}: {error}",
                path.display()
            ),
        }
        Ok(component)
    }

    /// Checks that a component is stored.
    pub(crate) fn check_stored(
        &self,
        engine: &Engine,
        binary: &[u8],
    ) -> std::result::Result<(), Error> {
        let key = key(engine, binary);
        let path = self.path(&key);
        let reason = match load(engine, &path, &key) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => format!("{} cannot be written", path.display()),
            Err(reason) => format!("{}: {reason}", path.display()),
        };
        Err(Error::CompileCache {
            directory: self.directory.clone(),
            reason,
        })
    }

    fn path(&self, key: &blake3::Hash) -> PathBuf {
        self.directory.join(format!("{}.{EXTENSION}", key.to_hex()))
    }

    /// Writes a file, which gets its name once it is complete.
    fn store(&self, path: &Path, key: &blake3::Hash, compiled: &[u8]) -> io::Result<()> {
        let random = RandomState::new().hash_one(key.as_bytes());
        let partial = self
            .directory
            .join(format!("{random:016x}.{PARTIAL_EXTENSION}"));
        let written = create(&partial).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(digest(key, compiled).as_bytes())?;
            file.write_all(compiled)
        });
        let stored = written.and_then(|()| fs::rename(&partial, path));
        if stored.is_err() {
            // The caller logs the error. The file, if it remains, is removed as one of the oldest.
            let _ = fs::remove_file(&partial);
        }
        stored
    }

    /// Removes the oldest files if there are too many bytes. Files with other extensions are not touched.
    fn remove_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let extension = path.extension()?;
                let metadata = fs::symlink_metadata(&path).ok()?;
                let is_own = extension == EXTENSION || extension == PARTIAL_EXTENSION;
                (is_own && metadata.is_file())
                    .then(|| Some((metadata.modified().ok()?, metadata.len(), path)))?
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, length, path) in files {
            if bytes <= MAX_STORED_BYTES {
                return;
            }
            // Another process may have removed it.
            let _ = fs::remove_file(path);
            bytes -= length;
        }
    }
}

/// The name of a compiled component: a hash of its binary, the version of this crate, and the engine with
/// its settings.
fn key(engine: &Engine, binary: &[u8]) -> blake3::Hash {
    struct Update(blake3::Hasher);

    impl Hasher for Update {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }

    let mut hasher = Update(blake3::Hasher::new());
    (
        engine.precompile_compatibility_hash(),
        env!("CARGO_PKG_VERSION"),
    )
        .hash(&mut hasher);
    hasher.0.update(binary);
    hasher.0.finalize()
}

/// The digest in a file: of its magic number, its key and the compiled component.
fn digest(key: &blake3::Hash, compiled: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC).update(key.as_bytes()).update(compiled);
    hasher.finalize()
}

/// Loads a compiled component; `None` if there is no such file.
fn load(
    engine: &Engine,
    path: &Path,
    key: &blake3::Hash,
) -> std::result::Result<Option<Component>, Unusable> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::Unreadable(error)),
    };
    let metadata = file.metadata().map_err(Unusable::Unreadable)?;
    if !metadata.is_file() {
        return Err(Unusable::Unsafe("it is not a regular file".to_owned()));
    }
    check_owner_and_mode(&metadata, WRITE_OF_GROUP | WRITE_OF_OTHERS).map_err(Unusable::Unsafe)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    let rest = bytes.strip_prefix(MAGIC).ok_or(Unusable::Damaged)?;
    let (found, compiled) = rest
        .split_first_chunk::<DIGEST_BYTES>()
        .ok_or(Unusable::Damaged)?;
    if digest(key, compiled) != *found {
        return Err(Unusable::Damaged);
    }
    deserialize(engine, compiled)
        .map(Some)
        .map_err(Unusable::Refused)
}

#[expect(
    unsafe_code,
    reason = "compiled code is loaded, which is trusted as its writer is"
)]
fn deserialize(engine: &Engine, compiled: &[u8]) -> Result<Component> {
    // SAFETY: the bytes were returned by `Component::serialize` for a compatible engine: their digest
    // confirms it, and by the owner and the mode of the file only this user or root could have written
    // another one. They are in memory, where nothing changes them.
    unsafe { Component::deserialize(engine, compiled) }
}

/// Creates a directory and its parents, if they do not exist, with access for this user only.
fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, DIRECTORY_MODE);
    builder.create(directory)
}

/// Creates a file with access for this user only.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE_MODE);
    options.open(path)
}

/// Checks that only this user and root may write to a directory or replace it.
fn check_directory(directory: &Path) -> std::result::Result<(), String> {
    for (number, path) in directory.ancestors().enumerate() {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_dir() {
            return Err("it is not a directory".to_owned());
        }
        // In the directories above it, the group is trusted, as that of a home directory often may write;
        // and in a sticky directory no user can replace the files of another.
        let writers = match number {
            0 => WRITE_OF_GROUP | WRITE_OF_OTHERS,
            _ if is_sticky(&metadata) => 0,
            _ => WRITE_OF_OTHERS,
        };
        check_owner_and_mode(&metadata, writers)
            .map_err(|reason| format!("of {}, {reason}", path.display()))?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_sticky(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    metadata.mode() & STICKY != 0
}

/// Checks that the owner is this user or root, and that none of `writers` may write.
#[cfg(unix)]
fn check_owner_and_mode(metadata: &Metadata, writers: u32) -> std::result::Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Err(format!("the owner is user {owner}, not {user} or root"));
    }
    if metadata.mode() & writers != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(format!("others may write to it, by its mode {mode:o}"));
    }
    Ok(())
}

/// On other systems the permissions are not checked; the operator has to restrict them.
#[cfg(not(unix))]
const WRITE_OF_OTHERS: u32 = 0;
#[cfg(not(unix))]
const WRITE_OF_GROUP: u32 = 0;

#[cfg(not(unix))]
fn is_sticky(_: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn check_owner_and_mode(_: &Metadata, _: u32) -> std::result::Result<(), String> {
    Ok(())
}
