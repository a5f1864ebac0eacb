//! The text of `--version`: the program, its commit, and what it is built from.

use std::sync::LazyLock;

/// The features that change what the program can do.
const FEATURES: [(&str, bool); 4] = [
    ("admin", cfg!(feature = "admin")),
    ("nats", cfg!(feature = "nats")),
    ("otlp", cfg!(feature = "otlp")),
    ("tls", cfg!(feature = "tls")),
];

/// The version, and a line for each part that a report of a defect should name. `-V` prints the version alone.
pub(crate) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features = FEATURES.iter().filter(|(_, is_on)| *is_on);
        let features: Vec<&str> = features.map(|(name, _)| *name).collect();
        format!(
            "{}\ncommit: {}\nwasmtime: {}\nSQLite: {}\nfeatures: {}",
            env!("CARGO_PKG_VERSION"),
            env!("BUILD_COMMIT"),
            env!("BUILD_WASMTIME"),
            rusqlite::version(),
            features.join(" ")
        )
    });
    &TEXT
}
