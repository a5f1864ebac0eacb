//! `import` line by line: the lines that it accepts, its message about each other line, and its summary.

use std::fs;

use tempfile::TempDir;

use crate::support::{Output, run};

/// The longest line in bytes, without its line break.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

#[test]
fn oversized_line_is_one_bad_line() {
    let import = Import::new();
    for end in ["\n", "\r\n"] {
        let long = line("long", MAX_LINE_BYTES + 1);
        let lines = [
            line("a", 50),
            long.clone(),
            line("b", 50),
            long + &line("c", 50),
        ];
        let output = import.run(&lines.map(|line| line + end).concat());
        assert_eq!(output.code, Some(1), "{output:?}");
        for number in [2, 4] {
            let message = format!("line {number}: it has more than {MAX_LINE_BYTES} bytes\n");
            assert!(output.stderr.contains(&message), "{output:?}");
        }
        assert!(output.stdout.starts_with("2 events: "), "{output:?}");
        assert!(output.stdout.contains("2 bad"), "{output:?}");
    }
    assert_eq!(import.keys(), ["a", "b"]);
}

#[test]
fn line_ending_does_not_count_towards_limit() {
    for end in ["", "\n", "\r\n"] {
        let import = Import::new();
        let output = import.run(&(line("a", MAX_LINE_BYTES) + end));
        assert_eq!(output.assert_ok(), "1 events: 1 new, 0 present\n");
    }
}

#[test]
fn summary_counts_lines_by_result() {
    let import = Import::new();
    let lines =
        "{\"key\":\"a\",\"event\":1}\n{\"key\":\"a\",\"event\":1.0}\n{\"key\":\"b\",\"event\":1}\n";
    let output = import.run(lines);
    assert_eq!(output.assert_ok(), "3 events: 2 new, 1 present\n");
    let output = import.run(lines);
    assert_eq!(output.assert_ok(), "3 events: 0 new, 3 present\n");
    let more = "{\"key\":\"c\",\"event\":1}\n{\"key\":\"b\",\"event\":2}\nx\n\n{}\n";
    let output = import.run(&[lines, more].concat());
    assert_eq!(output.code, Some(1));
    let summary = "4 events: 1 new, 3 present; 3 not imported: 1 conflicting, 2 bad, 0 failed\n";
    assert_eq!(output.stdout, summary);
    assert!(
        output
            .stderr
            .ends_with("error: 3 lines were not imported\n"),
        "{output:?}"
    );
}

#[test]
fn message_has_one_line_number() {
    let import = Import::new();
    let lines = "\n\nnonsense\n{\"key\":1,\"event\":1}\n{\"key\":\"\u{1b}\",\"event\":1}\n";
    let output = import.run(lines);
    let messages: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(messages.len(), 4, "{output:?}");
    for (message, number) in messages.iter().zip(3..=5) {
        assert!(
            message.starts_with(&format!("line {number}: ")),
            "{message}"
        );
        assert_eq!(message.matches("line ").count(), 1, "{message}");
        assert!(message.contains("column"), "{message}");
    }
}

/// An import into a store of its own.
struct Import(TempDir);

impl Import {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("makes a directory"))
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.path().join("e.db").display())
    }

    fn run(&self, lines: &str) -> Output {
        let file = self.0.path().join("lines");
        fs::write(&file, lines).expect("is written");
        let by_file = run(&[
            "import",
            &file.display().to_string(),
            "--store",
            &self.url(),
        ]);
        fs::remove_file(file).expect("removes");
        by_file
    }

    fn keys(&self) -> Vec<String> {
        let exported = run(&["export", "--store", &self.url()]);
        exported.events().into_keys().collect()
    }
}

/// A line of `bytes` bytes.
fn line(key: &str, bytes: usize) -> String {
    let (head, tail) = (format!("{{\"key\":\"{key}\",\"event\":\""), "\"}");
    let event = "x".repeat(bytes - head.len() - tail.len());
    [&head, &event, tail].concat()
}
