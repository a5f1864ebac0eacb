//! Numbers of bytes and times on the command line: `16M`, `90s`, or a number without a unit.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::TypedValueParser;

/// What a time is called in the help.
pub(crate) const TIME: &str = "TIME";

/// The longest time-out: an hour, after which nobody waits any more.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// The shortest time-out.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The units of bytes in capital letters, the largest first. They are powers of 1024, as in nginx and systemd.
/// `KB` and `MB` are refused: for some they are powers of 1000.
const BYTE_UNITS: [(&[&str], u64); 4] = [
    (&["G", "GIB"], 1 << 30),
    (&["M", "MIB"], 1 << 20),
    (&["K", "KIB"], 1 << 10),
    (&["", "B"], 1),
];

/// A number of bytes on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// In the largest unit that it is a whole number of.
impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        let is_whole = |(_, factor): &&(_, u64)| *bytes >= *factor && bytes.is_multiple_of(*factor);
        match BYTE_UNITS.iter().find(is_whole) {
            Some((names, factor)) => write!(formatter, "{}{}", bytes / factor, names[0]),
            None => write!(formatter, "{bytes}"),
        }
    }
}

/// A time-out on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout(pub(crate) Duration);

/// In seconds, since all defaults are whole ones.
impl fmt::Display for Timeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0.as_secs())
    }
}

/// Parses a number of bytes within a range.
pub(crate) fn bytes(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = Bytes> {
    move |text: &str| {
        let bytes = parse_bytes(text)
            .ok_or("not a number of bytes such as 4096, 64K, 16M or 1G (powers of 1024)")?;
        if range.contains(&bytes) {
            Ok(Bytes(bytes))
        } else {
            let (least, most) = (Bytes(*range.start()), Bytes(*range.end()));
            Err(format!("{} is not in {least}..={most}", Bytes(bytes)))
        }
    }
}

/// Parses a time-out.
pub(crate) fn timeout() -> impl TypedValueParser<Value = Timeout> {
    |text: &str| {
        let time = parse_time(text).ok_or("not a time such as 30, 1500ms, 90s, 5m or 1h")?;
        if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&time) {
            Ok(Timeout(time))
        } else {
            Err(format!(
                "{time:?} is not in {MIN_TIMEOUT:?}..={MAX_TIMEOUT:?}"
            ))
        }
    }
}

/// Whether two values of a flag are the same time, or the same number of bytes or of anything else.
pub(crate) fn are_same(left: &str, right: &str, is_time: bool) -> bool {
    if is_time {
        parse_time(left) == parse_time(right)
    } else {
        parse_bytes(left) == parse_bytes(right)
    }
}

/// A number of bytes, with a unit or without.
fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.to_ascii_uppercase();
    let (_, factor) = BYTE_UNITS
        .iter()
        .find(|(names, _)| names.contains(&&*unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A time with units, or a number of seconds.
fn parse_time(text: &str) -> Option<Duration> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Bytes, parse_bytes, parse_time};

    #[test]
    fn numbers_have_units_of_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64K", 65_536),
            ("64k", 65_536),
            ("64KiB", 65_536),
            ("16M", 16 << 20),
            ("16MiB", 16 << 20),
            ("3G", 3 << 30),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1.5M",
            "16 M",
            "16KB",
            "16MB",
            "1T",
            "1e3",
            "99999999999G",
            "١",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_displayed_in_largest_whole_unit() {
        for (bytes, text) in [
            (0, "0"),
            (256, "256"),
            (1025, "1025"),
            (32 << 10, "32K"),
            (1536 << 10, "1536K"),
            (16 << 20, "16M"),
            (1 << 30, "1G"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
            assert_eq!(parse_bytes(text), Some(bytes));
        }
    }

    #[test]
    fn numbers_have_units_of_time() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("1500ms", 1500),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(parse_time(text), Some(time), "{text}");
        }
        for text in ["", "s", "-1s", "30S", "30 seconds ago", "١"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
