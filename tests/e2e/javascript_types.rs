//! The types of the npm package, its exports, and its size.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{DEADLINE, Runtime, can_make, finish, installed_package};

/// The most bytes of all JavaScript and WebAssembly of the package, each file compressed by itself, as a browser loads
/// them.
const MAX_COMPRESSED_BYTES: usize = 60_000;

/// Prints the sum of them.
const COMPRESSED_BYTES: &str = "
import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
const files = readdirSync('.', { recursive: true }).filter((name) => /\\.(js|wasm)$/.test(name));
console.log(files.reduce((sum, name) => sum + gzipSync(readFileSync(name), { level: 9 }).length, 0));
";

/// A program that uses all exports, the file with the types and the exports of its platform, and the flags of tsc.
const PROGRAMS: [(&str, &str, &str, &[&str]); 3] = [
    (
        "node.ts",
        include_str!("../runtimes/types/node.ts"),
        "index",
        &["--module", "nodenext", "--types", "node"],
    ),
    (
        "worker.ts",
        include_str!("../runtimes/types/worker.ts"),
        "workerd",
        &[
            "--module",
            "esnext",
            "--moduleResolution",
            "bundler",
            "--customConditions",
            "workerd",
            "--lib",
            "es2023",
            "--types",
            "@cloudflare/workers-types",
        ],
    ),
    (
        "browser.ts",
        include_str!("../runtimes/types/browser.ts"),
        "browser",
        &[
            "--module",
            "esnext",
            "--moduleResolution",
            "bundler",
            "--customConditions",
            "browser",
            "--types",
            "",
        ],
    ),
];

#[test]
fn programs_with_strict_types_compile() {
    if !can_make("TypeScript", Runtime::Node.missing()) {
        return;
    }
    // As npm would install them: tsc looks for packages in the directories above a program.
    let directory = tempfile::tempdir().expect("makes a directory");
    let packages = directory.path().join("node_modules");
    fs::create_dir_all(packages.join("@cloudflare")).expect("makes a directory");
    let installed = Runtime::packages().join("node_modules");
    for name in ["@types", "undici-types", "@cloudflare/workers-types"] {
        symlink(installed.join(name), packages.join(name)).expect("links");
    }
    symlink(
        installed_package(),
        packages.join("alldata-peer-server-http"),
    )
    .expect("links");
    for (name, program, _, flags) in PROGRAMS {
        // Apart from each other, since their platforms have different globals.
        let folder = directory.path().join(name.replace(".ts", ""));
        fs::create_dir(&folder).expect("makes a directory");
        fs::write(folder.join("package.json"), r#"{"type":"module"}"#).expect("is written");
        fs::write(folder.join(name), program).expect("is written");
        let mut tsc = Command::new("node");
        tsc.arg(installed.join("typescript/bin/tsc"));
        tsc.args([
            "--noEmit",
            "--strict",
            "--target",
            "es2023",
            "--preserveSymlinks",
        ]);
        let output = finish(tsc.args(flags).arg(name).current_dir(folder), "", DEADLINE);
        assert_eq!(output.code, Some(0), "{name}: {}", output.stdout);
    }
}

#[test]
fn every_export_has_a_type_that_is_used() {
    let package = installed_package();
    let read = |name: &str| fs::read_to_string(package.join(name)).expect("reads");
    let common = declared(&read("lib/common.d.ts"));
    for (name, program, entry, _) in PROGRAMS {
        let own = declared(&read(&format!("{entry}.d.ts")));
        // The types that all platforms have in common are used on one.
        let used = if entry == "index" {
            &own | &common
        } else {
            own.clone()
        };
        let words: BTreeSet<&str> = program.split(|char: char| !is_name(char)).collect();
        for declared in used {
            assert!(words.contains(&*declared), "{name}: no {declared}");
        }
        let types = &own | &common;
        let exports = exported(&read(&format!("{entry}.js")));
        let exports = &exports | &exported(&read("lib/common.js"));
        assert!(exports.contains("peer"), "{exports:?}");
        for export in exports {
            assert!(types.contains(&export), "{entry}.d.ts: no {export}");
        }
    }
}

#[test]
fn package_stays_small() {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", COMPRESSED_BYTES]);
    let output = finish(node.current_dir(installed_package()), "", DEADLINE);
    let bytes: usize = output.assert_ok().trim().parse().expect("is a number");
    // The component alone has more than a third of it.
    let range = MAX_COMPRESSED_BYTES / 3..=MAX_COMPRESSED_BYTES;
    assert!(range.contains(&bytes), "{bytes}");
}

/// The names that a file with types declares and exports.
fn declared(types: &str) -> BTreeSet<String> {
    let lines = types
        .lines()
        .filter_map(|line| line.strip_prefix("export "));
    let lines = lines.filter_map(|line| {
        let kinds = ["class ", "function ", "interface ", "type "];
        kinds.iter().find_map(|kind| line.strip_prefix(kind))
    });
    let names = lines.filter_map(|line| line.split(|char: char| !is_name(char)).next());
    names.map(str::to_owned).collect()
}

/// The names in the lists of a module's exports, but for the aliases of one that is exported by its name.
fn exported(module: &str) -> BTreeSet<String> {
    let lists = module.lines().filter_map(|line| {
        let list = line.strip_prefix("export {")?;
        list.split('}').next()
    });
    let names = lists.flat_map(|list| list.split(','));
    let names = names.filter_map(|name| name.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}
