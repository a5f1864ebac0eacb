//! `Content-Encoding`: only `identity` is accepted, since an event is kept as it was sent.

use alloc::string::String;

/// The most characters of a coding that are repeated in a response.
const MAX_NAME_CHARS: usize = 32;

/// The first coding other than `identity` in these values of `Content-Encoding`, as it is repeated in a
/// response.
pub fn first_unsupported<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let codings = values
        .into_iter()
        .flat_map(|value| value.split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii);
    let other =
        codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))?;
    Some(printable(other))
}

/// The name of a coding as it is repeated in a response: bounded, and without characters that no coding has.
#[must_use]
pub fn printable(coding: &[u8]) -> String {
    let chars = coding.iter().take(MAX_NAME_CHARS).map(|byte| match byte {
        b'!'..=b'~' if *byte != b'"' => char::from(*byte),
        _ => '?',
    });
    chars.collect()
}

#[cfg(test)]
mod tests {
    use super::first_unsupported;

    #[test]
    fn identity_and_empty_are_supported() {
        for values in [
            &[][..],
            &[""],
            &["identity"],
            &[" Identity , ,identity"],
            &["", "IDENTITY"],
        ] {
            let values = values.iter().map(|value| value.as_bytes());
            assert_eq!(first_unsupported(values), None);
        }
    }

    #[test]
    fn first_unsupported_coding_is_printable_and_bounded() {
        for (values, coding) in [
            (&["gzip"][..], "gzip"),
            (&["identity, br"], "br"),
            (&["identity", "deflate, gzip"], "deflate"),
            (&["a\"b c\u{e4}"], "a?b?c??"),
        ] {
            let values = values.iter().map(|value| value.as_bytes());
            assert_eq!(first_unsupported(values).as_deref(), Some(coding));
        }
        let long = [b'x'; 100];
        assert_eq!(
            first_unsupported([&long[..]]).map(|coding| coding.len()),
            Some(32)
        );
    }
}
