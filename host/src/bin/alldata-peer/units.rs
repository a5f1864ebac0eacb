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

/// The units of bytes, each with what stands for it in capital letters. They are powers of 1024, as nginx
/// and systemd have them.
const BYTE_UNITS: [(&[&str], u64); 4] = [
    (&["", "B"], 1),
    (&["K", "KIB"], 1 << 10),
    (&["M", "MIB"], 1 << 20),
    (&["G", "GIB"], 1 << 30),
];

/// The units of time in milliseconds.
const TIME_UNITS: [(&[&str], u64); 4] = [
    (&["MS"], 1),
    (&["", "S"], 1000),
    (&["M", "MIN"], 60 * 1000),
    (&["H"], 60 * 60 * 1000),
];

/// A time-out as it stands on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeout(pub(crate) Duration);

/// What defaults are shown as, which are whole seconds.
impl fmt::Display for Timeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.0.as_secs())
    }
}

/// Parses a number of bytes within a range.
pub(crate) fn bytes<T>(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<u64> + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let bytes =
            parse(text, &BYTE_UNITS).ok_or("not a number of bytes such as 4096, 64K, 16M or 1G")?;
        let outside = || format!("{bytes} is not in {}..={}", range.start(), range.end());
        if !range.contains(&bytes) {
            return Err(outside());
        }
        T::try_from(bytes).map_err(|_too_large| outside())
    }
}

/// Parses a time-out.
pub(crate) fn timeout() -> impl TypedValueParser<Value = Timeout> {
    |text: &str| {
        let milliseconds =
            parse(text, &TIME_UNITS).ok_or("not a time such as 30, 1500ms, 90s, 5m or 1h")?;
        let time = Duration::from_millis(milliseconds);
        match (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&time) {
            true => Ok(Timeout(time)),
            false => Err(format!(
                "{time:?} is not in {MIN_TIMEOUT:?}..={MAX_TIMEOUT:?}"
            )),
        }
    }
}

/// Whether two values of a flag are the same time, or the same number of bytes or of anything else.
pub(crate) fn are_same(left: &str, right: &str, is_time: bool) -> bool {
    let units = match is_time {
        true => &TIME_UNITS,
        false => &BYTE_UNITS,
    };
    parse(left, units) == parse(right, units)
}

/// A number with one of these units, in the smallest.
fn parse(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let end = text.find(|char: char| !char.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.to_ascii_uppercase();
    let (_, factor) = units.iter().find(|(names, _)| names.contains(&&*unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::{BYTE_UNITS, TIME_UNITS, parse};

    #[test]
    fn numbers_have_units_of_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64K", 65_536),
            ("64k", 65_536),
            ("16M", 16 << 20),
            ("16MiB", 16 << 20),
            ("3G", 3 << 30),
        ] {
            assert_eq!(parse(text, &BYTE_UNITS), Some(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1.5M",
            "16 M",
            "16MB",
            "1T",
            "1e3",
            "99999999999G",
            "١",
        ] {
            assert_eq!(parse(text, &BYTE_UNITS), None, "{text}");
        }
    }

    #[test]
    fn numbers_have_units_of_time() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("1500ms", 1500),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text, &TIME_UNITS), Some(milliseconds), "{text}");
        }
        for text in ["", "s", "1d", "1.5s", "1m30s", "-1s"] {
            assert_eq!(parse(text, &TIME_UNITS), None, "{text}");
        }
    }
}
