//! Finds the members of a put in the text of a body, without reading their values.

use core::ops::Range;

use crate::json_string::unescape;
use crate::skip::Skipper;

/// Where the two members that are used are in a body.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) key: Option<Range<usize>>,
    pub(crate) event: Option<Range<usize>>,
    /// Whether the body is ASCII.
    pub(crate) is_ascii: bool,
}

impl Members {
    /// Finds the members of an object; `None` if the body is not one. An object with a string that is not UTF-8 is taken
    /// for one.
    pub(crate) fn find(body: &[u8]) -> Option<Self> {
        let mut skipper = Skipper::new(body);
        let mut members = Self::default();
        skipper.white_space();
        skipper.byte(b'{')?;
        skipper.white_space();
        let mut has_ended = skipper.skips(b'}');
        while !has_ended {
            let name = skipper.name()?;
            skipper.byte(b':')?;
            members.add(name, skipper.value()?);
            has_ended = match skipper.next()? {
                b',' => false,
                b'}' => true,
                _ => return None,
            };
        }
        skipper.white_space();
        members.is_ascii = skipper.is_ascii();
        skipper.is_at_end().then_some(members)
    }

    /// Adds a member. Its name is raw: one that is not Unicode text may still be JSON, and is ignored.
    fn add(&mut self, name: &[u8], value: Range<usize>) {
        match name {
            // As nearly all names are: these need no unescaping.
            br#""key""# => self.key = Some(value),
            br#""event""# => self.event = Some(value),
            _ => match core::str::from_utf8(name).map(unescape).as_deref() {
                Ok(b"key") => self.key = Some(value),
                Ok(b"event") => self.event = Some(value),
                _ => {}
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::Members;

    /// Any JSON text, with white space, escapes and numbers in all their forms.
    pub(crate) fn json() -> impl Strategy<Value = String> {
        let space = "[ \t\r\n]{0,2}";
        let string = r#""([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,8}""#;
        let number = r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,5})?";
        let leaf = prop_oneof![
            Just("null".into()),
            Just("true".into()),
            Just("false".into()),
            string,
            number,
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            let elements = prop::collection::vec((space, inner.clone(), space), 0..4);
            let members = prop::collection::vec((string, space, inner), 0..4);
            prop_oneof![
                elements.prop_map(|elements| {
                    let parts: Vec<String> = elements
                        .iter()
                        .map(|(a, value, b)| format!("{a}{value}{b}"))
                        .collect();
                    format!("[{}]", parts.join(","))
                }),
                members.prop_map(|members| {
                    let parts: Vec<String> = members
                        .iter()
                        .map(|(name, a, value)| format!("{a}{name}:{a}{value}"))
                        .collect();
                    format!("{{{}}}", parts.join(","))
                }),
            ]
        })
    }

    /// The members of a put, by serde_json.
    #[derive(Deserialize)]
    struct Parsed<'body> {
        #[serde(borrow)]
        key: &'body RawValue,
        #[serde(borrow)]
        event: &'body RawValue,
    }

    /// Asserts that a text is skipped exactly if serde_json parses it, and that its members are the same, unless a member
    /// is missing or given twice, or a name is no Unicode text.
    fn assert_skipped_as_parsed(text: &str) {
        let skipped = Members::find(text.as_bytes());
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        assert_eq!(skipped.is_some(), is_json, "{text}");
        if let (Some(skipped), Ok(parsed)) = (skipped, serde_json::from_str::<Parsed<'_>>(text)) {
            let members = [parsed.key, parsed.event].map(|it| Some(it.get()));
            let skipped = [skipped.key, skipped.event].map(|it| it.and_then(|it| text.get(it)));
            assert_eq!(skipped, members, "{text}");
        }
    }

    proptest! {
        /// Of a valid body, and of one that a change has likely made invalid.
        #[test]
        fn skipped_members_are_those_that_serde_json_parses(
            event in json(),
            change in "[;'/x\"\\\\{}\\[\\]:,0-9.eEu\\- \n\u{1}\u{7f}ét]",
            at in any::<prop::sample::Index>(),
            replaces in any::<bool>(),
        ) {
            let body = format!(r#"{{"key":"k","event":{event}}}"#);
            assert_skipped_as_parsed(&body);
            let at = body.floor_char_boundary(at.index(body.len()));
            let end = if replaces { body.ceil_char_boundary(at + 1) } else { at };
            let changed = [&body[..at], &change, &body[end..]].concat();
            assert_skipped_as_parsed(&changed);
        }
    }
}
