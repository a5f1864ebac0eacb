//! The names in a directory: those that programs see, and those after a loss of power.
//!
//! The contents of files are in `content`.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::content::Loss;

/// The inode number of a file, which is independent of its name.
pub(crate) type Number = usize;

#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    seen: BTreeMap<String, Number>,
    synced: BTreeMap<String, Number>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    name: String,
    /// `None` if the name is removed.
    file: Option<Number>,
}

impl Names {
    pub(crate) fn get(&self, name: &str) -> Option<Number> {
        self.seen.get(name).copied()
    }

    pub(crate) fn set(&mut self, name: &str, file: Option<Number>) {
        let name = name.to_owned();
        let change = Change { name, file };
        change.reach(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(crate) fn sync(&mut self) {
        self.synced.clone_from(&self.seen);
        self.unsynced.clear();
    }

    /// The names after a loss of power.
    pub(crate) fn after(&self, loss: Loss, random: &mut Rng) -> BTreeMap<String, Number> {
        let mut names = self.synced.clone();
        for change in &self.unsynced {
            match loss {
                Loss::Everything => {}
                Loss::Nothing => change.reach(&mut names),
                Loss::After(_) | Loss::Random if random.bool() => change.reach(&mut names),
                Loss::After(_) | Loss::Random => {}
            }
        }
        names
    }

    /// The names after a kill: all.
    pub(crate) fn seen(&self) -> &BTreeMap<String, Number> {
        &self.seen
    }
}

impl Change {
    fn reach(&self, names: &mut BTreeMap<String, Number>) {
        match self.file {
            Some(file) => names.insert(self.name.clone(), file),
            None => names.remove(&self.name),
        };
    }
}
