//! Encodes a put as a line of NDJSON: `{"key":…,"event":…}`.

use alldata_peer_protocol::client::put_body;

/// A line of NDJSON with its line break. Line breaks between the tokens of the event become spaces; JSON
/// does not allow them elsewhere. Everything else is unchanged.
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
    fn event_of_several_lines_becomes_one_line() {
        let line = put_line("a\"\n", "{\r\n \"b\": 1\n}");
        assert_eq!(line, "{\"key\":\"a\\\"\\n\",\"event\":{   \"b\": 1 }}\n");
    }
}
