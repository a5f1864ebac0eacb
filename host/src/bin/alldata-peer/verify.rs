//! `verify`: checks that the events of a store are as they were put.

use anyhow::{Result, bail};

use crate::arguments::Verify;
use crate::output;
use crate::progress::{PROGRESS_EVENTS, progress_bar};
use crate::reader::Reader;

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
