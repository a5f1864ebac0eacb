//! The metrics of the process, by the names that all programs have them under. Linux only.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// The metrics of the process, read when they are asked for.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

#[cfg(not(target_os = "linux"))]
impl Collector for ProcessMetrics {
    fn encode(&self, _encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        linux::encode(encoder)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fmt, fs};

    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::registry::Unit;

    use crate::admin::families::Families;

    /// The unit of times in `/proc/self/stat`: 100 Hz on every architecture, as Linux tells user space.
    const TICKS_PER_SECOND: f64 = 100.0;

    /// The fields of `/proc/self/stat` that are used, counted from the one after the name of the program.
    const USER_TICKS: usize = 11;
    const SYSTEM_TICKS: usize = 12;
    const START_TICKS: usize = 19;
    const VIRTUAL_BYTES: usize = 20;

    pub(super) fn encode(encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program is in parentheses, and may contain any character.
        let stat = stat.rsplit_once(')').map_or("", |(_, stat)| stat);
        let field = |number: usize| {
            stat.split_ascii_whitespace()
                .nth(number)?
                .parse::<f64>()
                .ok()
        };
        if let (Some(user), Some(system)) = (field(USER_TICKS), field(SYSTEM_TICKS)) {
            let seconds = (user + system) / TICKS_PER_SECOND;
            let help = "Processor time of the process, user and system";
            families.counter("process_cpu", help, Some(Unit::Seconds), seconds)?;
        }
        if let (Some(start), Some(boot)) = (field(START_TICKS), boot_time()) {
            let seconds = boot + start / TICKS_PER_SECOND;
            let help = "When the process started, since 1970 UTC";
            families.gauge("process_start_time", help, Some(Unit::Seconds), seconds)?;
        }
        if let Some(bytes) = field(VIRTUAL_BYTES) {
            let help = "Address space of the process";
            families.gauge("process_virtual_memory", help, Some(Unit::Bytes), bytes)?;
        }
        if let Some(bytes) = status_bytes("VmRSS:") {
            let help = "Memory of the process that is in RAM";
            families.gauge("process_resident_memory", help, Some(Unit::Bytes), bytes)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them reads the directory.
            let open = open.count().saturating_sub(1) as u64;
            families.gauge("process_open_fds", "Open files of the process", None, open)?;
        }
        if let Some(max) = max_open_files() {
            let help = "The limit on open files of the process";
            families.gauge("process_max_fds", help, None, max)?;
        }
        Ok(())
    }

    /// When the system started, in seconds since 1970 UTC.
    fn boot_time() -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        boot.trim().parse().ok()
    }

    /// A line of `/proc/self/status` that is in kB.
    fn status_bytes(name: &str) -> Option<f64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024.0)
    }

    fn max_open_files() -> Option<f64> {
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let mut lines = limits.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }
}
