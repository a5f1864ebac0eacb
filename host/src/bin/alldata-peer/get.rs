//! `get`: prints one event of a store.

use anyhow::{Result, bail};

use crate::arguments::Get;
use crate::output;
use crate::reader::Reader;

/// Prints the event under a key.
pub(crate) fn get(arguments: &Get) -> Result<()> {
    let store = Reader::open(&arguments.store.url)?;
    let Some(event) = store.get(&arguments.key)? else {
        bail!("no event under the key {:?}", arguments.key);
    };
    output::write_line(&event)
}
