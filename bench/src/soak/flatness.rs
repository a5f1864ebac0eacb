//! Whether the resources of a server stay constant, within each of its lives and from life to life. Growth is
//! reported, and fails nothing.

use crate::soak::samples::{Sample, lives};
use crate::spread::Spread;

/// The warm-up of a life in seconds, in which caches and buffers fill.
pub(crate) const WARM_UP_SECONDS: f64 = 10.0;

/// The age in seconds up to which lives are compared with each other, all at the same age.
pub(crate) const COMPARED_UNTIL_SECONDS: f64 = 20.0;

/// The fewest samples for a median.
const MIN_SAMPLES: usize = 4;

/// The relative change of memory that still counts as flat.
const MEMORY_SLACK: f64 = 0.1;

/// The change in bytes that counts as flat in any case: memory that allocators keep.
const MEMORY_SLACK_BYTES: f64 = 4.0 * 1024.0 * 1024.0;

/// The change of open files that counts as flat: a connection that was lost at a kill is replaced.
const OPEN_FILES_SLACK: f64 = 2.0;

/// The change of threads that counts as flat: one for blocking calls comes and goes.
const THREADS_SLACK: f64 = 1.0;

/// The measures that have to stay flat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Memory,
    OpenFiles,
    Threads,
}

/// The change of a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    /// The life in which, or up to which, it happened.
    pub(crate) life: usize,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// How flat a measure was.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) measure: Measure,
    /// All values after the warm-up.
    pub(crate) values: Option<Spread>,
    /// From the first quarter of a life to its last, medians, in the life with the largest change.
    pub(crate) within: Option<Change>,
    /// From the first life to the last, medians at the same age.
    pub(crate) across: Option<Change>,
}

impl Measure {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::OpenFiles, Self::Threads];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "resident memory, MB",
            Self::OpenFiles => "open file descriptors",
            Self::Threads => "threads",
        }
    }

    /// Its value, in the unit of its name.
    pub(crate) fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Memory => sample.memory as f64 / 1e6,
            Self::OpenFiles => sample.open_files as f64,
            Self::Threads => sample.threads as f64,
        }
    }

    fn is_flat(self, change: Change) -> bool {
        let Change { from, to, .. } = change;
        match self {
            // A decrease is no fault.
            Self::Memory => to - from <= (from * MEMORY_SLACK).max(MEMORY_SLACK_BYTES / 1e6),
            Self::OpenFiles => (to - from).abs() <= OPEN_FILES_SLACK,
            Self::Threads => (to - from).abs() <= THREADS_SLACK,
        }
    }

    fn median<'a>(self, samples: impl IntoIterator<Item = &'a Sample>) -> Option<f64> {
        let values: Vec<f64> = samples.into_iter().map(|sample| self.of(sample)).collect();
        let spread = Spread::of(&values).filter(|_| values.len() >= MIN_SAMPLES);
        spread.map(|spread| spread.median)
    }

    fn within(self, life: &[Sample]) -> Option<Change> {
        let (_, warm) = life.split_at(life.partition_point(|it| it.life_seconds < WARM_UP_SECONDS));
        let quarter = warm.len() / 4;
        Some(Change {
            life: life.first()?.life,
            from: self.median(&warm[..quarter])?,
            to: self.median(&warm[warm.len() - quarter..])?,
        })
    }

    fn when_young(self, life: &[Sample]) -> Option<(usize, f64)> {
        let ages = WARM_UP_SECONDS..COMPARED_UNTIL_SECONDS;
        let young = life.iter().filter(|it| ages.contains(&it.life_seconds));
        Some((life.first()?.life, self.median(young)?))
    }
}

impl Verdict {
    pub(crate) fn of(measure: Measure, samples: &[Sample]) -> Self {
        let warm = samples
            .iter()
            .filter(|it| it.life_seconds >= WARM_UP_SECONDS);
        let values: Vec<f64> = warm.map(|sample| measure.of(sample)).collect();
        let changes = lives(samples).filter_map(|life| measure.within(life));
        let size = |change: &Change| (change.to - change.from).abs();
        let young: Vec<_> = lives(samples)
            .filter_map(|life| measure.when_young(life))
            .collect();
        let across = match young[..] {
            [(_, from), .., (life, to)] => Some(Change { life, from, to }),
            _ => None,
        };
        Self {
            measure,
            values: Spread::of(&values),
            within: changes.max_by(|one, other| size(one).total_cmp(&size(other))),
            across,
        }
    }

    /// `None` if there were too few samples.
    pub(crate) fn is_flat(&self) -> Option<bool> {
        let mut changes = self.within.iter().chain(&self.across).copied().peekable();
        changes.peek()?;
        Some(changes.all(|change| self.measure.is_flat(change)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Measure, Verdict};
    use crate::soak::samples::Sample;
    use crate::soak::samples::tests::sample;

    /// A life with a sample each second, whose memory and files follow from its age.
    fn life(number: usize, memory: impl Fn(u64) -> u64, files: impl Fn(u64) -> u64) -> Vec<Sample> {
        let ages = 1..60;
        ages.map(|age| sample(number, age as f64, memory(age), files(age)))
            .collect()
    }

    fn is_flat(measure: Measure, lives: &[Vec<Sample>]) -> Option<bool> {
        Verdict::of(measure, &lives.concat()).is_flat()
    }

    #[test]
    fn growth_during_warm_up_is_flat() {
        let one = life(1, |age| age.min(10) * 10_000_000, |_| 70);
        for measure in Measure::ALL {
            assert_eq!(is_flat(measure, std::slice::from_ref(&one)), Some(true));
        }
    }

    #[test]
    fn growth_within_a_life_is_not_flat() {
        let even = life(1, |_| 50_000_000, |_| 70);
        let leaks = life(2, |age| 50_000_000 + age * 200_000, |age| 70 + age / 10);
        let lives = [even, leaks];
        assert_eq!(is_flat(Measure::Memory, &lives), Some(false));
        assert_eq!(is_flat(Measure::OpenFiles, &lives), Some(false));
        assert_eq!(is_flat(Measure::Threads, &lives), Some(true));
    }

    #[test]
    fn growth_from_life_to_life_is_not_flat() {
        let lives = [70, 71, 73].map(|files| {
            let number = files as usize;
            life(number, |_| files * 1_000_000, |_| files)
        });
        let verdict = Verdict::of(Measure::OpenFiles, &lives.concat());
        assert_eq!(verdict.is_flat(), Some(false));
        let across = verdict.across.expect("there are three lives");
        assert_eq!((across.from, across.to), (70.0, 73.0));
        assert_eq!(is_flat(Measure::Memory, &lives), Some(true));
    }

    #[test]
    fn less_memory_is_flat() {
        let lives = [life(1, |age| 90_000_000 - age * 1_000_000, |_| 70)];
        assert_eq!(is_flat(Measure::Memory, &lives), Some(true));
    }

    #[test]
    fn short_life_is_not_judged() {
        let mut short = life(1, |_| 50_000_000, |_| 70);
        short.truncate(12);
        assert_eq!(is_flat(Measure::Memory, &[short]), None);
    }
}
