//! `export`: events of a store as lines of JSON.

use anyhow::{Result, bail};

use crate::arguments::Export;
use crate::output::{self, Output};
use crate::progress::{PROGRESS_EVENTS, progress_bar};
use crate::reader::Reader;

/// Writes the events in the order that the store has them in.
pub(crate) fn export(arguments: &Export) -> Result<()> {
    // First, so that an output which is refused changes nothing, nor what a reader leaves.
    let mut out = Output::open(&arguments.output)?;
    let store = Reader::open(&arguments.store.url)?;
    let bar = progress_bar(store.count()?);
    let mut events = 0;
    store.visit(
        arguments.from.as_deref(),
        arguments.to.as_deref(),
        |event| {
            out.write_all(event.to_line().as_bytes())?;
            events += 1;
            if events % PROGRESS_EVENTS == 0 {
                bar.set_position(events);
            }
            Ok(())
        },
    )?;
    let faults = store.replica_faults(arguments.all_replicas, |_| {})?;
    bar.finish_and_clear();
    for fault in &faults {
        output::report(fault);
    }
    if !faults.is_empty() {
        bail!("the replicas of the stream differ, so that what was exported may not be all");
    }
    out.finish()?;
    Ok(())
}
