//! Events as lines, one put a line, for piping.
//!
//! Appends every put and knows no keys: a repeated put stands twice. Never reads what it wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Stdout, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::group_commit::{GroupCommit, QueueLimits, Record, Writer};
use crate::put_json::put_line;
use crate::sink::{BoxSink, PutError, PutSink};
use crate::store::check_appendable;

/// The path of standard output, where systems have one.
const STDOUT_PATH: &str = "/dev/stdout";

/// A sink that appends `{"key":…,"event":…}` and a line break for each put.
///
/// A file is synced before a put is acknowledged; standard output is flushed.
#[derive(Debug)]
pub struct NdjsonSink(GroupCommit<LineWriter>);

impl NdjsonSink {
    /// Appends to the file at `path`, which is made if it is not there. If its last line has no
    /// end, because a writer was killed, it gets one.
    ///
    /// # Errors
    ///
    /// When the file can't be opened and read, belongs to a SQLite database, another sink has it
    /// open, or the thread can't be started.
    pub fn append(path: &Path) -> Result<Self, Error> {
        Self::append_with_queue(path, QueueLimits::default())
    }

    /// The same with other limits of what may wait for a write.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append).
    pub fn append_with_queue(path: &Path, limits: QueueLimits) -> Result<Self, Error> {
        let fail = |source| Error::File {
            operation: "open",
            path: path.to_owned(),
            source,
        };
        check_appendable(path)?;
        let mut file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .open(path)
            .map_err(fail)?;
        if file.metadata().map_err(fail)?.is_file() {
            // Another writer's lines could be taken back with those that failed here.
            file.try_lock().map_err(|error| fail(error.into()))?;
            sync_directory(path).map_err(fail)?;
        }
        let torn = is_torn(&mut file).map_err(fail)?;
        Self::start(path, limits, Output::File(file), torn)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    ///
    /// When it was redirected to a file that belongs to a SQLite database, or the thread can't be
    /// started.
    pub fn stdout() -> Result<Self, Error> {
        Self::stdout_with_queue(QueueLimits::default())
    }

    /// The same with other limits of what may wait for a write.
    ///
    /// # Errors
    ///
    /// As for [`stdout`](Self::stdout).
    pub fn stdout_with_queue(limits: QueueLimits) -> Result<Self, Error> {
        let stdout = Path::new(STDOUT_PATH);
        if stdout.exists() {
            check_appendable(stdout)?;
        }
        Self::start(Path::new("-"), limits, Output::Stdout(io::stdout()), false)
    }

    fn start(path: &Path, limits: QueueLimits, output: Output, torn: bool) -> Result<Self, Error> {
        let writer = LineWriter {
            path: path.to_owned(),
            output,
            torn,
        };
        GroupCommit::start("ndjson-writer", limits, writer)
            .map(Self)
            .map_err(|source| Error::Thread {
                path: path.to_owned(),
                source,
            })
    }
}

impl PutSink for NdjsonSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        self.0.put(Record { key, event }).await
    }

    fn boxed(self) -> BoxSink {
        let reasons = self.0.unavailable_reasons();
        BoxSink::with_reasons(self, reasons)
    }
}

#[derive(Debug)]
enum Output {
    File(File),
    Stdout(Stdout),
}

#[derive(Debug)]
struct LineWriter {
    path: PathBuf,
    output: Output,
    /// Whether the output ends within a line.
    torn: bool,
}

impl Writer for LineWriter {
    type Written = ();

    fn write(&mut self, records: &[Record]) -> Vec<Result<(), PutError>> {
        let mut text = String::new();
        if self.torn {
            text.push('\n');
        }
        for record in records {
            text.push_str(&put_line(&record.key, &record.event));
        }
        let result = match &mut self.output {
            Output::File(file) => append_or_undo(file, text.as_bytes(), &mut self.torn),
            Output::Stdout(stdout) => {
                let mut stdout = stdout.lock();
                let written = stdout.write_all(text.as_bytes());
                written
                    .and_then(|()| stdout.flush())
                    .inspect_err(|_| self.torn = true)
            }
        };
        let result = match result {
            Ok(()) => {
                self.torn = false;
                Ok(())
            }
            Err(error) => Err(PutError::Failed(format!(
                "cannot write {}: {error}",
                self.path.display()
            ))),
        };
        vec![result; records.len()]
    }
}

/// Appends and syncs. A write that fails half-way is taken back, as far as the disk allows.
fn append_or_undo(file: &mut File, text: &[u8], torn: &mut bool) -> io::Result<()> {
    let length = file.metadata()?.len();
    if let Err(error) = file.write_all(text) {
        *torn |= file.set_len(length).is_err();
        return Err(error);
    }
    // Once written, the lines stay: a put that was not synced may be stored.
    *torn = false;
    file.sync_data().or_else(|error| match error.kind() {
        // A pipe or a terminal has nothing to sync.
        io::ErrorKind::InvalidInput => Ok(()),
        _ => Err(error),
    })
}

/// Makes sure that a file which was just made is still there after a loss of power.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether a file that is not empty lacks its last line break. A pipe can't be read back.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if !file.metadata()?.is_file() || file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
