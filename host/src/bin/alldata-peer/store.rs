//! `get` and `verify`: what is in a store, and whether it is as it was put.

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{Get, Verify};
use crate::output;
use crate::reader::Reader;

/// How many events pass between two changes of a progress bar.
pub(crate) const PROGRESS_EVENTS: u64 = 1000;

/// Prints the event under a key.
pub(crate) fn get(arguments: &Get) -> Result<()> {
    let store = Reader::open(&arguments.store.url)?;
    let Some(event) = store.get(&arguments.key)? else {
        bail!("no event under the key {:?}", arguments.key);
    };
    output::write_line(&event)
}

/// Recomputes every digest. What is damaged is listed on standard error.
pub(crate) fn verify(arguments: &Verify) -> Result<()> {
    let store = Reader::open(&arguments.store.url)?;
    // A damaged page may keep a store from being counted, and is what is to be told.
    let bar = progress_bar(store.count().unwrap_or(0));
    let progress = |events| {
        if events % PROGRESS_EVENTS == 0 {
            bar.set_position(events);
        }
    };
    let mut found = store.verify(progress)?;
    let faults = store.replica_faults(arguments.all_replicas, progress)?;
    found.structure.extend(faults);
    bar.finish_and_clear();
    for key in &found.damaged {
        output::report(&format!("damaged: {key:?}"));
    }
    for line in &found.structure {
        output::report(&format!("structure: {line}"));
    }
    if !found.is_clean() {
        bail!(
            "{} of {} events are damaged, {} faults in the structure of the store",
            found.damaged.len(),
            found.events,
            found.structure.len()
        );
    }
    output::write_line(&format!("{} events, all as they were put", found.events))
}

/// A bar on standard error; nothing where that is no terminal.
pub(crate) fn progress_bar(events: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} events, {eta}");
    ProgressBar::new(events).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
