//! `export`: events of a store as lines of JSON.

use anyhow::Result;

use crate::arguments::Export;
use crate::output;
use crate::reader::Reader;
use crate::store::{PROGRESS_EVENTS, progress_bar};

/// Writes the events in the order that the store has them in.
pub(crate) fn export(arguments: &Export) -> Result<()> {
    let store = Reader::open(&arguments.store.url)?;
    let bar = progress_bar(store.count()?);
    let mut events = 0;
    output::write_with(&arguments.output, |out| {
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
        )
    })?;
    bar.finish_and_clear();
    Ok(())
}
