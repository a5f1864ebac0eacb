//! Style rules that can be checked by reading the tree: lengths, forbidden words, and names in the
//! documentation.

mod arrows;
mod map;
mod named_tests;
mod rooms;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file: more is more than one subject.
const MAX_FILE_LINES: usize = 500;

/// The most lines of a function, so that it fits one screen.
const MAX_FUNCTION_LINES: usize = 70;

/// The most lines of the program's `main.rs`, which only parses, builds and runs.
const MAX_MAIN_LINES: usize = 100;

/// The most lines of ARCHITECTURE.md.
const MAX_ARCHITECTURE_LINES: usize = 180;

/// The folders that hold Rust.
const FOLDERS: [&str; 5] = ["bench", "deploy/oci", "guest", "host", "tests"];

#[test]
fn every_file_opens_with_its_purpose() {
    assert_none(
        rust_files()
            .iter()
            .filter(|(_, text)| !text.starts_with("//! "))
            .map(|(path, _)| format!("{} does not open with //!", path.display())),
    );
}

#[test]
fn no_file_is_too_long() {
    assert_none(rust_files().iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > MAX_FILE_LINES).then(|| format!("{} has {lines} lines", path.display()))
    }));
}

#[test]
fn no_function_is_too_long() {
    assert_none(rust_files().iter().flat_map(|(path, text)| {
        long_functions(text)
            .into_iter()
            .map(|(line, lines)| format!("{}:{line}: a function of {lines} lines", path.display()))
    }));
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    // In two parts, so that this file does not match.
    let words = [concat!("sle", "ep("), concat!("#[ig", "nore")];
    assert_none(
        rust_files()
            .iter()
            .filter(|(path, _)| path.starts_with("tests"))
            .flat_map(|(path, text)| {
                words
                    .iter()
                    .filter(|word| text.contains(**word))
                    .map(|word| format!("{} has {word}", path.display()))
            }),
    );
}

/// The tests in `host/src` are in the package of the server, which has no crates that are not published.
#[test]
fn unit_tests_of_server_use_published_crates_only() {
    let unpublished = "alldata_peer_test_support";
    let files = rust_files().into_iter();
    let of_server = files.filter(|(path, _)| path.starts_with("host/src"));
    assert_none(
        of_server
            .filter(|(_, text)| text.contains(unpublished))
            .map(|(path, _)| format!("{} has {unpublished}", path.display())),
    );
}

#[test]
fn documents_stay_short() {
    for (file, most) in [
        ("host/src/bin/alldata-peer/main.rs", MAX_MAIN_LINES),
        ("ARCHITECTURE.md", MAX_ARCHITECTURE_LINES),
    ] {
        let text = fs::read_to_string(root().join(file)).expect("reads");
        let lines = text.lines().count();
        assert!(lines < most, "{file} has {lines} lines");
    }
}

/// Variables that the manifests and the documentation name are read by the program.
#[test]
fn documented_variables_exist() {
    let sources: Vec<String> = rust_files().into_iter().map(|(_, text)| text).collect();
    let is_unknown = |name: &&str| {
        !sources
            .iter()
            .any(|text| text.contains(&format!("\"{name}\"")))
    };
    for file in [
        "README.md",
        "docs/configuration.md",
        "docs/deploy.md",
        "docs/nats-sink.md",
        "docs/operations.md",
        "deploy/spin/spin.toml",
        "deploy/wasmcloud/.wash/config.yaml",
        "deploy/wasmcloud/workloaddeployment.yaml",
    ] {
        let text = fs::read_to_string(root().join(file)).expect("reads");
        let words = text.split(|char: char| !char.is_ascii_uppercase() && char != '_');
        let variables = words.filter(|word| word.starts_with("ALLDATA_PEER_"));
        assert_none(
            variables
                .filter(is_unknown)
                .map(|name| format!("{file} has {name}")),
        );
    }
}

/// Tests that the documentation names, by their paths below `tests/e2e`, exist as a function, a file or a
/// folder.
/// file or a folder.
#[test]
fn cited_tests_exist() {
    let files = rust_files();
    let is_there = |name: &str| {
        let path = root().join("tests/e2e").join(name.replace("::", "/"));
        let function = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
        path.is_dir()
            || path.with_extension("rs").is_file()
            || files
                .iter()
                .any(|(file, text)| file.starts_with("tests") && text.contains(&function))
    };
    for file in ["docs/reliability.md", "docs/deploy.md"] {
        let text = fs::read_to_string(root().join(file)).expect("reads");
        let cited = text.split('`').skip(1).step_by(2).filter(|name| {
            let is_path = |char: char| char.is_ascii_lowercase() || "_:0123456789".contains(char);
            name.contains("::") && name.chars().all(is_path)
        });
        let unknown = cited.filter(|name| !is_there(name));
        assert_none(unknown.map(|name| format!("{file} has {name}")));
    }
}

#[track_caller]
fn assert_none(findings: impl Iterator<Item = String>) {
    let findings: Vec<String> = findings.collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files with their paths from the root.
fn rust_files() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("lists") {
            let entry = entry.expect("lists");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("has a type").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(root().join(&path)).expect("reads");
                files.push((path, text));
            }
        }
    }
    assert!(files.len() > 20, "the tree is not where it was");
    files
}

/// The line and the length of each function that is too long. With default rustfmt a function ends at the first
/// brace with the indentation of its first line.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| {
        let words = line.trim_start();
        words.starts_with("fn ")
            || words.contains(" fn ") && words.starts_with("pub")
            || words.starts_with("async fn ")
    });
    starts
        .filter_map(|(start, line)| {
            // A declaration without a body.
            let opening = lines[start..]
                .iter()
                .find(|line| line.ends_with(['{', '}', ';']))?;
            opening.strip_suffix('{')?;
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == end)? + 1;
            (length > MAX_FUNCTION_LINES).then_some((start + 1, length))
        })
        .collect()
}

#[test]
fn long_function_is_found() {
    let body = "    x();\n".repeat(MAX_FUNCTION_LINES);
    assert_eq!(
        long_functions(&format!("fn long() {{\n{body}}}\n")),
        [(1, 72)]
    );
    assert_eq!(long_functions("fn short() {\n    x();\n}\n"), []);
    assert_eq!(
        long_functions(&format!("fn none();\nfn long() {{\n{body}}}\n")),
        [(2, 72)]
    );
    let declared = format!("    fn declared(\n        &self,\n    ) -> u8;\n{body}    }}\n");
    assert_eq!(long_functions(&declared), []);
}
