//! The versions, and the licence, that several files name: each of them is the same.

use std::fs;

use crate::root;

/// Where a person or a machine reads which Rust is needed, with the text before the number.
const RUST: [(&str, &str); 5] = [
    ("Cargo.toml", "rust-version = \""),
    ("guest/fuzz/Cargo.toml", "rust-version = \""),
    ("rust-toolchain.toml", "channel = \""),
    ("README.md", "Rust "),
    ("CONTRIBUTING.md", "Rust "),
];

/// The version of a release, and of the packages outside the workspace.
const RELEASE: [(&str, &str); 3] = [
    ("Cargo.toml", "\nversion = \""),
    (
        "Cargo.toml",
        "alldata-peer-protocol = { path = \"guest/protocol\", version = \"",
    ),
    ("deploy/javascript/package.json", "\"version\": \""),
];

/// The toolchain of `rust-toolchain.toml` builds and tests everything, so the oldest Rust that is promised is tested.
#[test]
fn rust_version_is_that_of_toolchain_and_documents() {
    let promised = versions("Cargo.toml", RUST[0].1).remove(0);
    for (file, before) in RUST {
        let found = versions(file, before);
        assert!(!found.is_empty(), "{file} names no version of Rust");
        for version in found {
            let is_same = version == promised || version.strip_prefix(&promised) == Some(".0");
            assert!(is_same, "{file} has {version}, Cargo.toml {promised}");
        }
    }
}

#[test]
fn workflows_name_no_other_toolchain() {
    let workflows = fs::read_dir(root().join(".github/workflows")).expect("lists");
    for workflow in workflows {
        let path = workflow.expect("lists").path();
        let text = fs::read_to_string(&path).expect("reads");
        for before in [
            "toolchain install ",
            "--default-toolchain ",
            "RUSTUP_TOOLCHAIN",
        ] {
            let names: Vec<_> = after(&text, before)
                .filter(|name| !name.is_empty())
                .collect();
            assert!(names.is_empty(), "{}: {names:?}", path.display());
        }
    }
}

#[test]
fn release_has_one_version() {
    let release = versions("Cargo.toml", RELEASE[0].1).remove(0);
    for (file, before) in RELEASE {
        assert_eq!(versions(file, before).first(), Some(&release), "{file}");
    }
}

#[test]
fn wit_package_has_licence_and_homepage_of_workspace() {
    let read = |file: &str| fs::read_to_string(root().join(file)).expect("reads");
    let (workspace, wit) = (read("Cargo.toml"), read("wkg.toml"));
    for (ours, theirs) in [("license", "licenses"), ("homepage", "homepage")] {
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("there is no {name}"))
                .to_owned()
        };
        assert_eq!(value(&workspace, ours), value(&wit, theirs), "{theirs}");
    }
}

/// The homepage is that of AllData, and not where this source is.
#[test]
fn wit_package_has_source_only_with_repository() {
    let value = |file: &str, name: &str| {
        let text = fs::read_to_string(root().join(file)).expect("reads");
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.map(|value| value.trim_start_matches([' ', '=']).to_owned())
    };
    assert_eq!(
        value("wkg.toml", "source"),
        value("host/Cargo.toml", "repository")
    );
}

/// The versions in a file that stand after this text.
fn versions(file: &str, before: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).expect("reads");
    let found = after(&text, before).filter(|version| !version.is_empty());
    found
        .map(|version| version.trim_end_matches('.').to_owned())
        .collect()
}

/// The digits and dots after each place of `before`.
fn after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(before).map(move |(at, _)| {
        let rest = &text[at + before.len()..];
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        &rest[..end.unwrap_or(rest.len())]
    })
}
