//! A figure that was measured several times: its median and its range.

use std::fmt;

/// The median of some values, with their minimum and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self {
            median,
            least,
            greatest,
        })
    }

    /// The ratios of values that were measured in the same round. A disturbance of a whole round affects both,
    /// and not their ratio.
    pub(crate) fn of_ratios(values: &[f64], of: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = values
            .iter()
            .zip(of)
            .map(|(value, of)| value / of)
            .collect();
        Self::of(&ratios)
    }
}

/// With the precision of the format, two digits unless given: `7.1 (6.9–7.4)`.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = formatter.precision().unwrap_or(2);
        let Self {
            median,
            least,
            greatest,
        } = self;
        write!(
            formatter,
            "{median:.digits$} ({least:.digits$}–{greatest:.digits$})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn median_is_the_middle_value() {
        let spread = Spread::of(&[3.0, 10.0, 1.0]).expect("has values");
        assert_eq!(format!("{spread:.0}"), "3 (1–10)");
        let spread = Spread::of(&[4.0, 1.0, 2.0, 9.0]).expect("has values");
        assert_eq!(spread.median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let spread = Spread::of_ratios(&[2.0, 30.0, 8.0], &[1.0, 10.0, 2.0]);
        assert_eq!(
            format!("{:.1}", spread.expect("has values")),
            "3.0 (2.0–4.0)"
        );
    }
}
