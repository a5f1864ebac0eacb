//! The resources of the server, second by second, and its kills; both as CSV. They are evaluated in `flatness`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::running::Running;
use crate::server::STORE;

/// The resources of a server at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// The time since the load began.
    pub(crate) seconds: f64,
    /// The life of the server, counted from 1.
    pub(crate) life: usize,
    /// The time since this server was started.
    pub(crate) life_seconds: f64,
    /// The resident memory, in bytes.
    pub(crate) memory: u64,
    pub(crate) open_files: u64,
    pub(crate) threads: u64,
    /// The number of 201s so far, of all lives.
    pub(crate) acknowledged: u64,
    /// The size of the database in bytes.
    pub(crate) database: u64,
    /// The size of its WAL in bytes.
    pub(crate) wal: u64,
}

/// A server was killed, and another was started in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kill {
    /// The time since the load began.
    pub(crate) seconds: f64,
    /// The time from the kill to the first 201 of the next server.
    pub(crate) outage_seconds: f64,
}

impl Sample {
    pub(crate) fn take(
        running: &Running,
        store: &Path,
        life: usize,
        seconds: f64,
        acknowledged: u64,
    ) -> Result<Self> {
        Ok(Self {
            seconds,
            life,
            life_seconds: running.age().as_secs_f64(),
            memory: running.memory()?.resident,
            open_files: running.open_files()?,
            threads: running.threads()?,
            acknowledged,
            database: fs::metadata(store.join(STORE))?.len(),
            // It does not exist until the first write.
            wal: fs::metadata(store.join(format!("{STORE}-wal"))).map_or(0, |file| file.len()),
        })
    }
}

/// The samples of each life.
pub(crate) fn lives(samples: &[Sample]) -> impl Iterator<Item = &[Sample]> {
    samples.chunk_by(|one, next| one.life == next.life)
}

/// The 201s per second at each sample, since the previous one in the same life.
pub(crate) fn rates(life: &[Sample]) -> Vec<(f64, f64)> {
    let pairs = life.array_windows();
    let rate = |[one, next]: &[Sample; 2]| {
        let puts = (next.acknowledged - one.acknowledged) as f64;
        (next.seconds, puts / (next.seconds - one.seconds))
    };
    pairs.map(rate).collect()
}

/// The samples as CSV. A kill is where the number of the life changes.
pub(crate) fn csv(samples: &[Sample]) -> String {
    let mut csv = "seconds,life,life_seconds,memory_bytes,open_files,threads,acknowledged,\
                   database_bytes,wal_bytes\n"
        .to_owned();
    for it in samples {
        let _ = writeln!(
            csv,
            "{:.2},{},{:.2},{},{},{},{},{},{}",
            it.seconds,
            it.life,
            it.life_seconds,
            it.memory,
            it.open_files,
            it.threads,
            it.acknowledged,
            it.database,
            it.wal
        );
    }
    csv
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Sample, csv, lives, rates};

    /// A sample of a life that began with the load.
    pub(crate) fn sample(life: usize, seconds: f64, memory: u64, open_files: u64) -> Sample {
        Sample {
            seconds,
            life,
            life_seconds: seconds,
            memory,
            open_files,
            threads: 5,
            acknowledged: (seconds * 100.0) as u64,
            database: 4096,
            wal: 0,
        }
    }

    #[test]
    fn rates_are_those_of_one_life() {
        let samples = [
            sample(1, 1.0, 9, 3),
            sample(1, 3.0, 9, 3),
            sample(2, 4.0, 9, 3),
        ];
        let rates: Vec<_> = lives(&samples).map(rates).collect();
        assert_eq!(rates, [vec![(3.0, 100.0)], vec![]]);
    }

    #[test]
    fn sample_is_a_row() {
        let csv = csv(&[sample(2, 1.5, 9, 3)]);
        let rows: Vec<&str> = csv.lines().collect();
        assert_eq!(rows[1], "1.50,2,1.50,9,3,5,150,4096,0");
        assert_eq!(rows[0].split(',').count(), rows[1].split(',').count());
    }
}
