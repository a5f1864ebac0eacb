//! Shared code of the sinks over `wasi:keyvalue`: the bucket, and the names in it.

use alloc::format;
use alloc::string::String;

use crate::env;
use crate::name::escape;

/// The bucket that every platform has.
const DEFAULT_BUCKET: &str = "default";

/// The bucket to keep events in: `ALLDATA_PEER_KEYVALUE_BUCKET`, `default` unless given.
#[must_use]
pub fn bucket() -> String {
    env::read("ALLDATA_PEER_KEYVALUE_BUCKET").unwrap_or_else(|| DEFAULT_BUCKET.into())
}

/// The name of a key in a bucket, with the `kind` of its value as a prefix. Of all stores NATS accepts the
/// fewest characters: letters, digits, `-`, `_`, `=`, `/` and, not everywhere, `.`.
#[must_use]
pub fn name(kind: &str, key: &str) -> String {
    let name = escape(key, '=', |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
    });
    format!("{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn name_has_characters_of_every_store() {
        assert_eq!(
            name("event", "2013T0-a_b.c=é /"),
            "event/2013T0-a_b=2ec=3d=c3=a9=20=2f"
        );
    }
}
