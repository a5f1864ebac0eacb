//! The directory of the sink `directory`, read without that sink.
//!
//! The paths of events are computed here independently, so that a change in the sink is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Peer, PeerBuilder};

/// A directory for events.
pub struct EventFiles(TempDir);

impl Default for EventFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl EventFiles {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("makes a directory"))
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// The directory as an argument of `--dir`.
    pub fn dir(&self) -> String {
        format!("{}::/events", self.root().display())
    }

    pub fn serve(&self) -> PeerBuilder {
        let builder = Peer::composed_with("directory").arguments(&["--dir", &self.dir()]);
        builder.env("ALLDATA_PEER_DIRECTORY=/events")
    }

    /// The path for the event of a key.
    pub fn place(&self, key: &str) -> PathBuf {
        let name: String = key
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02x}"),
            })
            .collect();
        let mut place = self
            .root()
            .join(&blake3::hash(key.as_bytes()).to_hex()[..3]);
        let mut rest = &*name;
        while rest.len() > 120 {
            place.push(format!("{}+", &rest[..120]));
            rest = &rest[120..];
        }
        place.join(rest)
    }

    /// The event under a key, as it is in its file.
    pub fn held(&self, key: &str) -> Option<String> {
        fs::read_to_string(self.place(key)).ok()
    }

    /// All files except temporary ones, by their paths below the root.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = self.paths().into_iter();
        paths
            .filter(|path| !path.starts_with("tmp"))
            .map(|path| {
                let bytes = fs::read(self.root().join(&path)).expect("reads");
                (path, bytes)
            })
            .collect()
    }

    /// Whether any file has contents, including temporary ones.
    pub fn is_written_to(&self) -> bool {
        let length = |path: &PathBuf| fs::metadata(self.root().join(path)).map(|file| file.len());
        // A file that is gone by now did have contents.
        self.paths().iter().any(|path| length(path).ok() != Some(0))
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::new()];
        let mut paths = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.root().join(&folder)).expect("lists") {
                let entry = entry.expect("lists");
                let path = folder.join(entry.file_name());
                match entry.file_type().expect("has a type").is_dir() {
                    true => folders.push(path),
                    false => paths.push(path),
                }
            }
        }
        paths
    }

    /// The names in the directory of temporary files.
    pub fn temporaries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("tmp")).expect("lists");
        let names = entries.map(|entry| entry.expect("lists").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}
