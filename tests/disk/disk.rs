//! A simulated disk with one directory: its errors, and its contents after a loss of power.
//!
//! Programs read the files of the directory from the system. The disk tracks which of their contents are
//! synced. `vfs` asks it before each operation of SQLite.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use fastrand::Rng;
use rusqlite::ffi::SQLITE_OK;

use crate::content::{Content, Loss};
use crate::fault::{Fault, Operation, Role};
use crate::names::{Names, Number};
use crate::vfs;

/// All disks, by their directories.
static DISKS: Mutex<BTreeMap<PathBuf, Weak<Disk>>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Rng,
    files: Vec<Content>,
    names: Names,
    fault: Option<Fault>,
    failed: u64,
    /// The number of changes until the disk stops.
    changes_left: u64,
    is_stopped: bool,
}

/// The result of a write: the number of bytes that are written, and the returned error.
pub(crate) struct WriteResult {
    pub(crate) length: usize,
    pub(crate) code: c_int,
}

/// For tests.
impl Disk {
    /// A disk with the contents of the directory.
    pub(crate) fn under(directory: &Path, seed: u64) -> Arc<Self> {
        let mut state = State::new(seed);
        for (name, path) in files_in(directory) {
            let content = Content::of(fs::read(path).expect("reads"));
            state.add(&name, content);
        }
        state.names.sync();
        Self::with(directory, state)
    }

    fn with(directory: &Path, state: State) -> Arc<Self> {
        vfs::register();
        let directory = directory.canonicalize().expect("is there");
        let disk = Arc::new(Self {
            directory: directory.clone(),
            state: Mutex::new(state),
        });
        lock(&DISKS).insert(directory, Arc::downgrade(&disk));
        disk
    }

    /// Sets the operations that fail from now on, if any.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        lock(&self.state).fault = fault;
    }

    /// The number of operations that have failed.
    pub(crate) fn failed(&self) -> u64 {
        lock(&self.state).failed
    }

    /// After this many more changes every operation fails, and nothing is changed any more: so whatever is
    /// acknowledged was acknowledged because of earlier changes.
    pub(crate) fn stop_after(&self, changes: u64) {
        lock(&self.state).changes_left = changes;
    }

    /// From now on every operation fails.
    pub(crate) fn stop(&self) {
        lock(&self.state).is_stopped = true;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).is_stopped
    }

    /// Writes the contents after a loss of power at the stop into a directory.
    pub(crate) fn lose_power(&self, into: &Path, loss: Loss, random: &mut Rng) {
        let state = lock(&self.state);
        for (name, number) in state.names.after(loss, random) {
            let bytes = state.files[number].after(loss, random);
            fs::write(into.join(name), bytes).expect("writes");
        }
    }

    /// Copies the contents after a kill at the stop into a directory: everything that was written, with
    /// unsynced changes still unsynced.
    pub(crate) fn kill(&self, into: &Path, seed: u64) -> Arc<Self> {
        let state = lock(&self.state);
        let mut next = State::new(seed);
        next.files.clone_from(&state.files);
        next.names.clone_from(&state.names);
        for (name, number) in state.names.seen() {
            let copied = fs::copy(self.directory.join(name), into.join(name));
            match copied {
                // A failed start removes its new store while that is empty, without this disk. A killed process
                // would not have done so.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::write(into.join(name), []).expect("writes");
                }
                copied => drop(copied.expect("copies")),
            }
            mark_forgotten(&into.join(name), &state.files[*number]);
        }
        Self::with(into, next)
    }
}

/// For the VFS.
impl Disk {
    /// The disk that a file is on, and the file's name.
    pub(crate) fn of(path: &Path) -> Option<(Arc<Self>, String)> {
        let disk = lock(&DISKS).get(path.parent()?)?.upgrade()?;
        let name = path.file_name()?.to_str()?.to_owned();
        Some((disk, name))
    }

    /// Whether an operation that changes nothing succeeds.
    pub(crate) fn meet(&self, operation: Operation, name: &str) -> Result<(), c_int> {
        lock(&self.state).meet(operation, Role::of(name))
    }

    /// A file was opened, and created if it did not exist.
    pub(crate) fn opened(&self, name: &str) -> Number {
        let mut state = lock(&self.state);
        match state.names.get(name) {
            Some(number) => number,
            None => state.add(name, Content::default()),
        }
    }

    pub(crate) fn delete(&self, name: &str, is_synced: bool) -> Result<(), c_int> {
        let mut state = lock(&self.state);
        state.change(Operation::Delete, Role::of(name))?;
        state.names.set(name, None);
        if is_synced {
            state.names.sync();
        }
        Ok(())
    }

    pub(crate) fn write(
        &self,
        name: &str,
        file: Number,
        offset: usize,
        bytes: &[u8],
    ) -> WriteResult {
        let mut state = lock(&self.state);
        let (length, code) = match state.change(Operation::Write, Role::of(name)) {
            Ok(()) => (bytes.len(), SQLITE_OK),
            // A failed write may have been partial, or even complete.
            Err(code) if !state.is_stopped && state.random.bool() => {
                (state.random.usize(..=bytes.len()), code)
            }
            Err(code) => (0, code),
        };
        if length > 0 {
            state.files[file].write(offset, &bytes[..length]);
        }
        WriteResult { length, code }
    }

    /// The system has accepted a write.
    pub(crate) fn written(&self, name: &str, file: Number) {
        mark_forgotten(&self.directory.join(name), &lock(&self.state).files[file]);
    }

    pub(crate) fn truncate(&self, name: &str, file: Number, length: usize) -> Result<(), c_int> {
        let mut state = lock(&self.state);
        state.change(Operation::Truncate, Role::of(name))?;
        state.files[file].resize(length);
        Ok(())
    }

    /// A sync of a file, and of the directory if the file was new.
    pub(crate) fn sync(&self, name: &str, file: Number, is_new: bool) -> Result<(), c_int> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let result = state.change(Operation::Sync, Role::of(name));
        match result {
            Ok(()) => {
                state.files[file].sync();
                if is_new {
                    state.names.sync();
                }
            }
            Err(_) if state.is_stopped => {}
            Err(_) => {
                state.files[file].fail_to_sync(&mut state.random);
                mark_forgotten(&self.directory.join(name), &state.files[file]);
            }
        }
        result
    }

    /// A sync by the store itself, without SQLite. The writes before it did not use SQLite either.
    pub(crate) fn sync_past_sqlite(&self, name: &str) -> Result<(), c_int> {
        let mut state = lock(&self.state);
        state.change(Operation::Sync, Role::of(name))?;
        let path = self.directory.join(name);
        if let Some(number) = state.names.get(name) {
            match state.files[number].is_partly_forgotten() && !is_marked(&path) {
                true => state.files[number].renew(fs::read(path).expect("reads")),
                false => state.files[number].sync(),
            }
        }
        Ok(())
    }
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            files: Vec::new(),
            names: Names::default(),
            fault: None,
            failed: 0,
            changes_left: u64::MAX,
            is_stopped: false,
        }
    }

    fn add(&mut self, name: &str, content: Content) -> Number {
        self.files.push(content);
        let number = self.files.len() - 1;
        self.names.set(name, Some(number));
        number
    }

    fn change(&mut self, operation: Operation, role: Role) -> Result<(), c_int> {
        self.is_stopped |= self.changes_left == 0;
        self.changes_left = self.changes_left.saturating_sub(1);
        self.meet(operation, role)
    }

    fn meet(&mut self, operation: Operation, role: Role) -> Result<(), c_int> {
        let is_met = (self.fault.as_mut())
            .is_some_and(|fault| fault.meets(operation, role, &mut self.random));
        if !is_met && !self.is_stopped {
            return Ok(());
        }
        self.failed += 1;
        Err(operation.failure(&mut self.random))
    }
}

/// Sets the modification time of a partly lost WAL to a time that nothing else sets, so that a write without
/// SQLite is noticed. Opens only WALs: closing another file would release SQLite's locks.
fn mark_forgotten(path: &Path, content: &Content) {
    if content.is_partly_forgotten()
        && path.to_string_lossy().ends_with("-wal")
        && let Ok(file) = File::options().write(true).open(path)
    {
        file.set_modified(SystemTime::UNIX_EPOCH).expect("is set");
    }
}

fn is_marked(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.expect("is there") == SystemTime::UNIX_EPOCH
}

/// The files of a directory by name, except for the `-shm`.
fn files_in(directory: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(directory).expect("lists");
    entries
        .map(|entry| entry.expect("lists").path())
        .map(|path| {
            let name = path.file_name().expect("has a name").to_string_lossy();
            (name.into_owned(), path)
        })
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
