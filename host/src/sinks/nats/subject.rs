//! Keys as the last token of a subject, and back.
//!
//! The encoding is reversible, readable for ordinary keys, and the same for every peer.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The characters that are percent-encoded: all but letters, digits and the separators of ordinary keys. A token must
/// not have white space, `.`, `*` or `>`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b':');

/// The longest prefix in bytes. The longest key is 3072 bytes when encoded, and a server reads 4096
/// bytes of subject, inbox and sizes.
const MAX_PREFIX_BYTES: usize = 256;

/// The first tokens of the subjects of all events of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubjectPrefix(String);

impl SubjectPrefix {
    /// # Errors
    ///
    /// A sentence that tells why `subject` is invalid.
    pub(super) fn new(subject: &str) -> Result<Self, String> {
        let is_fit = |byte: u8| byte.is_ascii_graphic() && !b"*>".contains(&byte);
        if subject.len() > MAX_PREFIX_BYTES {
            return Err(format!(
                "the subject has more than {MAX_PREFIX_BYTES} bytes"
            ));
        }
        if !subject.bytes().all(is_fit) || subject.split('.').any(str::is_empty) {
            return Err(format!(
                "{subject:?} is no valid subject: it has to be tokens without white space, * or >, separated by dots"
            ));
        }
        if subject.starts_with(['$', '_']) {
            return Err(format!(
                "{subject:?} is not allowed: subjects that start with $ or _ belong to the servers"
            ));
        }
        Ok(Self(subject.to_owned()))
    }

    /// The subject of the event under a key.
    pub(super) fn subject(&self, key: &str) -> String {
        let mut subject = String::with_capacity(self.0.len() + 1 + key.len());
        subject.push_str(&self.0);
        subject.push('.');
        subject.extend(utf8_percent_encode(key, ENCODED));
        subject
    }

    /// The key of the event with this subject, if it is the subject of a key.
    pub(super) fn key(&self, subject: &str) -> Option<String> {
        let token = subject.strip_prefix(&self.0)?.strip_prefix('.')?;
        let key = percent_decode_str(token).decode_utf8().ok();
        let key = key.map(Cow::into_owned).filter(|key| !key.is_empty());
        // A second spelling of a key would be a second place to store it.
        key.filter(|key| self.subject(key) == subject)
    }

    /// A subject that no event has: in the subject of a key, two digits follow each per cent sign.
    pub(super) fn unused_subject(&self) -> String {
        format!("{}.%", self.0)
    }

    /// The pattern of the subjects of all events.
    pub(super) fn wildcard(&self) -> String {
        format!("{}.*", self.0)
    }

    /// Whether a stream with the subject `pattern` stores every event.
    pub(super) fn is_covered_by(&self, pattern: &str) -> bool {
        let mut tokens = self.0.split('.').chain(["*"]);
        let mut patterns = pattern.split('.');
        loop {
            match (tokens.next(), patterns.next()) {
                (Some(_), Some(">")) | (None, None) => return true,
                (Some(_), Some("*")) => {}
                (Some(token), Some(pattern)) if token == pattern => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_PREFIX_BYTES, SubjectPrefix};

    fn prefix() -> SubjectPrefix {
        SubjectPrefix::new("alldata").expect("is one")
    }

    #[test]
    fn ordinary_keys_are_readable() {
        for key in ["20130927T005240652508858176", "key-1_a:b"] {
            assert_eq!(prefix().subject(key), format!("alldata.{key}"));
        }
    }

    #[test]
    fn every_key_is_one_token_and_is_decoded_again() {
        let long = "é".repeat(512);
        for key in [
            " ", ".", "a.b", "*", ">", "%", "%41", "a\0b", "\t\r\n", "é", &long,
        ] {
            let subject = prefix().subject(key);
            assert!(subject.is_ascii());
            assert_eq!(subject.matches('.').count(), 1, "{subject}");
            assert!(!subject.contains(['*', '>', ' ', '\0']), "{subject}");
            assert_eq!(prefix().key(&subject).as_deref(), Some(key));
        }
    }

    #[test]
    fn other_subjects_have_no_key() {
        for subject in [
            "alldata",
            "alldata.",
            "other.a",
            "alldataa.b",
            "alldata.a.b",
            "alldata.%41",
            "alldata.%2e",
            "alldata.%FF",
            "alldata.%",
            "alldata.a/b",
        ] {
            assert_eq!(prefix().key(subject), None, "{subject}");
        }
        assert_eq!(prefix().key(&prefix().unused_subject()), None);
    }

    #[test]
    fn prefix_is_one_or_more_tokens() {
        let long = "a".repeat(MAX_PREFIX_BYTES + 1);
        for subject in [
            "", ".", "a.", ".a", "a..b", "a b", "*", "a.>", "é", "$JS", "_INBOX", &long,
        ] {
            assert!(SubjectPrefix::new(subject).is_err(), "{subject}");
        }
        let prefix = SubjectPrefix::new("a.b").expect("is one");
        assert_eq!(prefix.subject("c"), "a.b.c");
        assert_eq!(prefix.key("a.b.c").as_deref(), Some("c"));
    }

    #[test]
    fn wider_patterns_cover_a_prefix() {
        let prefix = SubjectPrefix::new("a.b").expect("is one");
        for pattern in ["a.b.*", "a.b.>", "a.>", ">", "*.b.*", "*.*.*"] {
            assert!(prefix.is_covered_by(pattern), "{pattern}");
        }
        for pattern in [
            "a.b", "a.*", "a.b.c", "a.b.*.*", "a.b.*.>", "b.>", "a.c.*", "",
        ] {
            assert!(!prefix.is_covered_by(pattern), "{pattern}");
        }
    }
}
