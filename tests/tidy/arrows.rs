//! Dependencies between the files of the host, read from their `use` lines: no circles, and one direction
//! between rooms.
//!
//! A name that a module re-exports is resolved to the file that defines it, so a `mod.rs` that only re-exports
//! its children is in no circle. `#[cfg(test)]` modules are exempt.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{assert_none, root};

/// The rooms of the library, from the top: each may use those below it. Rooms on the same line do not use each
/// other. The programs in `bin` are above all, and use only public items.
const ROOMS: [&[&str]; 9] = [
    &["admin"],
    &["server"],
    &["component"],
    &["sinks"],
    &["store"],
    &["sink"],
    &["metrics"],
    &["util"],
    &["error", "limits"],
];

/// The rooms whose members may use each other: files without other dependencies.
const LEAVES: &[&str] = ROOMS[ROOMS.len() - 1];

/// The longest chain of re-exports that is followed.
const MAX_REEXPORTS: usize = 8;

/// A module by its path from the root of its crate, which is empty.
type Module = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
struct Crate(BTreeMap<Module, Uses>);

/// The uses of a file: for each name in scope, its path, and whether it is re-exported.
#[derive(Default)]
struct Uses(Vec<(String, Vec<String>, bool)>);

#[test]
fn files_use_one_another_in_no_circle() {
    for (folder, main) in [
        ("host/src", "lib.rs"),
        ("host/src/bin/alldata-peer", "main.rs"),
    ] {
        let edges = Crate::read(&root().join(folder), main).edges();
        assert!(!edges.is_empty(), "nothing is used in {folder}");
        assert_none(circles(&edges).into_iter().map(|circle| {
            let inside =
                |(from, to): &&(Module, Module)| circle.contains(from) && circle.contains(to);
            let uses = edges.iter().filter(inside);
            let uses =
                uses.map(|(from, to)| format!("\n  {} uses {}", from.join("::"), to.join("::")));
            format!("{folder}: a circle:{}", uses.collect::<String>())
        }));
    }
}

#[test]
fn rooms_use_only_those_below_them() {
    let edges = Crate::read(&root().join("host/src"), "lib.rs").edges();
    assert_none(edges.iter().filter_map(|(from, to)| wrong_arrow(from, to)));
}

/// The violation of a use, if any.
fn wrong_arrow(from: &Module, to: &Module) -> Option<String> {
    let (from_room, to_room) = (from.first()?, to.first()?);
    if from_room == to_room {
        return None;
    }
    let level = |room: &String| ROOMS.iter().position(|rooms| rooms.contains(&&**room));
    let are_leaves = [from_room, to_room].map(|room| LEAVES.contains(&&**room)) == [true; 2];
    let is_down = match (level(from_room), level(to_room)) {
        (Some(from), Some(to)) => from < to || are_leaves,
        _ => false,
    };
    (!is_down).then(|| format!("{} uses {}", from.join("::"), to.join("::")))
}

impl Crate {
    fn read(folder: &Path, main: &str) -> Self {
        let mut this = Self::default();
        let text = fs::read_to_string(folder.join(main)).expect("reads");
        this.0.insert(Module::new(), Uses::of(&text));
        this.add(folder, &Module::new());
        this
    }

    fn add(&mut self, folder: &Path, parent: &Module) {
        for entry in fs::read_dir(folder).expect("lists") {
            let path = entry.expect("lists").path();
            let name = path.file_stem().expect("has a name").to_string_lossy();
            let module = [&parent[..], &[name.to_string()]].concat();
            if path.is_dir() {
                // Programs are crates of their own.
                if name != "bin" {
                    self.add(&path, &module);
                }
                continue;
            }
            let text = fs::read_to_string(&path).expect("reads");
            match &*name {
                "lib" | "main" => continue,
                "mod" => self.0.insert(parent.clone(), Uses::of(&text)),
                _ => self.0.insert(module, Uses::of(&text)),
            };
        }
    }

    /// Each pair of files of which one uses the other. A re-exported name counts for the files that use it.
    fn edges(&self) -> BTreeSet<(Module, Module)> {
        let mut edges = BTreeSet::new();
        for (module, uses) in &self.0 {
            for (_, path, _) in uses.0.iter().filter(|(_, _, is_public)| !is_public) {
                let file = self.file_of(module, path, MAX_REEXPORTS);
                edges.extend(file.map(|file| (module.clone(), file)));
            }
        }
        edges.retain(|(from, to)| from != to && !from.is_empty());
        edges
    }

    /// The file that defines the item of a path in a module; `None` if it is in another crate.
    fn file_of(&self, module: &Module, path: &[String], reexports: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let (mut file, mut rest) = match &**first {
            "crate" => (Module::new(), rest),
            "self" => (module.clone(), rest),
            "super" => (module[..module.len().checked_sub(1)?].to_vec(), rest),
            // A child of the module, or else a crate.
            _ if self.0.contains_key(&[&module[..], &path[..1]].concat()) => (module.clone(), path),
            _ => return None,
        };
        while let Some((name, below)) = rest.split_first() {
            if name == "super" {
                file.pop()?;
            } else if self.0.contains_key(&[&file[..], &rest[..1]].concat()) {
                file.push(name.clone());
            } else {
                return Some(self.owner_of(&file, name, reexports));
            }
            rest = below;
        }
        Some(file)
    }

    /// The file that defines a name of a file: another one, if it is imported.
    fn owner_of(&self, file: &Module, name: &str, reexports: usize) -> Module {
        let uses = self.0.get(file).into_iter().flat_map(|uses| &uses.0);
        let mut uses = uses.filter(|_| reexports > 0);
        let owner = uses.find(|(used, _, _)| used == name).map(|used| &used.1);
        let owner = owner.and_then(|path| self.file_of(file, path, reexports - 1));
        owner.unwrap_or_else(|| file.clone())
    }
}

impl Uses {
    fn of(text: &str) -> Self {
        let mut uses = Self::default();
        let mut lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
        while let Some(line) = lines.next() {
            let line = line.trim_start();
            let is_public = line.starts_with("pub");
            let words = line.split_once("use ").filter(|(before, _)| {
                before.is_empty() || before.starts_with("pub") && before.ends_with(' ')
            });
            if let Some((_, words)) = words {
                let mut tree = words.to_owned();
                while !tree.ends_with(';') {
                    let Some(line) = lines.next() else { break };
                    tree += line.trim_start();
                }
                uses.add(&[], tree.trim_end_matches(';'), is_public);
            } else if !line.starts_with("//") {
                // A path within an expression.
                for path in line.split("crate::").skip(1) {
                    let end = |char: char| !(char.is_alphanumeric() || "_:".contains(char));
                    let path = path.split(end).next().unwrap_or_default();
                    uses.add(&["crate".to_owned()], path, false);
                }
            }
        }
        uses
    }

    /// Adds each path of a `use` tree.
    fn add(&mut self, before: &[String], tree: &str, is_public: bool) {
        let tree = tree.trim();
        if let Some((path, group)) = tree.split_once('{') {
            let group = group.strip_suffix('}').expect("a group ends");
            let before = [before, &segments(path)].concat();
            let mut depth = 0;
            let parts = group.split(|char| {
                depth += i32::from(char == '{') - i32::from(char == '}');
                char == ',' && depth == 0
            });
            for part in parts.filter(|part| !part.trim().is_empty()) {
                self.add(&before, part, is_public);
            }
            return;
        }
        let (path, name) = match tree.split_once(" as ") {
            Some((path, name)) => (path, Some(name.to_owned())),
            None => (tree, None),
        };
        let mut path = [before, &segments(path)].concat();
        // In a group, the module before the group.
        path.pop_if(|last| last == "self" && !before.is_empty());
        if let Some(last) = path.last().cloned() {
            self.0.push((name.unwrap_or(last), path, is_public));
        }
    }
}

fn segments(path: &str) -> Vec<String> {
    let segments = path.split("::").map(str::trim);
    let segments = segments.filter(|segment| !segment.is_empty());
    segments.map(str::to_owned).collect()
}

/// The files of each circle: those that reach one another.
fn circles(edges: &BTreeSet<(Module, Module)>) -> BTreeSet<BTreeSet<Module>> {
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| from == module) {
                if reached.insert(to) {
                    next.push(to);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&Module, BTreeSet<&Module>> = edges
        .iter()
        .map(|(from, _)| (from, reached(from)))
        .collect();
    let in_circles = all.iter().filter(|(file, reached)| reached.contains(*file));
    let circles = in_circles.map(|(file, reached)| {
        let others = reached.iter().filter(|other| {
            let back = all.get(*other);
            back.is_some_and(|back| back.contains(file))
        });
        others.map(|other| (*other).clone()).collect()
    });
    circles.collect()
}

#[test]
fn paths_are_read_from_use_lines() {
    let uses = Uses::of(
        "use crate::sink::{self, PutSink, errors::{A, B as C}};\npub(crate) use super::x::Y;\n\
         use std::fs;\nfn f() { crate::util::g(); } // crate::none::h\n#[cfg(test)]\nuse crate::z;\n",
    );
    let paths: Vec<String> = uses.0.iter().map(|(_, path, _)| path.join("::")).collect();
    assert_eq!(
        paths[..6],
        [
            "crate::sink",
            "crate::sink::PutSink",
            "crate::sink::errors::A",
            "crate::sink::errors::B",
            "super::x::Y",
            "std::fs"
        ]
    );
    assert_eq!(uses.0[3].0, "C");
    assert!(uses.0[4].2 && !uses.0[5].2);
}

#[test]
fn circle_and_wrong_arrow_are_found() {
    let module = |path: &str| segments(path);
    let files = [
        ("", "pub mod sink;"),
        ("sink", "mod queue;\npub use queue::Queue;"),
        ("sink::queue", "use crate::sinks::file::File;"),
        ("sinks", ""),
        (
            "sinks::file",
            "use crate::sink::Queue;\nuse crate::error::Error;",
        ),
        ("error", ""),
    ];
    let files = files.map(|(path, text)| (module(path), Uses::of(text)));
    let edges = Crate(files.into_iter().collect()).edges();
    let circle = ["sink::queue", "sinks::file"].map(module);
    assert_eq!(circles(&edges), BTreeSet::from([BTreeSet::from(circle)]));
    let wrong = edges.iter().filter_map(|(from, to)| wrong_arrow(from, to));
    assert_eq!(wrong.collect::<Vec<_>>(), ["sink::queue uses sinks::file"]);
}
