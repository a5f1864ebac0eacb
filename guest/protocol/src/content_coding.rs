//! Content codings of a body, of which none is taken: an event is kept as it was sent.

use alloc::string::String;

/// How much of a name is told again, in characters.
const MAX_TOLD_CHARS: usize = 32;

/// The first coding other than `identity` that these values of `Content-Encoding` name, as it may be
/// told to a client.
pub fn first_other<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let codings = values
        .into_iter()
        .flat_map(|value| value.split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii);
    let other =
        codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))?;
    let told = other.iter().take(MAX_TOLD_CHARS).map(|byte| match byte {
        b'!'..=b'~' if *byte != b'"' => char::from(*byte),
        _ => '?',
    });
    Some(told.collect())
}

#[cfg(test)]
mod tests {
    use super::first_other;

    #[test]
    fn identity_and_nothing_are_no_coding() {
        for values in [
            &[][..],
            &[""],
            &["identity"],
            &[" Identity , ,identity"],
            &["", "IDENTITY"],
        ] {
            let values = values.iter().map(|value| value.as_bytes());
            assert_eq!(first_other(values), None);
        }
    }

    #[test]
    fn first_other_coding_is_told() {
        for (values, coding) in [
            (&["gzip"][..], "gzip"),
            (&["identity, br"], "br"),
            (&["identity", "deflate, gzip"], "deflate"),
            (&["a\"b c\u{e4}"], "a?b?c??"),
        ] {
            let values = values.iter().map(|value| value.as_bytes());
            assert_eq!(first_other(values).as_deref(), Some(coding));
        }
        let long = [b'x'; 100];
        assert_eq!(
            first_other([&long[..]]).map(|coding| coding.len()),
            Some(32)
        );
    }
}
