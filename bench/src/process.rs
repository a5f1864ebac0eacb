//! A process as Linux reports it: its processor time, memory, threads and open files.

use std::fs;
use std::iter::Sum;

use anyhow::{Context as _, Result};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The peak resident memory.
    pub(crate) peak: u64,
    /// The resident memory.
    pub(crate) resident: u64,
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let none = Self {
            peak: 0,
            resident: 0,
        };
        all.fold(none, |sum, it| Self {
            peak: sum.peak + it.peak,
            resident: sum.resident + it.resident,
        })
    }
}

/// The processor time of all threads of a process so far, in seconds, including those that have ended.
pub(crate) fn cpu_seconds(id: u32) -> Result<f64> {
    let text = read(id, "stat")?;
    let ticks = parse_stat(&text).with_context(|| format!("no processor time in {text:?}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The memory of a process.
pub(crate) fn memory(id: u32) -> Result<Memory> {
    let text = read(id, "status")?;
    parse_status(&text).with_context(|| format!("no memory in {text:?}"))
}

/// The number of threads of a process.
pub(crate) fn threads(id: u32) -> Result<u64> {
    let text = read(id, "status")?;
    parse_threads(&text).with_context(|| format!("no threads in {text:?}"))
}

/// The number of open file descriptors of a process.
pub(crate) fn open_files(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/fd");
    let files = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(files.count() as u64)
}

fn read(id: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{id}/{name}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// User and system time of `/proc/PID/stat`, in ticks. The name of the program is in parentheses before them,
/// and may itself contain any of these characters.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    // `man 5 proc` counts from 1, two of them before the parenthesis.
    let mut fields = fields.split_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_status(text: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Memory {
        peak: bytes("VmHWM:")?,
        resident: bytes("VmRSS:")?,
    })
}

fn parse_threads(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Memory, parse_stat, parse_status, parse_threads};

    #[test]
    fn time_includes_user_and_system() {
        let stat = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 3123 0 7 0 512 301 5 9 20 0 3 0 8137 2293760 401 18446744073709551615 1 1 0";
        assert_eq!(parse_stat(stat), Some(512 + 301));
        assert_eq!(parse_stat("4242 (cut off) S 1 4242"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tnode\nVmPeak:\t  616576 kB\nVmHWM:\t   46124 kB\nVmRSS:\t   45056 kB\nThreads:\t11\n";
        let memory = Memory {
            peak: 46_124 * 1024,
            resident: 45_056 * 1024,
        };
        assert_eq!(parse_status(status), Some(memory));
        assert_eq!(parse_threads(status), Some(11));
        assert_eq!(parse_status("Name:\tzombie\nThreads:\t1\n"), None);
    }
}
