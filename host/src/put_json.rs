//! A put as JSON text: `{"key":…,"event":…}`, as peers send it and as lines of NDJSON hold it.

/// The body of a `_put`, with the event byte for byte as it is.
pub(crate) fn put_body(key: &str, event: &str) -> String {
    let key = serde_json::to_string(key).expect("a string always serializes");
    ["{\"key\":", &key, ",\"event\":", event, "}"].concat()
}

/// A line of NDJSON with its end. Line breaks between the tokens of an event, the only ones that
/// JSON allows, become spaces: everything else stays as it is.
pub(crate) fn put_line(key: &str, event: &str) -> String {
    let mut line = put_body(key, event);
    if line.contains(['\n', '\r']) {
        line = line.replace(['\n', '\r'], " ");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::put_line;

    #[test]
    fn an_event_over_several_lines_is_one_line() {
        let line = put_line("a\"\n", "{\r\n \"b\": 1\n}");
        assert_eq!(line, "{\"key\":\"a\\\"\\n\",\"event\":{   \"b\": 1 }}\n");
    }
}
