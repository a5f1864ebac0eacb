//! What the sinks over `wasi:keyvalue` have in common: which bucket, and which names.
//!
//! Never opens a bucket.

use alloc::format;
use alloc::string::String;

use crate::name::escape;
use crate::setting;

/// The bucket that platforms have ready.
const DEFAULT_BUCKET: &str = "default";

/// The bucket to keep events in: `ALLDATA_PEER_KEYVALUE_BUCKET`, `default` unless given.
#[must_use]
pub fn bucket() -> String {
    setting::read("ALLDATA_PEER_KEYVALUE_BUCKET").unwrap_or_else(|| DEFAULT_BUCKET.into())
}

/// The name of a key in a bucket: what belongs to events is kept apart by `kind`. NATS takes the
/// fewest characters of all stores: letters, digits, `-`, `_`, `=`, `/` and, not everywhere, `.`.
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
    fn a_name_has_what_every_store_takes() {
        assert_eq!(
            name("event", "2013T0-a_b.c=é /"),
            "event/2013T0-a_b=2ec=3d=c3=a9=20=2f"
        );
    }
}
