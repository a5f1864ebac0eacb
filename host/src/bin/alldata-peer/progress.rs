//! A progress bar that counts events.

use indicatif::{ProgressBar, ProgressStyle};

/// How many events pass between two changes of a progress bar.
pub(crate) const PROGRESS_EVENTS: u64 = 1000;

/// A bar on standard error; nothing where that is no terminal.
pub(crate) fn progress_bar(events: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} events, {eta}");
    ProgressBar::new(events).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
