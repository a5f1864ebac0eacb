//! The path of an event below the root of the store.
//!
//! A file's name is its key with all bytes but `a`–`z`, `0`–`9`, `-` and `_` percent-encoded, so
//! that two keys never share a file, also where names ignore case. It is in one of 4096
//! directories, so that each has few of a million events. A name too long for a file system
//! is split over nested directories whose names end with `+`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alldata_peer_sink_common::name::escape;

/// The characters of a name in one level of directories: fewer than the 255 bytes of common file
/// systems, since encrypted and layered ones need some of them.
const LEVEL_BYTES: usize = 120;

/// The path of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventPath {
    /// The directories from the root of the store on; there is at least one.
    pub(crate) directories: Vec<String>,
    /// The name of the file in the last of them.
    pub(crate) file: String,
}

impl EventPath {
    pub(crate) fn of(key: &str) -> Self {
        let name = escape(
            key,
            '%',
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'),
        );
        let hash = blake3::hash(key.as_bytes());
        let fan_out = u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]) >> 4;
        let mut directories = alloc::vec![format!("{fan_out:03x}")];
        let mut rest = &*name;
        while rest.len() > LEVEL_BYTES {
            // All of it is ASCII.
            let (level, below) = rest.split_at(LEVEL_BYTES);
            directories.push(format!("{level}+"));
            rest = below;
        }
        Self {
            directories,
            file: rest.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::EventPath;

    #[test]
    fn file_is_named_after_its_key() {
        let path = EventPath::of("20130927T005240652508858176");
        assert_eq!(path.file, "20130927%54005240652508858176");
        assert_eq!(path.directories.len(), 1);
        assert_eq!(path.directories[0].len(), 3);
        assert_eq!(EventPath::of("../é").file, "%2e%2e%2f%c3%a9");
    }

    #[test]
    fn names_differ_where_case_is_ignored() {
        let names = ["key", "Key", "KEY", "%4b%45%59"].map(|key| EventPath::of(key).file);
        let lower: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
        assert_eq!(lower.len(), names.len());
    }

    #[test]
    fn long_key_is_split_over_directories() {
        let keys = [120, 121, 240, 241, 1024].map(|length| "k".repeat(length));
        for key in keys.into_iter().chain(["é".repeat(512)]) {
            let path = EventPath::of(&key);
            let levels = path.directories[1..].iter();
            let levels = levels.map(|level| level.strip_suffix('+').expect("is marked"));
            let mut name: String = levels.collect();
            assert!(path.directories.iter().all(|level| level.len() <= 121));
            assert!((1..=120).contains(&path.file.len()), "{}", path.file);
            name.push_str(&path.file);
            assert_eq!(name, key.replace('é', "%c3%a9"));
        }
    }

    #[test]
    fn keys_of_a_day_are_spread_evenly() {
        let keys = (0..100_000).map(|n| EventPath::of(&format!("20130927T0052{n:06}508858176")));
        let mut counts = std::collections::HashMap::new();
        for path in keys {
            *counts.entry(path.directories[0].clone()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4096);
        assert!(counts.values().all(|count| *count < 60), "24 would be even");
    }
}
