//! Events as lines, one put a line, for piping.
//!
//! Appends every put and knows no keys: a repeated put stands twice. Never reads what it wrote.

use std::io::{self, Stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::append_file::AppendFile;
use crate::error::Error;
use crate::sink::group_commit::{Closed, GroupCommit, QueueLimits, Record, Writer};
use crate::sink::reopen::{Reopen, ReopenRequest};
use crate::sink::{BoxSink, PutError, PutSink, SinkInternals};
use crate::store::check_appendable;
use crate::util::ndjson::put_line;

/// The path of standard output, where systems have one.
const STDOUT_PATH: &str = "/dev/stdout";

/// How long there is no put before the file is looked at, and then again and again: that is what may be lost
/// of a file that is removed, where the process is killed after it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A sink that appends `{"key":…,"event":…}` and a line break for each put.
///
/// A file is synced before a put is acknowledged; standard output is flushed. A file that was moved away is replaced
/// by a new one when the server is told to reload.
#[derive(Debug)]
pub struct NdjsonSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    commit: GroupCommit<LineWriter>,
    /// `None` for standard output.
    reopening: Option<Arc<ReopenRequest>>,
}

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
        let reopening = Arc::<ReopenRequest>::default();
        let file = AppendFile::open(path, Arc::clone(&reopening))?;
        let path = file.path().to_owned();
        Self::start(path, limits, Output::File(file), Some(reopening))
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
        let output = Output::Stdout {
            stdout: io::stdout(),
            is_torn: false,
        };
        Self::start("-".into(), limits, output, None)
    }

    fn start(
        path: PathBuf,
        limits: QueueLimits,
        output: Output,
        reopening: Option<Arc<ReopenRequest>>,
    ) -> Result<Self, Error> {
        let writer = LineWriter {
            path: path.clone(),
            output,
        };
        GroupCommit::start("ndjson-writer", limits, writer)
            .map(|commit| Self(Arc::new(Shared { commit, reopening })))
            .map_err(|source| Error::Thread { path, source })
    }
}

impl PutSink for NdjsonSink {
    async fn put(&self, key: String, event: String) -> Result<(), PutError> {
        let ((), _record) = self.0.commit.put(Record { key, event }).await?;
        Ok(())
    }

    fn boxed(self) -> BoxSink {
        let reasons = self.0.commit.unavailable_reasons();
        let metrics = self.0.commit.metrics();
        let reopen = Arc::downgrade(&self.0);
        let is_file = self.0.reopening.is_some();
        let internals = SinkInternals {
            reasons,
            metrics: Some(metrics),
            reopen: is_file.then_some(reopen as Weak<dyn Reopen>),
        };
        BoxSink::with_internals(self, internals)
    }
}

impl Reopen for Shared {
    fn reopen(&self) -> Result<(), Error> {
        if let Some(reopening) = &self.reopening {
            // A batch may be waiting for it.
            reopening.make();
        }
        self.commit.reopen()
    }
}

#[derive(Debug)]
enum Output {
    File(AppendFile),
    Stdout {
        stdout: Stdout,
        /// Whether it ends within a line.
        is_torn: bool,
    },
}

#[derive(Debug)]
struct LineWriter {
    path: PathBuf,
    output: Output,
}

impl Writer for LineWriter {
    type Written = ();

    fn write(&mut self, records: &[Record]) -> Vec<Result<(), PutError>> {
        let lines = records
            .iter()
            .map(|record| put_line(&record.key, &record.event));
        let lines: String = lines.collect();
        let written = match &mut self.output {
            Output::File(file) => file.append(lines).map_err(|error| error.to_string()),
            Output::Stdout { stdout, is_torn } => {
                print(&mut stdout.lock(), lines, is_torn).map_err(|error| error.to_string())
            }
        };
        let result = written.map_err(|reason| {
            PutError::Failed(format!("cannot write {}: {reason}", self.path.display()))
        });
        vec![result; records.len()]
    }

    fn idle_interval(&self) -> Option<Duration> {
        match &self.output {
            Output::File(file) if file.is_checked() => Some(LOOK_INTERVAL),
            _ => None,
        }
    }

    fn idle(&mut self) {
        if let Output::File(file) = &mut self.output {
            file.look();
        }
    }

    fn reopen(&mut self) -> Result<(), Error> {
        match &mut self.output {
            Output::File(file) => file.reopen(),
            Output::Stdout { .. } => Ok(()),
        }
    }

    fn close(&mut self) -> Closed {
        let has_lost = match &mut self.output {
            Output::File(file) => file.finish(),
            Output::Stdout { .. } => false,
        };
        if has_lost {
            Closed::EventsLost
        } else {
            Closed::Complete
        }
    }
}

/// Writes lines to standard output, after an end for the line that it ends within.
fn print(stdout: &mut impl io::Write, mut lines: String, is_torn: &mut bool) -> io::Result<()> {
    if *is_torn {
        lines.insert(0, '\n');
    }
    let written = stdout.write_all(lines.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    *is_torn = written.is_err();
    written
}
